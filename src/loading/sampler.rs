//! Which samples an epoch draws, and in which order: a pure function of (configuration, labels,
//! epoch).

use rand::{RngExt, seq::SliceRandom};

use crate::{
    base::rng::{self, Use},
    config::{Sampling, Train},
    data::labels::{CLASSES, Labels},
};

/// One draw of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Index into the labels given to [`epoch_order`].
    pub sample: usize,
    /// Position in the epoch: makes the augmentations of a sample that is drawn twice differ,
    /// whatever rank or worker computes them.
    pub key: u64,
}

/// As many draws as there are labels, in the order of training, by `train.sampling`,
/// `train.balance` and `train.seed`.
pub fn epoch_order(train: &Train, labels: &[Labels], epoch: u64) -> Vec<Draw> {
    let n = labels.len();
    let mut rng = rng::stream(Use::Order, train.seed, epoch, 0);
    let samples: Vec<usize> = match train.sampling {
        Sampling::Uniform => {
            let mut all: Vec<usize> = (0..n).collect();
            all.shuffle(&mut rng);
            all
        }
        Sampling::Replacement => (0..n).map(|_| rng.random_range(0..n)).collect(),
        Sampling::Balanced => {
            let mut total = 0.0;
            let until: Vec<f64> = weights(labels, train.balance)
                .map(|w| {
                    total += w;
                    total
                })
                .collect();
            // Rounding can make the product equal to the total, hence the min.
            (0..n)
                .map(|_| rng.random::<f64>() * total)
                .map(|u| until.partition_point(|&t| t <= u).min(n - 1))
                .collect()
        }
    };
    samples.into_iter().zip(0..).map(|(sample, key)| Draw { sample, key }).collect()
}

/// (Frequency of the sample's rarest class)^-balance, up to a common factor. Samples without labels
/// count as a class.
fn weights(labels: &[Labels], balance: f64) -> impl Iterator<Item = f64> {
    let mut counts = [0usize; CLASSES + 1];
    for set in labels {
        classes(*set).for_each(|c| counts[c] += 1);
    }
    labels.iter().map(move |set| {
        let rarest = classes(*set).map(|c| counts[c]).min().unwrap_or(1);
        (rarest as f64).powf(-balance)
    })
}

/// The classes of a sample; [`CLASSES`] where it has none.
fn classes(set: Labels) -> impl Iterator<Item = usize> {
    set.iter().chain(set.is_empty().then_some(CLASSES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(sampling: Sampling) -> Train {
        Train { sampling, seed: 7, balance: 0.5, ..Train::default() }
    }

    /// 900 of class 0, 90 of classes 0 and 1, 9 of classes 1 and 2, one without a label.
    fn labels() -> Vec<Labels> {
        let set = |classes: &[usize]| Labels::from_classes(classes.iter().copied()).unwrap();
        [vec![set(&[0]); 900], vec![set(&[0, 1]); 90], vec![set(&[1, 2]); 9], vec![set(&[])]]
            .concat()
    }

    fn samples(train: &Train, epoch: u64) -> Vec<usize> {
        epoch_order(train, &labels(), epoch).iter().map(|d| d.sample).collect()
    }

    #[test]
    fn uniform_is_a_shuffled_permutation() {
        let order = samples(&train(Sampling::Uniform), 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(order, sorted);
    }

    #[test]
    fn every_order_depends_on_seed_and_epoch_only() {
        for sampling in [Sampling::Uniform, Sampling::Replacement, Sampling::Balanced] {
            let train = train(sampling);
            let order = epoch_order(&train, &labels(), 1);
            assert_eq!(order, epoch_order(&train, &labels(), 1));
            assert_ne!(order, epoch_order(&train, &labels(), 2));
            assert_ne!(order, epoch_order(&Train { seed: 8, ..train.clone() }, &labels(), 1));
            assert!(order.iter().map(|d| d.key).eq(0..1000));
            assert!(order.iter().all(|d| d.sample < 1000));
            assert!(epoch_order(&train, &[], 1).is_empty());
        }
    }

    #[test]
    fn replacement_leaves_out_one_in_e() {
        let mut order = samples(&train(Sampling::Replacement), 0);
        order.sort_unstable();
        order.dedup();
        // Expected 1000 (1 - 1/e) = 632 with a standard deviation of 9.8.
        assert!((590..675).contains(&order.len()), "{}", order.len());
    }

    #[test]
    fn balanced_draws_follow_the_rarest_class() {
        let train = train(Sampling::Balanced);
        let mut drawn = [0.0; 4];
        for epoch in 0..200 {
            for sample in samples(&train, epoch) {
                drawn[[900, 990, 999, 1000].partition_point(|&end| end <= sample)] += 1.0;
            }
        }
        // Class counts: 990, 99, 9 and one unlabelled; members times count^-1/2.
        let mass = [900.0 / 990f64.sqrt(), 90.0 / 99f64.sqrt(), 9.0 / 3.0, 1.0];
        let total: f64 = mass.iter().sum();
        for (drawn, mass) in drawn.iter().zip(mass) {
            let expected = 200_000.0 * mass / total;
            let off = (drawn - expected).abs();
            assert!(off < 5.0 * expected.sqrt(), "{drawn} draws, expected {expected}");
        }
    }
}
