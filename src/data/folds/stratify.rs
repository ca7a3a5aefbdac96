//! Iterative stratification of units (groups of samples) over parts with given shares.

use crate::data::{
    folds::balance::Balance,
    labels::{CLASSES, Labels},
};

/// A group as stratification sees it: how many samples it has, of each class and of each pair of
/// classes.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    size: u32,
    sets: Vec<Labels>,
    /// (class, samples with it), sorted.
    classes: Vec<(u16, u32)>,
}

impl Unit {
    pub fn add(&mut self, set: Labels) {
        self.size += 1;
        set.iter().for_each(|class| bump(&mut self.classes, class as u16));
        self.sets.push(set);
    }

    /// (column, samples): the classes, then in column [`CLASSES`] all samples.
    pub fn columns(&self) -> impl Iterator<Item = (usize, f64)> {
        self.classes
            .iter()
            .map(|&(class, count)| (class as usize, f64::from(count)))
            .chain([(CLASSES, f64::from(self.size))])
    }

    /// Units with equal keys can stand for each other.
    pub fn key(&self) -> (&[(u16, u32)], u32) {
        (&self.classes, self.size)
    }

    /// (feature, samples with it): the classes, or with order 2 the pairs of classes, a class with
    /// itself included.
    fn features(&self, order: u8) -> Vec<(u16, u32)> {
        if order < 2 {
            return self.classes.clone();
        }
        let mut pairs = Vec::new();
        for set in &self.sets {
            for a in set.iter() {
                set.iter()
                    .filter(|&b| b >= a)
                    .for_each(|b| bump(&mut pairs, (a * CLASSES + b) as u16));
            }
        }
        pairs
    }
}

fn bump(counts: &mut Vec<(u16, u32)>, key: u16) {
    match counts.binary_search_by_key(&key, |c| c.0) {
        Ok(at) => counts[at].1 += 1,
        Err(at) => counts.insert(at, (key, 1)),
    }
}

/// The part of each unit. `shuffled` lists all units in random order, which breaks ties.
pub fn assign(units: &[Unit], shuffled: &[usize], shares: &[f64], order: u8) -> Vec<usize> {
    let mut parts = greedy(units, shuffled, shares, order);
    let mut balance = Balance::new(units, &parts, shares);
    balance.move_units(units, shuffled, &mut parts);
    balance.swap_units(units, shuffled, &mut parts);
    parts
}

/// Always the rarest feature that is left: its units, large ones first, go to the part that lacks
/// it most, then to the one that lacks samples most.
fn greedy(units: &[Unit], shuffled: &[usize], shares: &[f64], order: u8) -> Vec<usize> {
    const NOWHERE: usize = usize::MAX;
    let features: Vec<Vec<(u16, u32)>> = units.iter().map(|u| u.features(order)).collect();
    let mut left = vec![0u64; CLASSES * CLASSES];
    let mut holders = vec![Vec::new(); CLASSES * CLASSES];
    for &unit in shuffled {
        for &(feature, count) in &features[unit] {
            left[feature as usize] += u64::from(count);
            holders[feature as usize].push((count, unit));
        }
    }
    let samples: f64 = units.iter().map(|u| f64::from(u.size)).sum();
    let mut room: Vec<f64> = shares.iter().map(|s| s * samples).collect();
    let mut want: Vec<Vec<f64>> =
        shares.iter().map(|s| left.iter().map(|&n| s * n as f64).collect()).collect();
    let mut part_of = vec![NOWHERE; units.len()];

    while let Some(rarest) = (0..left.len()).filter(|&f| left[f] > 0).min_by_key(|&f| left[f]) {
        let mut queue = std::mem::take(&mut holders[rarest]);
        queue.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
        for (_, unit) in queue {
            if part_of[unit] != NOWHERE {
                continue;
            }
            let part = most(shares.len(), |p| (want[p][rarest], room[p]));
            part_of[unit] = part;
            room[part] -= f64::from(units[unit].size);
            for &(feature, count) in &features[unit] {
                want[part][feature as usize] -= f64::from(count);
                left[feature as usize] -= u64::from(count);
            }
        }
    }
    let mut rest: Vec<usize> =
        shuffled.iter().copied().filter(|&u| part_of[u] == NOWHERE).collect();
    rest.sort_by_key(|&u| std::cmp::Reverse(units[u].size));
    for unit in rest {
        part_of[unit] = most(shares.len(), |p| (room[p], 0.0));
        room[part_of[unit]] -= f64::from(units[unit].size);
    }
    part_of
}

/// The first part with the largest value.
fn most(parts: usize, value: impl Fn(usize) -> (f64, f64)) -> usize {
    (1..parts).fold(0, |best, p| if value(p) > value(best) { p } else { best })
}
