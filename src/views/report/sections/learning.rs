//! Learning curves: losses, scores, learning rate and throughput of every fold.

use serde::Serialize;

use crate::{
    base::Result,
    training::history::EpochRow,
    views::report::{
        charts::{self, Axes, COLOURS, Line},
        fold_epochs::{FoldEpochs, StepMetrics},
        precision_recall::thinned,
    },
};

/// Points of a curve over steps.
const STEP_POINTS: usize = 300;

#[derive(Serialize)]
pub struct Learning {
    charts: Vec<Chart>,
    folds: Vec<FoldEnd>,
}

#[derive(Serialize)]
struct Chart {
    title: &'static str,
    svg: String,
}

/// The last values of a fold's curves, and means over its training.
#[derive(Serialize)]
struct FoldEnd {
    fold: usize,
    colour: &'static str,
    epochs: usize,
    train_loss: Option<f64>,
    valid_loss: Option<f64>,
    train_macro_f1: Option<f64>,
    macro_f1: Option<f64>,
    map: Option<f64>,
    samples_per_s: f64,
    /// Share of the time that training waited for data, 0 to 1.
    data_wait: f64,
    resident_mib: Option<u64>,
    gpu_mib: Option<u64>,
    skipped_steps: usize,
}

impl Learning {
    pub fn of(folds: &[FoldEpochs]) -> Result<Self> {
        Ok(Self { charts: charts(folds)?, folds: folds.iter().map(FoldEnd::of).collect() })
    }
}

impl FoldEnd {
    fn of(fold: &FoldEpochs) -> Self {
        let (last, steps) = (fold.history.last(), &fold.steps);
        let validated = fold.history.iter().rev().find(|row| row.macro_f1.is_some());
        let mean = |of: fn(&StepMetrics) -> f64| {
            steps.iter().map(of).sum::<f64>() / steps.len().max(1) as f64
        };
        Self {
            fold: fold.fold,
            colour: COLOURS[fold.fold % COLOURS.len()],
            epochs: fold.history.len(),
            train_loss: last.and_then(|row| row.train_loss),
            valid_loss: validated.and_then(|row| row.valid_loss),
            train_macro_f1: last.map(|row| row.train_macro_f1),
            macro_f1: validated.and_then(|row| row.macro_f1),
            map: validated.and_then(|row| row.map),
            samples_per_s: mean(|s| s.samples_per_s),
            data_wait: mean(|s| s.data_wait),
            resident_mib: steps.iter().map(|s| s.resident_mib).max(),
            gpu_mib: steps.iter().filter_map(|s| s.gpu_mib).max(),
            skipped_steps: fold.history.iter().map(|row| row.skipped_steps).sum(),
        }
    }
}

fn charts(folds: &[FoldEpochs]) -> Result<Vec<Chart>> {
    let epochs = |dashed: bool, of: fn(&EpochRow) -> Option<f64>| {
        folds.iter().map(move |f| Line {
            points: f.history.iter().filter_map(|r| Some((r.epoch as f64, of(r)?))).collect(),
            colour: f.fold,
            dashed,
        })
    };
    let steps = |of: fn(&StepMetrics) -> f64| {
        folds.iter().map(move |f| {
            let points: Vec<_> = f.steps.iter().map(|s| (s.step as f64, of(s))).collect();
            Line { points: thinned(&points, STEP_POINTS), colour: f.fold, dashed: false }
        })
    };
    let chart = |label: &str, x: &str, title: &'static str, lines: Vec<Line>| -> Result<Chart> {
        Ok(Chart { title, svg: charts::lines(&Axes::new(label, x, title), &lines)? })
    };
    Ok(vec![
        chart(
            "Loss by epoch, training dashed, validation solid",
            "epoch",
            "loss",
            epochs(true, |r| r.train_loss).chain(epochs(false, |r| r.valid_loss)).collect(),
        )?,
        chart(
            "Macro F1 at 0.5 by epoch, training dashed, validation solid",
            "epoch",
            "macro F1 at 0.5",
            epochs(true, |r| Some(r.train_macro_f1)).chain(epochs(false, |r| r.macro_f1)).collect(),
        )?,
        chart(
            "Macro F1 at fitted thresholds by epoch, validation",
            "epoch",
            "macro F1, thresholds fitted",
            epochs(false, |r| r.macro_f1_fitted).collect(),
        )?,
        chart(
            "Mean average precision by epoch, validation",
            "epoch",
            "mAP",
            epochs(false, |r| r.map).collect(),
        )?,
        chart("Learning rate by step", "step", "learning rate", steps(|s| s.lr).collect())?,
        chart(
            "Samples per second by step",
            "step",
            "samples per second",
            steps(|s| s.samples_per_s).collect(),
        )?,
    ])
}
