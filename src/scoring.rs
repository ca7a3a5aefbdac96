//! Scores and thresholds.
//!
//! In: probabilities `[n, 28]` and true labels, from this program's HDF5 files or from files of
//! other programs. Out: F1 and average precision, thresholds fitted per class, submission files,
//! charts of the scores.
//!
//! Read first: [`metrics`], then [`thresholds`]; [`prediction_freshness`] defines when stored
//! predictions are stale; [`foreign_predictions`] reads HDF5 files of other programs in a process
//! with limits.

pub mod evaluation;
pub mod foreign_predictions;
pub mod metrics;
pub mod prediction_file;
pub mod prediction_freshness;
pub mod score_chart;
pub mod submission_csv;
pub mod svg;
pub mod thresholds;
