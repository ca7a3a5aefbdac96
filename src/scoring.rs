//! TODO

pub mod metrics;
pub mod plot;
pub mod prediction_file;
pub mod submission_csv;
pub mod thresholds;
