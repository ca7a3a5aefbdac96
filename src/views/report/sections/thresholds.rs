//! The thresholds of every method and their scores.

use serde::Serialize;

use crate::{
    config::Method,
    data::labels::{CLASSES, NAMES},
    views::report::scored_run::ScoredRun,
};

#[derive(Serialize)]
pub struct ThresholdTables {
    methods: Vec<MethodRow>,
    classes: Vec<ClassRow>,
}

#[derive(Serialize)]
struct MethodRow {
    name: Method,
    /// Macro F1, 0 to 1.
    cross_fitted: f64,
    in_sample: f64,
    /// Whether the submission uses it.
    used: bool,
}

#[derive(Serialize)]
struct ClassRow {
    name: &'static str,
    positives: u64,
    /// Thresholds in the order of the methods.
    thresholds: Vec<f32>,
}

impl ThresholdTables {
    pub fn of(scored: &ScoredRun) -> Self {
        let methods = scored.methods.iter().enumerate().map(|(i, m)| MethodRow {
            name: m.method,
            cross_fitted: m.cross_fitted,
            in_sample: m.in_sample,
            used: i == scored.used,
        });
        let class = |c: usize| ClassRow {
            name: NAMES[c],
            positives: scored.counts[c].positives(),
            thresholds: scored.methods.iter().map(|m| m.values[c]).collect(),
        };
        Self { methods: methods.collect(), classes: (0..CLASSES).map(class).collect() }
    }
}
