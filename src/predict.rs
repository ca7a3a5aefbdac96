//! The test set through the networks of all finished folds: one file of mean probabilities per test shard.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ndarray::Array2;

use crate::{
    artefact,
    config::Config,
    error::{Error, Result},
    infer::{self, Predictor, sigmoid},
    labels::CLASSES,
    manifest::Part,
    predictions::Predictions,
    progress::Progress,
    results::Run,
    shard::Store,
    train::weights_path,
};

/// Where the predictions of a test shard lie: `results/<run>/predictions/test-NNNNN.h5`.
pub fn path(run: &Run, shard: &Path) -> PathBuf {
    run.folder.join("predictions").join(shard.file_name().unwrap_or_default())
}

/// Predicts test shards `task`, `task + tasks`, ... with every finished fold of the run; a file that was made with the
/// same weights and shard is left as it is. Returns the numbers of files made and left.
pub fn predict(config: &Config, run: &Run, task: usize, tasks: usize) -> Result<(usize, usize)> {
    tch::set_num_threads(config.threads() as i32);
    let folds = run.finished_folds()?;
    if folds.is_empty() {
        return Err(Error::usage(format!("no fold of the run {} is finished; run `atlas train` first", run.folder.display())));
    }
    if folds.len() < config.split.folds {
        log::warn!("only {} of {} folds are finished: predicting with {folds:?}", folds.len(), config.split.folds);
    }
    let weights: Vec<PathBuf> = folds.iter().map(|&k| weights_path(config, run, k)).collect();
    let sums = weights.iter().map(|w| artefact::checksum_file(w)).collect::<Result<Vec<_>>>()?;
    let settings = format!("{:?} {:?} {:?}", config.predict, config.augment, config.train.precision);
    let store = Arc::new(Store::open(&config.paths.work, Part::Test)?);
    let (mut todo, mut left, mut at) = (Vec::new(), 0, 0);
    for (number, shard) in store.shards().iter().enumerate() {
        let samples: Vec<usize> = (at..at + shard.len()).collect();
        at += shard.len();
        if number % tasks.max(1) != task {
            continue;
        }
        let shard = shard.path().to_path_buf();
        let mut parts: Vec<Vec<u8>> = sums.iter().map(|s| s.to_le_bytes().to_vec()).collect();
        parts.push(settings.clone().into_bytes());
        parts.push(artefact::checksum_file(&shard)?.to_le_bytes().to_vec());
        let source = artefact::checksum_parts(parts.iter().map(Vec::as_slice));
        if Predictions::is_fresh(&path(run, &shard), source) {
            left += 1;
        } else {
            todo.push((samples, shard, source));
        }
    }
    let total: usize = todo.iter().map(|(samples, ..)| samples.len()).sum();
    let progress = Progress::new("predict", "samples", (total * folds.len()) as u64);
    let mut means: Vec<Array2<f32>> = todo.iter().map(|(s, ..)| Array2::zeros((s.len(), CLASSES))).collect();
    for file in &weights {
        if todo.is_empty() {
            break;
        }
        let (network, normalization) = infer::load(file, config)?;
        let predictor = Predictor { network: &network, normalization: &normalization, config };
        for ((samples, ..), mean) in todo.iter().zip(&mut means) {
            let probabilities = predictor.logits(&store, samples, config.predict.tta, Some(&progress))?.mapv(sigmoid);
            *mean += &(probabilities / folds.len() as f32);
        }
    }
    for ((samples, shard, source), probabilities) in todo.iter().zip(means) {
        let ids = samples.iter().map(|&i| store.id(i).to_string()).collect();
        Predictions { ids, probabilities }.write(&path(run, shard), *source)?;
    }
    Ok((todo.len(), left))
}
