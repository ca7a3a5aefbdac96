//! Several runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    base::Result,
    config::Method,
    data::labels::{CLASSES, NAMES},
    views::report::{
        bootstrap::Interval,
        charts::{self, Axes, COLOURS, Line},
        cost::Cost,
        fold_epochs::FoldEpochs,
        scored_run::ScoredRun,
    },
};

/// A run with the epochs of its folds.
type RunWithEpochs = (ScoredRun, Vec<FoldEpochs>);

#[derive(Serialize)]
pub struct Comparison {
    runs: Vec<RunRow>,
    /// SVG: macro F1 by epoch.
    svg: String,
    classes: Vec<ClassRow>,
    differing_keys: Vec<KeyRow>,
}

#[derive(Serialize)]
struct RunRow {
    name: String,
    colour: &'static str,
    score: f64,
    /// Over the classes present.
    score_present: f64,
    interval: Interval,
    /// To the first run; `None` for that run and where the samples or groups are others.
    difference: Option<Difference>,
    map: f64,
    calibration_error: f64,
    method: Method,
    folds: usize,
    samples: usize,
    core_hours: f64,
    gpu_hours: f64,
}

/// Of the macro F1 of two runs, on the same resamples.
#[derive(Serialize)]
struct Difference {
    value: f64,
    interval: Interval,
}

#[derive(Serialize)]
struct ClassRow {
    name: &'static str,
    /// By run.
    f1: Vec<f64>,
    /// By run, whether it has the highest F1, and another run a lower one.
    best: Vec<bool>,
}

/// A configuration key with its value in each run.
#[derive(Serialize)]
struct KeyRow {
    key: String,
    settings: Vec<String>,
}

impl Comparison {
    /// The others are compared with the first run.
    pub fn of(runs: &[RunWithEpochs]) -> Result<Self> {
        let label = "Macro F1 at fitted thresholds by epoch, mean of the folds, one line a run";
        let axes = Axes::new(label, "epoch", "macro F1, thresholds fitted");
        let lines: Vec<Line> =
            runs.iter().enumerate().map(|(i, (_, folds))| curve(i, folds)).collect();
        Ok(Self {
            runs: (0..runs.len()).map(|i| RunRow::of(runs, i)).collect(),
            svg: charts::lines(&axes, &lines)?,
            classes: (0..CLASSES).map(|class| ClassRow::of(runs, class)).collect(),
            differing_keys: differing_keys(runs),
        })
    }
}

impl RunRow {
    fn of(runs: &[RunWithEpochs], i: usize) -> Self {
        let (first, (run, folds)) = (&runs[0].0, &runs[i]);
        let cost = run.cost();
        let difference = (i > 0 && same_samples(first, run)).then(|| {
            let draws = run.bootstrap.macro_f1.iter().zip(&first.bootstrap.macro_f1);
            Difference {
                value: run.macro_f1() - first.macro_f1(),
                interval: Interval::of(draws.map(|(a, b)| a - b).collect()),
            }
        });
        Self {
            name: run.run.name(),
            colour: COLOURS[i % COLOURS.len()],
            score: run.macro_f1(),
            score_present: run.macro_f1_present(),
            interval: run.interval(),
            difference,
            map: run.map(),
            calibration_error: run.reliability.error,
            method: run.method().method,
            folds: folds.len(),
            samples: run.out_of_fold.ids.len(),
            core_hours: Cost::core_hours(&cost.run),
            gpu_hours: Cost::gpu_hours(&cost.run),
        }
    }
}

impl ClassRow {
    fn of(runs: &[RunWithEpochs], class: usize) -> Self {
        let f1: Vec<f64> = runs.iter().map(|(run, _)| run.counts[class].f1()).collect();
        let most = f1.iter().copied().fold(0.0, f64::max);
        let differ = f1.iter().any(|v| *v < most);
        let best = f1.iter().map(|v| *v == most && differ).collect();
        Self { name: NAMES[class], f1, best }
    }
}

/// Macro F1 at fitted thresholds by epoch, the mean of the folds that have this epoch.
fn curve(run: usize, folds: &[FoldEpochs]) -> Line {
    let last = folds.iter().flat_map(|f| f.history.iter().map(|r| r.epoch)).max().unwrap_or(0);
    let mean = |epoch: usize| {
        let of: Vec<f64> = folds
            .iter()
            .filter_map(|f| f.history.iter().find(|r| r.epoch == epoch)?.macro_f1_fitted)
            .collect();
        (!of.is_empty()).then(|| (epoch as f64, of.iter().sum::<f64>() / of.len() as f64))
    };
    Line { points: (1..=last).filter_map(mean).collect(), colour: run, dashed: false }
}

/// Whether both predicted the same samples in the same groups.
fn same_samples(a: &ScoredRun, b: &ScoredRun) -> bool {
    let sorted = |s: &ScoredRun| {
        let mut rows: Vec<_> =
            s.out_of_fold.ids.iter().cloned().zip(s.groups.iter().copied()).collect();
        rows.sort();
        rows
    };
    sorted(a) == sorted(b)
}

fn differing_keys(runs: &[RunWithEpochs]) -> Vec<KeyRow> {
    let leaves: Vec<_> = runs.iter().map(|(run, _)| run.config.leaves()).collect();
    let all: BTreeSet<&String> = leaves.iter().flat_map(|l| l.keys()).collect();
    let differ = |key: &&String| leaves.iter().any(|l| l.get(*key) != leaves[0].get(*key));
    let row = |key: &String| {
        let setting =
            |l: &BTreeMap<String, toml::Value>| l.get(key).map_or("-".into(), ToString::to_string);
        KeyRow { key: key.clone(), settings: leaves.iter().map(setting).collect() }
    };
    all.into_iter().filter(differ).map(row).collect()
}
