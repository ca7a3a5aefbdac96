//! Which folds of a run are trained, and whether on the current data.

use std::path::Path;

use super::{
    checkpoint::{Checkpoint, CheckpointFolder},
    fold_data::FoldData,
    fold_weights,
    history::HISTORY,
    run_folder::Run,
};
use crate::{
    base::{Error, Result},
    config::Config,
    data::work_folder::WorkFolder,
    scoring::{prediction_file::Predictions, prediction_freshness},
};

/// How far the training of a fold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldStatus {
    /// Not started, interrupted, or its predictions are missing or made with other `predict` keys;
    /// or the history or the last weights are missing and can be written again.
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
///
/// # Errors
/// Data where they are damaged, or were copied from another fold or run.
pub fn fold_status(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    fold: usize,
) -> Result<FoldStatus> {
    let path = run.weights(fold, config.train.keep);
    let checkpoint = match Checkpoint::read(&path) {
        Ok(weights) => match fold_weights::unlike(&weights.state, run, fold)? {
            None => Some(weights),
            Some(what) => return Err(Error::data(path, fold_weights::advised(&what, run, fold))),
        },
        Err(_) => CheckpointFolder::of(&run.fold(fold)).newest()?,
    };
    let data = || FoldData::open(work, &config.split, config.train.max_samples, fold);
    Ok(match checkpoint {
        Some(checkpoint) if checkpoint.state.data != data()?.hash => FoldStatus::Stale,
        Some(_) if has_predictions(config, run, fold) && !lacks_files(&run.fold(fold)) => {
            FoldStatus::Done
        }
        _ => FoldStatus::ToDo,
    })
}

/// Whether something beside the best weights is missing that the checkpoints of a `fold` can give.
fn lacks_files(fold: &Path) -> bool {
    let checkpoints = CheckpointFolder::of(fold);
    checkpoints.is_begun() && !(checkpoints.last().exists() && fold.join(HISTORY).exists())
}

/// Whether the out-of-fold predictions exist and were made with the current weights and settings.
pub fn has_predictions(config: &Config, run: &Run, fold: usize) -> bool {
    let Config { predict, augment, train, .. } = config;
    let (path, weights) = (run.validation(fold), run.weights(fold, train.keep));
    path.exists()
        && prediction_freshness::source(predict, augment, train.precision, &[weights])
            .is_ok_and(|source| Predictions::is_fresh(&path, source))
}
