//! Which samples train and which validate: a stratified partition (or independent hold-outs) over
//! whole groups.
//!
//! Groups come from [`dedup`](crate::data::dedup) and from the wells and antibodies in the ids; no
//! group is ever cut.

pub mod table;

mod assign;
mod balance;
mod known;
mod stratify;
mod unit;

use std::collections::HashMap;

use rand::seq::SliceRandom;

use crate::{
    base::rng::{self, Use},
    data::{
        dedup::UnionFind,
        labels::{CLASSES, Labels},
    },
};

pub use assign::{Assigned, assign, assign_table};
pub use known::{Known, key_of};
pub use table::{FoldRow, write};

/// A partition into `k` folds, iteratively stratified over whole groups: the fold of each sample.
///
/// `groups[i]` is any number; equal ones stay together. `order` 1 balances classes (Sechidis,
/// Tsoumakas & Vlahavas 2011, "On the stratification of multi-label data"), 2 pairs of classes
/// first (Szymanski & Kajdanowicz 2017). A repair then moves and swaps single groups as long as
/// that brings class counts and fold sizes nearer to equal shares. The same input and seed give the
/// same folds.
///
/// # Panics
/// Where the lengths differ or `k` is 0.
pub fn split(labels: &[Labels], groups: &[usize], k: usize, order: u8, seed: u64) -> Vec<usize> {
    assert!(k > 0, "at least one fold");
    stratify(labels, groups, &vec![1.0 / k as f64; k], order, seed, 0)
}

/// `k` independent draws of a share `holdout` of the samples, each stratified over whole groups:
/// for each sample the draws in which it validates, which may be none or several.
pub fn shuffle(
    labels: &[Labels],
    groups: &[usize],
    k: usize,
    holdout: f64,
    order: u8,
    seed: u64,
) -> Vec<Vec<usize>> {
    let mut folds = vec![Vec::new(); labels.len()];
    for draw in 0..k {
        for (sample, part) in
            stratify(labels, groups, &[holdout, 1.0 - holdout], order, seed, 1 + draw as u64)
                .into_iter()
                .enumerate()
        {
            if part == 0 {
                folds[sample].push(draw);
            }
        }
    }
    folds
}

fn stratify(
    labels: &[Labels],
    groups: &[usize],
    shares: &[f64],
    order: u8,
    seed: u64,
    draw: u64,
) -> Vec<usize> {
    assert_eq!(labels.len(), groups.len(), "one group per sample");
    let mut rng = rng::stream(Use::Split, seed, draw, 0);
    let groups = dense(groups);
    let mut units = vec![unit::Unit::default(); groups.iter().max().map_or(0, |g| g + 1)];
    for (&group, &set) in groups.iter().zip(labels) {
        units[group].add(set);
    }
    let mut shuffled: Vec<usize> = (0..units.len()).collect();
    shuffled.shuffle(&mut rng);
    let fold_of = stratify::assign(&units, &shuffled, shares, order);
    groups.iter().map(|&g| fold_of[g]).collect()
}

/// The same groups, numbered 0, 1, ... in the order of their first members.
pub fn dense(groups: &[usize]) -> Vec<usize> {
    let mut number = HashMap::with_capacity(groups.len());
    groups
        .iter()
        .map(|g| {
            let next = number.len();
            *number.entry(g).or_insert(next)
        })
        .collect()
}

/// Groups of samples that share a key in any of the columns, transitively, numbered by first
/// members. Each column gives one key per sample, or `None` where the sample has none there (it
/// then stands alone in that column).
pub fn groups_of<K: std::hash::Hash + Eq + Copy>(
    samples: usize,
    columns: &[Vec<Option<K>>],
) -> Vec<usize> {
    let mut sets = UnionFind::new(samples);
    for column in columns {
        let mut first = HashMap::new();
        for (sample, key) in column.iter().enumerate() {
            if let Some(key) = key {
                sets.join(*first.entry(*key).or_insert(sample), sample);
            }
        }
    }
    dense(&(0..samples).map(|s| sets.root(s)).collect::<Vec<_>>())
}

/// How even a partition is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Quality {
    /// Samples per fold.
    pub sizes: Vec<usize>,
    /// Largest |count - share| over folds and classes, in samples.
    pub max_abs_count_deviation: f64,
    /// Mean of |count - share| / max(share, 1) over folds and classes.
    pub mean_rel_deviation: f64,
    /// The class in which the largest deviation is.
    pub worst_class: usize,
}

/// Samples of each class.
fn count(sets: impl Iterator<Item = Labels>) -> [f64; CLASSES] {
    let mut counts = [0.0; CLASSES];
    sets.for_each(|set| set.iter().for_each(|class| counts[class] += 1.0));
    counts
}

/// Measures folds `members[fold]` (sample indices) against equal shares `share` of all samples,
/// such as 1/k.
pub fn quality(labels: &[Labels], members: &[Vec<usize>], share: f64) -> Quality {
    let total = count(labels.iter().copied());
    let (mut worst, mut worst_class, mut sum) = (0.0, 0, 0.0);
    for members in members {
        let counts = count(members.iter().map(|&i| labels[i]));
        for class in 0..CLASSES {
            let want = total[class] * share;
            let off: f64 = f64::abs(counts[class] - want);
            sum += off / want.max(1.0);
            if off > worst {
                (worst, worst_class) = (off, class);
            }
        }
    }
    Quality {
        sizes: members.iter().map(Vec::len).collect(),
        max_abs_count_deviation: worst,
        mean_rel_deviation: sum / (members.len() * CLASSES).max(1) as f64,
        worst_class,
    }
}

#[cfg(test)]
mod tests;
