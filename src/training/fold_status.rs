//! Which folds of a run are trained, and whether on the current data.

use super::{
    checkpoint::{Checkpoint, CheckpointFolder},
    fold_data::FoldData,
    run_folder::Run,
};
use crate::{
    base::Result,
    config::Config,
    data::work_folder::WorkFolder,
    scoring::{prediction_file::Predictions, prediction_freshness},
};

/// How far the training of a fold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldStatus {
    /// Not started, interrupted, or its predictions are missing or made with other `predict` keys.
    ToDo,
    Done,
    /// Started or finished on other data than the current shards and folds.csv.
    Stale,
}

/// Reads the weights and checkpoints of every fold.
pub fn fold_statuses(config: &Config, work: &WorkFolder, run: &Run) -> Result<Vec<FoldStatus>> {
    (0..config.split.folds).map(|fold| fold_status(config, work, run, fold)).collect()
}

/// Reads the weights and checkpoints of a fold.
pub fn fold_status(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    fold: usize,
) -> Result<FoldStatus> {
    let checkpoint = match Checkpoint::read(&run.weights(fold, config.train.keep)) {
        Ok(weights) => Some(weights),
        Err(_) => CheckpointFolder::of(&run.fold(fold)).newest()?,
    };
    let data = || FoldData::open(work, &config.split, config.train.max_samples, fold);
    Ok(match checkpoint {
        Some(checkpoint) if checkpoint.state.data != data()?.hash => FoldStatus::Stale,
        Some(_) if has_predictions(config, run, fold) => FoldStatus::Done,
        _ => FoldStatus::ToDo,
    })
}

/// Whether the out-of-fold predictions exist and were made with the current weights and settings.
pub fn has_predictions(config: &Config, run: &Run, fold: usize) -> bool {
    let Config { predict, augment, train, .. } = config;
    let (path, weights) = (run.validation(fold), run.weights(fold, train.keep));
    path.exists()
        && prediction_freshness::source(predict, augment, train.precision, &[weights])
            .is_ok_and(|source| Predictions::is_fresh(&path, source))
}
