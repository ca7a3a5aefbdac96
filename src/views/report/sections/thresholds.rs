//! The thresholds of every method and their scores.

use serde::Serialize;

use crate::{
    data::labels::{CLASSES, NAMES},
    inference::finished_run::FittedThresholds,
    views::report::scored_run::ScoredRun,
};

#[derive(Serialize)]
pub struct ThresholdTables<'a> {
    methods: Vec<MethodRow<'a>>,
    classes: Vec<ClassRow>,
}

#[derive(Serialize)]
struct MethodRow<'a> {
    #[serde(flatten)]
    fitted: &'a FittedThresholds,
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

impl<'a> ThresholdTables<'a> {
    pub fn of(scored: &'a ScoredRun) -> Self {
        let methods = scored.methods.iter().enumerate();
        let methods = methods.map(|(i, fitted)| MethodRow { fitted, used: i == scored.used });
        let class = |c: usize| ClassRow {
            name: NAMES[c],
            positives: scored.counts[c].positives(),
            thresholds: scored.methods.iter().map(|m| m.values[c]).collect(),
        };
        Self { methods: methods.collect(), classes: (0..CLASSES).map(class).collect() }
    }
}
