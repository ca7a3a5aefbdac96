//! How much the scores differ between folds.

use ndarray::Axis;
use serde::Serialize;

use crate::{
    data::labels::{CLASSES, NAMES},
    scoring::metrics::{self, Counts},
    views::report::{fold_epochs::FoldEpochs, scored_run::ScoredRun},
};

#[derive(Serialize)]
pub struct FoldScores {
    rows: Vec<FoldRow>,
    macro_f1: Spread,
    map: Spread,
    classes: Vec<ClassRow>,
}

/// A fold on its own samples.
#[derive(Serialize)]
struct FoldRow {
    fold: usize,
    samples: usize,
    macro_f1: f64,
    macro_f1_present: f64,
    classes_present: usize,
    map: f64,
    #[serde(skip)]
    counts: [Counts; CLASSES],
}

#[derive(Serialize)]
struct Spread {
    mean: f64,
    /// Standard deviation of a sample (n - 1).
    deviation: f64,
}

#[derive(Serialize)]
struct ClassRow {
    name: &'static str,
    positives: u64,
    /// By fold.
    f1: Vec<f64>,
    /// The highest F1 less the lowest.
    spread: f64,
}

impl FoldScores {
    pub fn of(scored: &ScoredRun, folds: &[FoldEpochs]) -> Self {
        let rows: Vec<FoldRow> = folds.iter().map(|f| FoldRow::of(scored, f.fold)).collect();
        let class = |c: usize| {
            let f1: Vec<f64> = rows.iter().map(|row| row.counts[c].f1()).collect();
            let (low, high) = f1.iter().fold((1f64, 0f64), |(l, h), &v| (l.min(v), h.max(v)));
            let positives = scored.counts[c].positives();
            ClassRow { name: NAMES[c], positives, f1, spread: (high - low).max(0.0) }
        };
        Self {
            macro_f1: Spread::of(rows.iter().map(|row| row.macro_f1)),
            map: Spread::of(rows.iter().map(|row| row.map)),
            classes: (0..CLASSES).map(class).collect(),
            rows,
        }
    }
}

impl FoldRow {
    fn of(scored: &ScoredRun, fold: usize) -> Self {
        let answer = &scored.out_of_fold;
        let rows: Vec<usize> = (0..answer.ids.len()).filter(|&i| answer.folds[i] == fold).collect();
        let truth: Vec<_> = rows.iter().map(|&i| answer.truth[i]).collect();
        let counts = metrics::counts_of(rows.iter().map(|&i| scored.predicted[i]), &truth);
        let probabilities = answer.probabilities.select(Axis(0), &rows);
        let average_precision = metrics::average_precision(probabilities.view(), &truth);
        Self {
            fold,
            samples: rows.len(),
            macro_f1: metrics::macro_f1(&counts),
            macro_f1_present: metrics::macro_f1_present(&counts),
            classes_present: metrics::classes_present(&counts),
            map: metrics::mean_average_precision(&average_precision),
            counts,
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let n = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / n.max(1.0);
        let squares = values.map(|v| (v - mean).powi(2)).sum::<f64>();
        Self { mean, deviation: (squares / (n - 1.0).max(1.0)).sqrt() }
    }
}
