//! Which part of a batch a rank works on. The parts of all ranks, in order, are the batch.

use std::ops::Range;

/// A rank's part of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Positions in the batch.
    pub samples: Range<usize>,
    /// Whether the results count. A batch with fewer than two samples per rank goes to fewer ranks
    /// (batch norm needs two); the others compute on its first samples without effect, so that all
    /// ranks make the same calls.
    pub counts: bool,
    /// Samples in the batch.
    pub of: usize,
    /// Number of forward passes, the same on all ranks.
    passes: usize,
    /// Ranks whose samples count.
    ranks: usize,
}

impl Share {
    /// The share of `rank` among `size` in a batch of `of` samples (at least two), with about
    /// `micro` samples per forward pass (0: all).
    pub fn new(of: usize, rank: usize, size: usize, micro: usize) -> Self {
        let ranks = size.min(of / 2).max(1);
        let (least, most) = (of / ranks, of.div_ceil(ranks));
        let passes = if micro == 0 { 1 } else { most.div_ceil(micro).min(least / 2).max(1) };
        let samples = if rank < ranks { part(of, rank, ranks) } else { 0..least };
        Self { samples, counts: rank < ranks, of, passes, ranks }
    }

    /// The samples of each forward pass, as positions in this share.
    pub fn passes(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        let (n, passes) = (self.samples.len(), self.passes);
        (0..passes).map(move |i| part(n, i, passes))
    }

    /// Samples of all ranks together in forward pass `i`.
    pub fn together(&self, i: usize) -> usize {
        (0..self.ranks)
            .map(|rank| part(part(self.of, rank, self.ranks).len(), i, self.passes).len())
            .sum()
    }

    /// The weight of a mean over `n` of these samples in the mean over the batch.
    pub fn weight(&self, n: usize) -> f64 {
        if self.counts { n as f64 / self.of as f64 } else { 0.0 }
    }
}

/// Part `i` when `n` things are split into `parts` consecutive parts whose sizes differ by at most
/// one.
pub fn part(n: usize, i: usize, parts: usize) -> Range<usize> {
    n * i / parts..n * (i + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_all_ranks_are_the_batch_in_order() {
        for of in 2..40 {
            for size in 1..9 {
                for micro in [0, 2, 3, 7, 100] {
                    let shares: Vec<_> =
                        (0..size).map(|rank| Share::new(of, rank, size, micro)).collect();
                    let counted = shares.iter().filter(|s| s.counts);
                    assert!(counted.flat_map(|s| s.samples.clone()).eq(0..of), "{shares:?}");
                    let weight: f64 =
                        shares.iter().flat_map(|s| s.passes().map(|p| s.weight(p.len()))).sum();
                    assert!((weight - 1.0).abs() < 1e-12);
                    let count = shares[0].passes().len();
                    assert_eq!((0..count).map(|i| shares[0].together(i)).sum::<usize>(), of);
                    for share in &shares {
                        let passes: Vec<_> = share.passes().collect();
                        assert_eq!(passes.len(), count, "the same number on all ranks");
                        assert!(passes.iter().all(|p| p.len() >= 2), "{share:?}");
                        // With two or three per pass, four where one sample would be left alone on
                        // some rank.
                        let most = if micro == 0 { of } else { micro.max(4) };
                        assert!(passes.iter().all(|p| p.len() <= most), "{share:?}");
                        assert!(passes.iter().cloned().flatten().eq(0..share.samples.len()));
                    }
                }
            }
        }
    }
}
