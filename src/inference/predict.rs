//! The test set through the networks of all finished folds: one file of mean probabilities per test
//! shard. And a [`folder`] of someone's own pictures.

pub mod folder;

use std::{ops::Range, path::PathBuf};

use ndarray::Array2;
use tch::Device;

use crate::{
    base::{Result, checksum, progress::Progress, stop::Stop},
    config::Config,
    data::{
        labels::CLASSES,
        manifest::Part,
        shard::{Reader, Store},
        work_folder::WorkFolder,
    },
    distributed::device,
    network::predictor::{self, Trained, sigmoid},
    scoring::prediction_file::Predictions,
    training::{run_folder::Run, train::weights_path},
};

/// The predictions of one test shard.
pub struct File {
    /// `results/<run>/predictions/test-NNNNN.h5`
    pub path: PathBuf,
    /// Places in the store of the test part.
    pub samples: Range<usize>,
    /// Of the weights, settings and images that it has to be made with.
    source: u64,
}

impl File {
    /// Whether it is there, whole, and made with the weights, settings and images at hand.
    pub fn is_fresh(&self) -> bool {
        Predictions::is_fresh(&self.path, self.source)
    }
}

/// The files that belong to a run and its finished folds, by test shard.
///
/// # Errors
/// Usage where no fold is finished.
pub fn files(config: &Config, run: &Run, store: &Store) -> Result<Vec<File>> {
    let made_with = predictor::source(config, &weights(config, run)?)?;
    let mut at = 0;
    let file = |shard: &Reader| {
        let samples = at..at + shard.len();
        at = samples.end;
        let name = shard.path().file_name().unwrap_or_default();
        let images: Vec<u8> = shard.checksums().iter().flat_map(|s| s.to_le_bytes()).collect();
        let ids = shard.ids().iter().map(String::as_bytes);
        let source =
            checksum::of_parts([&made_with.to_le_bytes()[..], &images].into_iter().chain(ids));
        File { path: run.folder.join("predictions").join(name), samples, source }
    };
    Ok(store.shards().iter().map(file).collect())
}

fn weights(config: &Config, run: &Run) -> Result<Vec<PathBuf>> {
    let folds = run.finished_folds()?;
    Ok(folds.iter().map(|&k| weights_path(config, run, k)).collect())
}

/// The networks of all finished folds.
///
/// # Errors
/// Usage where no fold is finished; data where a checkpoint is damaged.
pub fn networks(config: &Config, run: &Run, device: Device) -> Result<Vec<Trained>> {
    let weights = weights(config, run)?;
    if weights.len() < config.split.folds {
        log::warn!(
            "only {} of {} folds are finished: the answer is theirs alone",
            weights.len(),
            config.split.folds
        );
    }
    weights.iter().map(|path| predictor::load(path, config, device)).collect()
}

/// Predicts test shards `task`, `task + tasks`, ... with every finished fold of the run; a file
/// that is there and fresh is left as it is. Returns the numbers of files made and left.
///
/// # Errors
/// [`Error::Stopped`](crate::base::Error::Stopped) after `stop`; the files made until then stay.
pub fn predict(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    task: usize,
    tasks: usize,
    stop: &Stop,
) -> Result<(usize, usize)> {
    let device = device::choose(config.comm.backend, 0)?;
    device::set_up_cpu(config.threads());
    let store = work.store(Part::Test)?;
    let mine: Vec<File> =
        files(config, run, store)?.into_iter().skip(task).step_by(tasks.max(1)).collect();
    let (left, todo): (Vec<_>, Vec<_>) = mine.into_iter().partition(File::is_fresh);
    if todo.is_empty() {
        return Ok((0, left.len()));
    }
    let networks = networks(config, run, device)?;
    let total: usize = todo.iter().map(|f| f.samples.len()).sum();
    let progress = Progress::new("predict", "samples", (total * networks.len()) as u64);
    for file in &todo {
        let samples: Vec<usize> = file.samples.clone().collect();
        let mut probabilities = Array2::zeros((samples.len(), CLASSES));
        for network in &networks {
            let predictor = network.predictor(config, stop);
            let of_fold = predictor
                .logits(store, &samples, config.predict.tta, Some(&progress))?
                .mapv(sigmoid);
            probabilities += &(of_fold / networks.len() as f32);
        }
        let ids = samples.iter().map(|&i| store.id(i).to_string()).collect();
        Predictions { ids, probabilities }.write(&file.path, file.source)?;
    }
    Ok((todo.len(), left.len()))
}
