//! Predictions and submissions of trained networks.
//!
//! In: checkpoints of the finished folds of a run, or one exported weight file; shards of the test
//! set, or a folder of the user's own images. Out: prediction files per test shard, tables of
//! predictions, thresholds with their scores, submission files; for other modules, activation maps
//! and embeddings.
//!
//! Read first: [`predict`], then [`submit`]; [`finished_run`] reads back what both and training
//! wrote.

pub mod ensemble;
pub mod finished_run;
pub mod grad_cam;
pub mod predict;
pub mod submit;
