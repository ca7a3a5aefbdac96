//! Which classes are predicted instead of others. Samples have several labels, so that there is no
//! usual confusion matrix; instead, where a class was missed, the wrong predictions are counted.

use crate::data::labels::{CLASSES, Labels};

/// `[a][b]`: number of samples with classes `a` and `b`; on the diagonal, those with class `a`.
pub fn co_occurrences(sets: &[Labels]) -> [[u64; CLASSES]; CLASSES] {
    let mut counts = [[0; CLASSES]; CLASSES];
    for set in sets {
        for a in set.iter() {
            set.iter().for_each(|b| counts[a][b] += 1);
        }
    }
    counts
}

/// How often one class was predicted instead of another.
pub struct ConfusionCounts {
    /// `[a]`: samples of class `a` for which it was not predicted.
    pub missed: [u64; CLASSES],
    /// `[a][b]`: of these, those for which `b` was predicted without being true.
    pub instead: [[u64; CLASSES]; CLASSES],
}

/// Class `predicted` was predicted instead of class `missed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub missed: usize,
    pub predicted: usize,
    /// Samples.
    pub count: u64,
    /// `count` as a share of the samples for which `missed` was missed, 0 to 1.
    pub share: f64,
}

impl ConfusionCounts {
    pub fn new(predicted: &[Labels], truth: &[Labels]) -> Self {
        let mut confusion = Self { missed: [0; CLASSES], instead: [[0; CLASSES]; CLASSES] };
        for (predicted, truth) in predicted.iter().zip(truth) {
            for a in truth.iter().filter(|&a| !predicted.contains(a)) {
                confusion.missed[a] += 1;
                predicted
                    .iter()
                    .filter(|&b| !truth.contains(b))
                    .for_each(|b| confusion.instead[a][b] += 1);
            }
        }
        confusion
    }

    /// Of the samples for which `a` was missed, the share with `b` predicted instead, 0 to 1.
    pub fn share(&self, a: usize, b: usize) -> f64 {
        if self.missed[a] == 0 { 0.0 } else { self.instead[a][b] as f64 / self.missed[a] as f64 }
    }

    /// All pairs that occur, the most frequent first.
    pub fn pairs(&self) -> Vec<Pair> {
        let all = (0..CLASSES).flat_map(|a| (0..CLASSES).map(move |b| (a, b)));
        let pair = |(a, b): (usize, usize)| Pair {
            missed: a,
            predicted: b,
            count: self.instead[a][b],
            share: self.share(a, b),
        };
        let mut pairs: Vec<Pair> = all.map(pair).filter(|p| p.count > 0).collect();
        pairs.sort_by(|a, b| b.count.cmp(&a.count).then(b.share.total_cmp(&a.share)));
        pairs
    }

    /// The `n` pairs of classes that are most often predicted instead of each other, counting both
    /// directions; of each pair, the more frequent direction first.
    pub fn most_confused(&self, n: usize) -> Vec<(Pair, Pair)> {
        let back = |p: &Pair| Pair {
            missed: p.predicted,
            predicted: p.missed,
            count: self.instead[p.predicted][p.missed],
            share: self.share(p.predicted, p.missed),
        };
        let mut ways: Vec<(Pair, Pair)> = self.pairs().iter().map(|p| (*p, back(p))).collect();
        ways.retain(|(there, back)| {
            there.count > back.count || there.count == back.count && there.missed < back.missed
        });
        ways.sort_by_key(|(there, back)| std::cmp::Reverse(there.count + back.count));
        ways.truncate(n);
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::report::golden;

    #[test]
    fn counts_are_those_of_numpy() {
        let g = golden::read();
        let confusion = ConfusionCounts::new(&g.predicted(), &g.truth());
        assert_eq!(confusion.missed.to_vec(), g.missed);
        assert_eq!(confusion.instead.map(Vec::from).to_vec(), g.instead);
        assert_eq!(co_occurrences(&g.truth()).map(Vec::from).to_vec(), g.together);
        let pairs = confusion.pairs();
        assert!(pairs.is_sorted_by(|a, b| a.count >= b.count));
        assert_eq!(
            pairs.iter().map(|p| p.count).sum::<u64>(),
            g.instead.iter().flatten().sum::<u64>()
        );
    }

    #[test]
    fn a_pair_counts_both_directions() {
        let set = |text: &str| Labels::parse(text).unwrap();
        // 2 instead of 1 twice, 1 instead of 2 once; 5 instead of 4 twice; 7 is correct.
        let truth = ["1", "1 7", "2", "4", "4", ""].map(set);
        let predicted = ["2", "2 7", "1", "5", "5", "3"].map(set);
        let confusion = ConfusionCounts::new(&predicted, &truth);
        let ranked = confusion.most_confused(9);
        let counts: Vec<_> = ranked
            .iter()
            .map(|(there, back)| (there.missed, there.predicted, there.count, back.count))
            .collect();
        assert_eq!(counts, [(1, 2, 2, 1), (4, 5, 2, 0)]);
        let there = ranked[0].0;
        assert_eq!((there.share, confusion.share(1, 7), confusion.share(9, 1)), (1.0, 0.0, 0.0));
        assert!(ConfusionCounts::new(&truth, &truth).most_confused(9).is_empty());
    }
}
