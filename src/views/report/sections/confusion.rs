//! Which classes are predicted instead of others, and which occur together.

use serde::Serialize;

use crate::{
    data::labels::{CLASSES, NAMES},
    views::report::{
        confusion_counts::{ConfusionCounts, co_occurrences},
        scored_run::ScoredRun,
    },
};

/// Most confused pairs that are listed.
const PAIRS: usize = 15;
/// Pairs that are listed whose joint predictions differ most from the truth.
const JOINT_PAIRS: usize = 8;

#[derive(Serialize)]
pub struct ConfusionTables {
    pairs: Vec<ConfusedPair>,
    /// Of the samples of the row's class for which it was missed, the share for which the column's
    /// class was predicted without being true.
    confusions: Vec<HeatRow>,
    /// Of the samples of the row's class, the share that also has the column's class.
    co_occurrences: Vec<HeatRow>,
    /// Empty where every pair is predicted together as often as it is true together.
    joint_pairs: Vec<JointPair>,
}

/// Class `a` missed and class `b` predicted wrongly.
#[derive(Serialize)]
struct ConfusedPair {
    a: &'static str,
    b: &'static str,
    count: u64,
    /// Samples of `a` for which it was missed.
    missed: u64,
    /// `count / missed`
    share: f64,
    /// Share of all samples without `b` for which `b` is predicted.
    usual_share: f64,
    /// Samples with both classes.
    together: u64,
}

#[derive(Serialize)]
struct HeatRow {
    class: usize,
    name: &'static str,
    cells: Vec<HeatCell>,
}

#[derive(Serialize)]
struct HeatCell {
    /// 0 to 1.
    share: f64,
    count: u64,
}

/// Samples for which two classes are both true, and for which both are predicted.
#[derive(Serialize)]
struct JointPair {
    a: &'static str,
    b: &'static str,
    truth: u64,
    predicted: u64,
}

impl ConfusionTables {
    pub fn of(scored: &ScoredRun) -> Self {
        let truth = &scored.out_of_fold.truth;
        let confusion = ConfusionCounts::new(&scored.predicted, truth);
        let is = co_occurrences(truth);
        let usual_share = |b: usize| {
            let without = truth.iter().filter(|t| !t.contains(b)).count().max(1) as f64;
            scored.counts[b].fp as f64 / without
        };
        let pairs = confusion.pairs().into_iter().take(PAIRS).map(|p| ConfusedPair {
            a: NAMES[p.missed],
            b: NAMES[p.predicted],
            count: p.count,
            missed: confusion.missed[p.missed],
            share: p.share,
            usual_share: usual_share(p.predicted),
            together: is[p.missed][p.predicted],
        });
        let together = |a: usize, b: usize| match is[a][a] {
            0 => 0.0,
            n => is[a][b] as f64 / n as f64,
        };
        Self {
            pairs: pairs.collect(),
            confusions: rows(|a, b| (confusion.share(a, b), confusion.instead[a][b])),
            co_occurrences: rows(|a, b| (together(a, b), is[a][b])),
            joint_pairs: joint_pairs(&is, &co_occurrences(&scored.predicted)),
        }
    }
}

/// A row for each class from the (share, count) of each of its cells.
fn rows(of: impl Fn(usize, usize) -> (f64, u64)) -> Vec<HeatRow> {
    let cell = |a: usize, b: usize| {
        let (share, count) = of(a, b);
        HeatCell { share, count }
    };
    let row = |a: usize| HeatRow {
        class: a,
        name: NAMES[a],
        cells: (0..CLASSES).map(|b| cell(a, b)).collect(),
    };
    (0..CLASSES).map(row).collect()
}

/// The pairs whose joint counts differ most.
fn joint_pairs(
    truth: &[[u64; CLASSES]; CLASSES],
    predicted: &[[u64; CLASSES]; CLASSES],
) -> Vec<JointPair> {
    let mut pairs: Vec<(u64, usize, usize)> = (0..CLASSES)
        .flat_map(|a| (0..a).map(move |b| (truth[a][b].abs_diff(predicted[a][b]), b, a)))
        .filter(|p| p.0 > 0)
        .collect();
    pairs.sort_by(|a, b| b.cmp(a));
    let pair = |(_, a, b): (u64, usize, usize)| JointPair {
        a: NAMES[a],
        b: NAMES[b],
        truth: truth[a][b],
        predicted: predicted[a][b],
    };
    pairs.into_iter().take(JOINT_PAIRS).map(pair).collect()
}
