//! The steps of the pipeline.

use serde::Serialize;
use strum::{Display, EnumString};

/// A step, in the order in which they are done. Its name (`fetch_kaggle`) is the one in the task
/// logs, in `atlas status` and in the job names of `slurm/pipeline.sh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[derive(Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Step {
    FetchKaggle,
    FetchExternal,
    Plan,
    Preprocess,
    /// In an array job, the search for pairs of near-duplicates; else `Merge`, too.
    Dedup,
    /// The decision about all pairs that the tasks of `Dedup` found.
    Merge,
    Split,
    Train,
    Predict,
    Submit,
    /// Only in `atlas run`; it keeps no task log.
    Report,
}
