//! The reliability diagram.

use serde::Serialize;

use crate::{
    base::Result,
    data::labels::CLASSES,
    views::report::{
        charts::{self, Axes, Line},
        reliability::Bin,
        scored_run::ScoredRun,
    },
};

#[derive(Serialize)]
pub struct Calibration {
    /// Expected calibration error over all classes, and the mean of the classes' own errors.
    error: f64,
    mean_class_error: f64,
    svg: String,
    /// Those with samples.
    bins: Vec<Bin>,
}

impl Calibration {
    pub fn of(scored: &ScoredRun) -> Result<Self> {
        let error = scored.reliability.error;
        let bins: Vec<Bin> =
            scored.reliability.bins.iter().filter(|b| b.count > 0).copied().collect();
        let label = format!(
            "How often what is predicted with a probability is true, calibration error {error:.4}"
        );
        let axes = Axes {
            x_range: Some(0.0..1.0),
            y_range: Some(0.0..1.0),
            ..Axes::new(&label, "mean probability", "share that is true")
        };
        let points = bins.iter().map(|b| (b.predicted, b.observed)).collect();
        let lines = [
            Line { points: vec![(0.0, 0.0), (1.0, 1.0)], colour: 1, dashed: true },
            Line { points, colour: 0, dashed: false },
        ];
        let mean_class_error = scored.class_errors.iter().sum::<f64>() / CLASSES as f64;
        Ok(Self { error, mean_class_error, svg: charts::lines(&axes, &lines)?, bins })
    }
}
