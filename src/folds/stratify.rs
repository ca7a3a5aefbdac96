//! Iterative stratification of units (groups of samples) over parts with given shares, and the repair after it.

use crate::labels::{CLASSES, Labels};

/// A group as stratification sees it: how many samples it has, of each class and of each pair of classes.
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

    /// (feature, samples with it): the classes, or with order 2 the pairs of classes, a class with itself included.
    fn features(&self, order: u8) -> Vec<(u16, u32)> {
        if order < 2 {
            return self.classes.clone();
        }
        let mut pairs = Vec::new();
        for set in &self.sets {
            for a in set.iter() {
                set.iter().filter(|&b| b >= a).for_each(|b| bump(&mut pairs, (a * CLASSES + b) as u16));
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
    Balance::new(units, &parts, shares).repair(units, shuffled, &mut parts);
    parts
}

/// Always the rarest feature that is left: its units, large ones first, go to the part that lacks it most, then to the
/// one that lacks samples most.
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
    let mut want: Vec<Vec<f64>> = shares.iter().map(|s| left.iter().map(|&n| s * n as f64).collect()).collect();
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
    let mut rest: Vec<usize> = shuffled.iter().copied().filter(|&u| part_of[u] == NOWHERE).collect();
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

/// How far class counts and sizes of the parts lie above (+) or below (-) their shares. Column `CLASSES` is the size.
struct Balance {
    off: Vec<[f64; CLASSES + 1]>,
}

impl Balance {
    fn new(units: &[Unit], part_of: &[usize], shares: &[f64]) -> Self {
        let mut total = [0.0; CLASSES + 1];
        let mut off = vec![[0.0; CLASSES + 1]; shares.len()];
        for (unit, &part) in units.iter().zip(part_of) {
            for (column, count) in columns(unit) {
                total[column] += count;
                off[part][column] += count;
            }
        }
        for (off, share) in off.iter_mut().zip(shares) {
            off.iter_mut().zip(total).for_each(|(off, total)| *off -= share * total);
        }
        Self { off }
    }

    /// Change of the sum of squared deviations when `unit` goes from one part to another.
    fn gain(&self, unit: &Unit, from: usize, to: usize) -> f64 {
        columns(unit).map(|(c, n)| 2.0 * n * (self.off[from][c] - self.off[to][c] - n)).sum()
    }

    fn move_unit(&mut self, unit: &Unit, from: usize, to: usize) {
        for (column, count) in columns(unit) {
            self.off[from][column] -= count;
            self.off[to][column] += count;
        }
    }

    /// Moves units one by one while that lowers the sum of squared deviations; a fixed number of passes at most.
    fn repair(&mut self, units: &[Unit], shuffled: &[usize], part_of: &mut [usize]) {
        const PASSES: usize = 20;
        for _ in 0..PASSES {
            let mut moved = false;
            for &unit in shuffled {
                let from = part_of[unit];
                let gain = |to: usize| self.gain(&units[unit], from, to);
                let best = (0..self.off.len())
                    .filter(|&to| to != from)
                    .map(|to| (gain(to), to))
                    .fold((1e-9, from), |a, b| if b.0 > a.0 { b } else { a });
                if best.1 != from {
                    self.move_unit(&units[unit], from, best.1);
                    part_of[unit] = best.1;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
    }
}

fn columns(unit: &Unit) -> impl Iterator<Item = (usize, f64)> {
    unit.classes.iter().map(|&(class, count)| (class as usize, f64::from(count))).chain([(CLASSES, f64::from(unit.size))])
}
