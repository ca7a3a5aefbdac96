//! Confidence intervals of scores: the bootstrap over groups of samples (Efron 1979; resampling
//! whole clusters, Davison & Hinkley 1997).

use std::collections::HashMap;

use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    base::rng::{self, Use},
    data::labels::{CLASSES, Labels},
    scoring::metrics::{self, Counts},
};

/// The middle 95 % of the resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// The 2.5 and 97.5 percentiles of some values.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { low: quantile(&values, 0.025), high: quantile(&values, 0.975) }
    }
}

/// Of sorted values, interpolated between neighbours as `numpy.quantile` does; 0 where there is
/// none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

/// F1 of every resample.
pub struct Bootstrap {
    /// Number of groups.
    pub groups: usize,
    /// `[resamples]`, macro F1.
    pub macro_f1: Vec<f64>,
    /// `[resamples][28]`
    f1: Vec<[f64; CLASSES]>,
}

impl Bootstrap {
    /// Draws all groups with replacement, `resamples` times, and scores each draw. Groups are
    /// numbered in the order of their first row, so that two sets of predictions for the same rows
    /// are scored on the same draws and their differences, draw by draw, are paired.
    pub fn new(
        predicted: &[Labels],
        truth: &[Labels],
        groups: &[usize],
        resamples: usize,
        seed: u64,
    ) -> Self {
        let groups = events(predicted, truth, groups);
        let draw = |number: usize| {
            let mut rng = rng::stream(Use::Bootstrap, seed, 0, number as u64);
            let mut counts = [Counts::default(); CLASSES];
            for _ in 0..groups.len() {
                for event in &groups[rng.random_range(0..groups.len())] {
                    event.add(&mut counts);
                }
            }
            (metrics::macro_f1(&counts), counts.map(Counts::f1))
        };
        let (macro_f1, f1) = (0..resamples).into_par_iter().map(draw).unzip();
        Self { groups: groups.len(), macro_f1, f1 }
    }

    pub fn of_class(&self, class: usize) -> Interval {
        Interval::of(self.f1.iter().map(|f1| f1[class]).collect())
    }
}

/// A class that is true or predicted for a sample; most classes of most samples are neither.
#[derive(Clone, Copy)]
struct Event {
    class: u8,
    predicted: bool,
    truth: bool,
}

impl Event {
    fn add(self, counts: &mut [Counts; CLASSES]) {
        let count = &mut counts[usize::from(self.class)];
        match (self.predicted, self.truth) {
            (true, true) => count.tp += 1,
            (true, false) => count.fp += 1,
            (false, _) => count.fn_ += 1,
        }
    }
}

/// The events of each group.
fn events(predicted: &[Labels], truth: &[Labels], groups: &[usize]) -> Vec<Vec<Event>> {
    let (mut numbers, mut all) = (HashMap::new(), Vec::new());
    for ((predicted, truth), group) in predicted.iter().zip(truth).zip(groups) {
        let number = *numbers.entry(group).or_insert_with(|| {
            all.push(Vec::new());
            all.len() - 1
        });
        for class in 0..CLASSES {
            let (predicted, truth) = (predicted.contains(class), truth.contains(class));
            if predicted || truth {
                all[number].push(Event { class: class as u8, predicted, truth });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::report::golden;

    #[test]
    fn a_resample_is_the_score_of_the_drawn_rows() {
        let g = golden::read();
        let (predicted, truth) = (g.predicted(), g.truth());
        let boot = Bootstrap::new(&predicted, &truth, &g.groups, 20, 5);
        let mut seen = std::collections::HashSet::new();
        let order: Vec<usize> =
            g.groups.iter().copied().filter(|&group| seen.insert(group)).collect();
        assert_eq!(boot.groups, order.len());
        for (number, got) in boot.macro_f1.iter().enumerate() {
            let mut rng = rng::stream(Use::Bootstrap, 5, 0, number as u64);
            let drawn: Vec<usize> =
                (0..order.len()).map(|_| order[rng.random_range(0..order.len())]).collect();
            let rows: Vec<usize> = drawn
                .iter()
                .flat_map(|group| (0..truth.len()).filter(|&i| g.groups[i] == *group))
                .collect();
            let of = |sets: &[Labels]| rows.iter().map(|&i| sets[i]).collect::<Vec<_>>();
            let counts = metrics::counts_of(of(&predicted), &of(&truth));
            assert_eq!(*got, metrics::macro_f1(&counts));
            assert_eq!(boot.f1[number], counts.map(Counts::f1));
        }
    }

    /// numpy draws other numbers; its interval of 4,000 resamples of the groups differs by chance
    /// alone.
    #[test]
    fn the_interval_is_that_of_numpy() {
        let g = golden::read();
        let boot = Bootstrap::new(&g.predicted(), &g.truth(), &g.groups, 4000, 0);
        let got = Interval::of(boot.macro_f1.clone());
        assert!(
            (got.low - g.interval[0]).abs() < 0.004 && (got.high - g.interval[1]).abs() < 0.004,
            "{got:?} {:?}",
            g.interval
        );
        let one = boot.of_class(20);
        assert!(
            (one.low - g.interval_20[0]).abs() < 0.02 && (one.high - g.interval_20[1]).abs() < 0.02,
            "{one:?} {:?}",
            g.interval_20
        );
        // Resampling single rows would give too narrow an interval.
        let alone: Vec<usize> = (0..g.groups.len()).collect();
        let narrow =
            Interval::of(Bootstrap::new(&g.predicted(), &g.truth(), &alone, 1000, 0).macro_f1);
        assert!(narrow.high - narrow.low < 0.9 * (got.high - got.low), "{narrow:?} {got:?}");
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let values = [0.1, 0.4, 0.5, 0.9];
        for (q, want) in [(0.0, 0.1), (0.025, 0.1225), (0.5, 0.45), (0.975, 0.87), (1.0, 0.9)] {
            assert!((quantile(&values, q) - want).abs() < 1e-12, "{q}");
        }
        assert_eq!((quantile(&[0.7], 0.5), quantile(&[], 0.5)), (0.7, 0.0));
    }
}
