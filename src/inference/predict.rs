//! Predicts the test set with the networks of all finished folds: one file of mean probabilities
//! per test shard. [`folder`] predicts a folder of the user's own images.

pub mod folder;

use std::{ops::Range, path::PathBuf};

use ndarray::Array2;
use tch::Device;

use crate::{
    base::{Result, progress::Progress, stop_request::Stop},
    config::{Config, Keep, Train},
    data::{
        labels::CLASSES,
        manifest::Part,
        shard::{Reader, Store},
        work_folder::WorkFolder,
    },
    distributed::device,
    network::predictor::sigmoid,
    scoring::{prediction_file::Predictions, prediction_freshness},
    training::{fold_weights, run_folder::Run, trained_network::TrainedNetwork},
};

/// The prediction file of one test shard.
pub struct ShardPredictions {
    /// `results/<run>/predictions/test-NNNNN.h5`
    pub path: PathBuf,
    /// Indices into the store of the test part.
    pub samples: Range<usize>,
    /// The hash of what it has to be made from.
    source: u64,
}

impl ShardPredictions {
    /// Whether the file exists, is intact, and was made from the current weights, settings and
    /// images.
    pub fn is_fresh(&self) -> bool {
        Predictions::is_fresh(&self.path, self.source)
    }
}

/// The prediction files of a run with its finished folds, one for each test shard in order.
///
/// # Errors
/// Usage where no fold is finished; data where weights are gone, or were copied from another fold
/// or run.
pub fn files(config: &Config, run: &Run, store: &Store) -> Result<Vec<ShardPredictions>> {
    let Config { predict, augment, train, .. } = config;
    let weights = weights(run, train.keep)?;
    let networks = prediction_freshness::source(predict, augment, train.precision, &weights)?;
    let mut at = 0;
    let file = |shard: &Reader| {
        let samples = at..at + shard.len();
        at = samples.end;
        let name = shard.path().file_name().unwrap_or_default();
        ShardPredictions {
            path: run.folder.join("predictions").join(name),
            samples,
            source: prediction_freshness::shard_source(networks, shard),
        }
    };
    Ok(store.shards().iter().map(file).collect())
}

/// # Errors
/// Those of [`fold_weights::of_fold`].
fn weights(run: &Run, keep: Keep) -> Result<Vec<PathBuf>> {
    run.finished_folds()?.into_iter().map(|k| fold_weights::of_fold(run, k, keep)).collect()
}

/// The networks of all finished folds of a run with `folds`.
///
/// # Errors
/// Usage where no fold is finished; data where a checkpoint is damaged.
pub fn networks(
    run: &Run,
    folds: usize,
    train: &Train,
    device: Device,
) -> Result<Vec<TrainedNetwork>> {
    let weights = weights(run, train.keep)?;
    if weights.len() < folds {
        log::warn!(
            "only {} of {folds} folds are finished: the predictions are the mean of these alone",
            weights.len()
        );
    }
    weights.iter().map(|path| TrainedNetwork::from_checkpoint(path, train, device)).collect()
}

/// How many prediction files [`predict`] wrote and how many were already up to date.
pub struct PredictOutcome {
    pub made: usize,
    pub fresh: usize,
}

/// Predicts test shards `task`, `task + tasks`, ... with the networks of all finished folds of the
/// run, except those whose predictions are fresh.
///
/// # Errors
/// [`Error::Stopped`](crate::base::Error::Stopped) after `stop`; the files written until then stay.
pub fn predict(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    task: usize,
    tasks: usize,
    stop: &Stop,
) -> Result<PredictOutcome> {
    let device = device::choose(config.comm.backend, 0)?;
    device::set_up_cpu(config.threads())?;
    let store = work.store(Part::Test)?;
    let mine: Vec<ShardPredictions> =
        files(config, run, store)?.into_iter().skip(task).step_by(tasks.max(1)).collect();
    let (fresh, todo): (Vec<_>, Vec<_>) = mine.into_iter().partition(ShardPredictions::is_fresh);
    if todo.is_empty() {
        return Ok(PredictOutcome { made: 0, fresh: fresh.len() });
    }
    let networks = networks(run, config.split.folds, &config.train, device)?;
    let total: usize = todo.iter().map(|f| f.samples.len()).sum();
    let progress = Progress::new("predict", "samples", (total * networks.len()) as u64);
    for file in &todo {
        let samples: Vec<usize> = file.samples.clone().collect();
        let mut probabilities = Array2::zeros((samples.len(), CLASSES));
        for network in &networks {
            let predictor =
                network.predictor(&config.augment, &config.predict, config.threads(), stop);
            let of_fold = predictor
                .logits(store, &samples, config.predict.tta, Some(&progress))?
                .mapv(sigmoid);
            probabilities += &(of_fold / networks.len() as f32);
        }
        let ids = samples.iter().map(|&i| store.id(i).to_string()).collect();
        Predictions { ids, probabilities }.write(&file.path, file.source)?;
    }
    Ok(PredictOutcome { made: todo.len(), fresh: fresh.len() })
}
