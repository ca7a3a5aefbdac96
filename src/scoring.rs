//! TODO

pub mod evaluation;
pub mod metrics;
pub mod prediction_file;
pub mod prediction_freshness;
pub mod score_chart;
pub mod submission_csv;
pub mod thresholds;
