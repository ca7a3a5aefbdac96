//! Whether probabilities are calibrated: the reliability diagram and its expected calibration error
//! (Guo et al. 2017, "On Calibration of Modern Neural Networks"). Each class of each sample is a
//! binary prediction of its own.

use serde::Serialize;

/// The binary predictions whose probabilities lie in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    pub count: u64,
    /// Mean probability, 0 to 1.
    pub predicted: f64,
    /// Share that is true, 0 to 1.
    pub observed: f64,
}

/// Probabilities in intervals of equal width.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// From 0 to 1; empty ones have a count of 0.
    pub bins: Vec<Bin>,
    /// Expected calibration error, 0 to 1: the mean of |predicted - observed|, weighted with the
    /// counts.
    pub error: f64,
}

/// Sorts predictions (probability, whether it is true) into `bins` intervals of equal width. Each
/// excludes its lower end, except the first, which includes 0.
pub fn reliability(predictions: impl Iterator<Item = (f32, bool)>, bins: usize) -> Reliability {
    let mut sums = vec![(0u64, 0f64, 0u64); bins];
    for (p, truth) in predictions {
        let at = ((f64::from(p) * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        sums[at].0 += 1;
        sums[at].1 += f64::from(p);
        sums[at].2 += u64::from(truth);
    }
    let bin = |(count, p, truth): (u64, f64, u64)| match count {
        0 => Bin::default(),
        n => Bin { count, predicted: p / n as f64, observed: truth as f64 / n as f64 },
    };
    let bins: Vec<Bin> = sums.into_iter().map(bin).collect();
    let total = bins.iter().map(|b| b.count).sum::<u64>().max(1) as f64;
    let error =
        bins.iter().map(|b| b.count as f64 / total * (b.predicted - b.observed).abs()).sum();
    Reliability { bins, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::report::golden;

    #[test]
    fn bins_are_those_of_scikit_learn() {
        let g = golden::read();
        let truth = g.truth();
        let predictions = g
            .probabilities
            .iter()
            .zip(&truth)
            .flat_map(|(row, t)| row.iter().enumerate().map(|(c, &p)| (p, t.contains(c))));
        let got = reliability(predictions, 10);
        let filled: Vec<&Bin> = got.bins.iter().filter(|b| b.count > 0).collect();
        assert_eq!(filled.len(), g.calibration.len());
        for (bin, [observed, predicted]) in filled.iter().zip(&g.calibration) {
            assert!(
                (bin.observed - observed).abs() < 1e-6 && (bin.predicted - predicted).abs() < 1e-6,
                "{bin:?} {observed} {predicted}"
            );
        }
        assert!(
            (got.error - g.calibration_error).abs() < 1e-6,
            "{} {}",
            got.error,
            g.calibration_error
        );
    }

    #[test]
    fn the_ends_belong_to_the_outer_bins() {
        let got = reliability([(0.0, false), (0.5, true), (1.0, true)].into_iter(), 2);
        assert_eq!(got.bins.iter().map(|b| b.count).collect::<Vec<_>>(), [2, 1]);
        assert!((got.error - (2.0 / 3.0) * 0.25).abs() < 1e-12);
        assert_eq!(reliability(std::iter::empty(), 3).error, 0.0);
    }
}
