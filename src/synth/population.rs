//! Label sets with the real frequencies: a population of 31,072 sets, as many as the competition's
//! training samples, built only from counts.
//!
//! The counts are of the samples with each class, with each pair of classes, and with 1, 2, 3, 4
//! and 5 classes. Sets of three and more are drawn first, as cliques of pairs that occur; the
//! remaining pairs become sets of two, and then the remaining classes sets of one. So the
//! population has almost exactly the class and pair counts of the table.

use super::draw::RandomDraw;
use crate::{
    base::rng::{self, Rng, Use},
    data::labels::{CLASSES, Labels},
};

/// Samples with 1, 2, 3, 4 and 5 classes.
const CARDINALITY: [usize; 5] = [15_126, 12_485, 3160, 299, 2];

/// Samples with both classes (row, column); on the diagonal, with the one class.
#[rustfmt::skip]
const PAIRS: [&[u16]; CLASSES] = [
    &[12885],
    &[600, 1254],
    &[1735, 147, 3621],
    &[571, 19, 4, 1561],
    &[97, 52, 48, 23, 1858],
    &[806, 39, 59, 14, 5, 2513],
    &[89, 21, 79, 24, 2, 14, 1008],
    &[1092, 56, 189, 40, 42, 80, 24, 2822],
    &[5, 0, 11, 4, 0, 0, 0, 1, 53],
    &[0, 0, 0, 0, 0, 0, 11, 0, 0, 45],
    &[0, 0, 0, 0, 0, 0, 11, 0, 0, 28, 28],
    &[259, 13, 81, 14, 15, 25, 1, 5, 0, 0, 0, 1093],
    &[200, 7, 25, 4, 24, 20, 2, 15, 0, 0, 0, 3, 688],
    &[178, 14, 14, 8, 11, 9, 2, 21, 0, 0, 0, 9, 18, 537],
    &[217, 4, 74, 17, 18, 30, 6, 14, 0, 0, 0, 9, 11, 2, 1066],
    &[12, 0, 10, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21],
    &[286, 0, 48, 5, 10, 20, 9, 37, 0, 0, 0, 5, 2, 0, 102, 9, 530],
    &[75, 0, 7, 0, 0, 3, 0, 6, 0, 0, 0, 0, 0, 0, 46, 0, 77, 210],
    &[279, 11, 18, 5, 16, 13, 6, 9, 0, 0, 0, 1, 4, 12, 8, 0, 26, 49, 902],
    &[614, 19, 56, 20, 16, 27, 4, 22, 0, 0, 0, 22, 15, 11, 12, 0, 13, 10, 0, 1482],
    &[58, 0, 6, 0, 2, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 172],
    &[1343, 76, 216, 35, 135, 120, 31, 139, 2, 0, 0, 22, 132, 111, 42, 0, 38, 27, 62, 74, 0, 3777],
    &[325, 7, 52, 16, 24, 20, 2, 29, 0, 0, 0, 9, 5, 11, 3, 0, 14, 1, 11, 14, 0, 125, 802],
    &[802, 45, 226, 51, 44, 45, 5, 7, 0, 0, 0, 5, 18, 3, 3, 0, 9, 3, 15, 35, 17, 69, 18, 2965],
    &[78, 1, 12, 3, 8, 30, 0, 5, 0, 0, 0, 18, 0, 0, 0, 0, 6, 0, 10, 1, 0, 9, 5, 4, 322],
    &[3631, 261, 782, 272, 329, 555, 151, 411, 2, 0, 0, 139, 156, 126, 157, 0, 150, 76, 258,
        276, 9, 921, 109, 197, 53, 8228],
    &[115, 0, 11, 12, 17, 11, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 2, 0, 0, 16, 0, 3, 0, 54, 328],
    &[7, 0, 1, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 11],
];

fn count(a: usize, b: usize) -> u16 {
    PAIRS[a.max(b)][a.min(b)]
}

/// All label sets, in no particular order but always the same.
pub fn population() -> Vec<Labels> {
    let mut rng = rng::stream(Use::Synth, 0, u64::MAX, 0);
    let mut remaining: Vec<f32> =
        (0..CLASSES * CLASSES).map(|i| f32::from(count(i / CLASSES, i % CLASSES))).collect();
    let mut sets = Vec::with_capacity(CARDINALITY.iter().sum());
    for size in (3..=CARDINALITY.len()).rev() {
        let mut drawn = 0;
        while drawn < CARDINALITY[size - 1] {
            if let Some(set) = clique(size, &remaining, &mut rng) {
                take(&set, &mut remaining);
                sets.push(Labels::from_classes(set).expect("classes of the table"));
                drawn += 1;
            }
        }
    }
    for a in 0..CLASSES {
        for b in 0..a {
            for _ in 0..remaining[a * CLASSES + b] as usize {
                take(&[a, b], &mut remaining);
                sets.push(Labels::from_classes([a, b]).expect("classes of the table"));
            }
        }
    }
    for a in 0..CLASSES {
        let single = Labels::from_classes([a]).expect("classes of the table");
        sets.extend(std::iter::repeat_n(single, remaining[a * CLASSES + a].max(0.0) as usize));
    }
    sets
}

/// A set of `size` classes of which all pairs remain: first one that needs large sets, then one by
/// one, by how often it occurs with those before it.
fn clique(size: usize, remaining: &[f32], rng: &mut Rng) -> Option<Vec<usize>> {
    // The remaining pairs of a class that exceed its remaining samples: they must share samples,
    // that is, be in sets of three and more.
    let surplus = |a: usize| {
        (0..CLASSES).filter(|&b| b != a).map(|b| remaining[a * CLASSES + b]).sum::<f32>()
            - remaining[a * CLASSES + a]
    };
    let mut set = vec![pick((0..CLASSES).map(|a| surplus(a).max(0.01)), rng)?];
    while set.len() < size {
        let weight = |c: usize| {
            let pairs = set.iter().map(|&s| remaining[c * CLASSES + s]);
            if set.contains(&c) || pairs.clone().any(|p| p < 1.0) {
                return 0.0;
            }
            let own = f32::from(count(c, c));
            own * pairs.map(|p| p / own).product::<f32>()
        };
        set.push(pick((0..CLASSES).map(weight), rng)?);
    }
    Some(set)
}

fn take(set: &[usize], remaining: &mut [f32]) {
    for &a in set {
        for &b in set {
            remaining[a * CLASSES + b] -= 1.0;
        }
    }
}

/// An index by weight; `None` if all are zero.
fn pick(weights: impl Iterator<Item = f32> + Clone, rng: &mut Rng) -> Option<usize> {
    let total: f32 = weights.clone().sum();
    let mut at = rng.range(0.0, total);
    weights.enumerate().filter(|w| w.1 > 0.0).find_map(|(i, w)| {
        at -= w;
        (at < 0.0).then_some(i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_classes_pairs_and_sizes_follow_the_table() {
        let sets = population();
        assert_eq!(sets.len(), 31_072);
        let both = |a: usize, b: usize| {
            sets.iter().filter(|s| s.contains(a) && s.contains(b)).count() as f64
        };
        for a in 0..CLASSES {
            for b in 0..=a {
                let (is, ought) = (both(a, b), f64::from(count(a, b)));
                assert!(
                    (is - ought).abs() <= 4.0 + 0.01 * ought,
                    "classes {a} and {b}: {is} instead of {ought}"
                );
            }
        }
        for (i, &ought) in CARDINALITY.iter().enumerate() {
            let is = sets.iter().filter(|s| s.len() == i + 1).count();
            assert!(is.abs_diff(ought) <= 5, "{is} sets of {} instead of {ought}", i + 1);
        }
    }
}
