//! From probabilities to classes: one threshold per class, fitted on out-of-fold predictions and
//! scored with cross-fitting.
//!
//! A threshold is the middle of the gap between the last score above it and the first one below; of
//! equally good gaps the widest is chosen. Everything is O(n log n) per class. The probabilities
//! must be finite.

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use crate::{
    config::Method,
    data::{
        folds,
        labels::{CLASSES, Labels},
    },
    scoring::metrics::{self, Counts, Probability},
};

/// Positives at which a class's own optimum weighs as much as the common constant in
/// [`Method::Shrunken`]: the weight is n / (n + SHRINKAGE), a posterior mean whose prior counts as
/// so many positives. With about ten positives the optimum depends on the order of a few scores;
/// with a hundred it is known to a few hundredths. On the three public validation sets of the
/// tests, 5 and 10 score the same, 100 up to 0.02 lower, and no shrinkage 0.02 higher, because the
/// probabilities of rare classes are all small there. The method with the best cross-fitted score
/// is therefore the default.
pub const SHRINKAGE: f64 = 10.0;

/// One threshold per class from `probabilities` `[n, 28]` and `truth` `[n]`. A class without
/// positives has no optimum and gets the constant.
pub fn fit<P: Probability>(
    method: Method,
    probabilities: ArrayView2<P>,
    truth: &[Labels],
) -> [P; CLASSES] {
    assert_eq!(probabilities.dim(), (truth.len(), CLASSES), "one row of {CLASSES} per sample");
    let classes = || (0..CLASSES).map(|class| metrics::ranked(probabilities, truth, class));
    let fitted: Vec<f64> = match method {
        Method::Half => vec![0.5; CLASSES],
        Method::Constant => vec![constant(probabilities, truth); CLASSES],
        Method::Proportion => classes().map(|ranked| proportion(&ranked)).collect(),
        Method::Optimum => {
            let constant = constant(probabilities, truth);
            classes().map(|ranked| optimum(&ranked).unwrap_or(constant)).collect()
        }
        Method::Shrunken => {
            let constant = constant(probabilities, truth);
            let shrunken = classes().map(|ranked| {
                let positives = ranked.iter().filter(|r| r.1).count() as f64;
                let weight = positives / (positives + SHRINKAGE);
                weight * optimum(&ranked).unwrap_or(constant) + (1.0 - weight) * constant
            });
            shrunken.collect()
        }
    };
    std::array::from_fn(|class| P::at_most(fitted[class]))
}

/// An interval for a threshold between ranked scores; `above` of them are above it.
#[derive(Clone, Copy)]
struct Gap {
    above: usize,
    low: f64,
    high: f64,
}

impl Gap {
    fn width(self) -> f64 {
        self.high - self.low
    }

    fn middle(self) -> f64 {
        self.low + self.width() / 2.0
    }
}

/// All gaps of scores ranked from high to low, the gap above all scores first, within 0 to 1.
fn gaps(scores: impl Iterator<Item = f64>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let (mut high, mut above) = (1.0, 0);
    for score in scores {
        if score < high || above == 0 {
            gaps.push(Gap { above, low: score, high: high.max(score) });
        }
        high = score;
        above += 1;
    }
    if high > 0.0 {
        gaps.push(Gap { above, low: 0.0, high });
    }
    gaps
}

/// The gap with the highest value, the widest one of equals.
fn best(gaps: &[Gap], mut value: impl FnMut(Gap) -> f64) -> Option<Gap> {
    let mut best: Option<(f64, Gap)> = None;
    for &gap in gaps {
        let value = value(gap);
        let better = best.is_none_or(|(old, at)| {
            value > old + 1e-12 || (value > old - 1e-12 && gap.width() > at.width())
        });
        if better {
            best = Some((value, gap));
        }
    }
    best.map(|b| b.1)
}

/// The threshold with the best F1 of one class; `None` where it has no positive.
fn optimum(ranked: &[(f64, bool)]) -> Option<f64> {
    let positives = ranked.iter().filter(|r| r.1).count() as u64;
    if positives == 0 {
        return None;
    }
    let (mut entered, mut tp) = (0, 0);
    let gaps = gaps(ranked.iter().map(|r| r.0));
    best(&gaps, |gap| {
        tp += ranked[entered..gap.above].iter().filter(|r| r.1).count() as u64;
        entered = gap.above;
        Counts { tp, fp: gap.above as u64 - tp, fn_: positives - tp }.f1()
    })
    .map(Gap::middle)
}

/// The threshold that predicts as many samples as there are positives, or with tied scores the
/// nearest possible number.
fn proportion(ranked: &[(f64, bool)]) -> f64 {
    let positives = ranked.iter().filter(|r| r.1).count();
    let gaps = gaps(ranked.iter().map(|r| r.0));
    best(&gaps, |gap| -(gap.above.abs_diff(positives) as f64)).map_or(0.5, Gap::middle)
}

/// The one threshold with the best macro F1.
fn constant<P: Probability>(probabilities: ArrayView2<P>, truth: &[Labels]) -> f64 {
    let mut scores: Vec<(f64, u8, bool)> = Vec::with_capacity(probabilities.len());
    for (row, truth) in probabilities.rows().into_iter().zip(truth) {
        scores.extend(
            row.iter()
                .enumerate()
                .map(|(class, p)| (p.to_f64(), class as u8, truth.contains(class))),
        );
    }
    scores.par_sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut counts = [Counts::default(); CLASSES];
    for set in truth {
        set.iter().for_each(|class| counts[class].fn_ += 1);
    }
    let (mut entered, mut sum) = (0, 0.0);
    let gaps = gaps(scores.iter().map(|s| s.0));
    best(&gaps, |gap| {
        for &(_, class, positive) in &scores[entered..gap.above] {
            let count = &mut counts[class as usize];
            sum -= count.f1();
            if positive {
                (count.tp, count.fn_) = (count.tp + 1, count.fn_ - 1);
            } else {
                count.fp += 1;
            }
            sum += count.f1();
        }
        entered = gap.above;
        sum
    })
    .map_or(0.5, Gap::middle)
}

/// The score of a method on samples that its thresholds were not fitted on.
pub struct CrossFitted {
    /// Macro F1 of the pooled predictions, from 0 to 1.
    pub macro_f1: f64,
    /// The pooled predictions, one set per sample; a set may be empty.
    pub predicted: Vec<Labels>,
}

/// Splits the samples into `folds` stratified inner folds, fits on all but one, predicts that one,
/// and scores the pooled predictions. `folds` is at least 2. Rows with equal `groups` belong to one
/// sample and stay in one fold. Images of one well may be in several, since one threshold per class
/// cannot memorise an image.
pub fn cross_fitted<P: Probability>(
    method: Method,
    probabilities: ArrayView2<P>,
    truth: &[Labels],
    groups: &[usize],
    folds: usize,
    seed: u64,
) -> CrossFitted {
    let fold_of = folds::split(truth, groups, folds, 1, seed);
    let parts: Vec<(Vec<usize>, [P; CLASSES])> = (0..folds)
        .into_par_iter()
        .map(|fold| {
            let (held, rest): (Vec<usize>, Vec<usize>) =
                (0..truth.len()).partition(|&i| fold_of[i] == fold);
            let truth: Vec<Labels> = rest.iter().map(|&i| truth[i]).collect();
            (held, fit(method, probabilities.select(Axis(0), &rest).view(), &truth))
        })
        .collect();
    let mut predicted = vec![Labels::default(); truth.len()];
    for (held, thresholds) in &parts {
        for &i in held {
            predicted[i] = metrics::above(probabilities.row(i).iter().copied(), thresholds);
        }
    }
    let macro_f1 = metrics::macro_f1(&metrics::counts_of(predicted.iter().copied(), truth));
    CrossFitted { macro_f1, predicted }
}

/// Macro F1 of a method on the samples that it was fitted on; optimistic, shown next to the
/// cross-fitted score.
pub fn in_sample<P: Probability>(
    method: Method,
    probabilities: ArrayView2<P>,
    truth: &[Labels],
) -> f64 {
    metrics::macro_f1(&metrics::counts(probabilities, truth, &fit(method, probabilities, truth)))
}

#[cfg(test)]
mod tests;
