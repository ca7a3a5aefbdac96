//! Which folds of a run are trained, and whether on the current data.

use std::path::PathBuf;

use super::{
    checkpoint::{Checkpoint, CheckpointFolder},
    fold_data::FoldData,
    run_folder::Run,
};
use crate::{
    base::Result,
    config::{Config, Keep},
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
    let checkpoint = match Checkpoint::read(&weights_path(config, run, fold)) {
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
    let path = run.validation(fold);
    path.exists()
        && prediction_freshness::source(config, &[weights_path(config, run, fold)])
            .is_ok_and(|source| Predictions::is_fresh(&path, source))
}

/// The weights of a fold that validation and prediction use.
pub fn weights_path(config: &Config, run: &Run, fold: usize) -> PathBuf {
    let folder = CheckpointFolder::of(&run.fold(fold));
    match config.train.keep {
        Keep::Best => folder.best(),
        Keep::Last => folder.last(),
    }
}
