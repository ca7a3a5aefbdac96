//! The repair after the greedy stratification: moves and swaps of single units that bring the parts
//! nearer to their shares.

use std::collections::{BTreeMap, HashMap};

use crate::data::{folds::unit::Unit, labels::CLASSES};

/// Classes, then in the last column the number of samples.
const COLUMNS: usize = CLASSES + 1;
type Row = [f64; COLUMNS];

/// How far class counts and sizes of the parts lie above (+) or below (-) their shares, in samples.
pub struct Balance {
    off: Vec<Row>,
    /// A sample too many of a rare class weighs more: it is a larger part of the class.
    weight: Row,
}

impl Balance {
    pub fn new(units: &[Unit], part_of: &[usize], shares: &[f64]) -> Self {
        let mut total = [0.0; COLUMNS];
        let mut off = vec![[0.0; COLUMNS]; shares.len()];
        for (unit, &part) in units.iter().zip(part_of) {
            for (column, count) in unit.columns() {
                total[column] += count;
                off[part][column] += count;
            }
        }
        for (off, share) in off.iter_mut().zip(shares) {
            off.iter_mut().zip(total).for_each(|(off, total)| *off -= share * total);
        }
        let parts = shares.len() as f64;
        let weight = total.map(|total| 1.0 + 100.0 / (total / parts).max(20.0));
        Self { off, weight }
    }

    fn move_unit(&mut self, unit: &Unit, from: usize, to: usize) {
        for (column, count) in unit.columns() {
            self.off[from][column] -= count;
            self.off[to][column] += count;
        }
    }

    /// Moves units one by one while that lowers the weighted sum of squared deviations; a fixed
    /// number of passes at most.
    pub fn move_units(&mut self, units: &[Unit], shuffled: &[usize], part_of: &mut [usize]) {
        const PASSES: usize = 20;
        for _ in 0..PASSES {
            let mut moved = false;
            for &unit in shuffled {
                let from = part_of[unit];
                let (mut to, mut most) = (from, 1e-9);
                for other in (0..self.off.len()).filter(|&p| p != from) {
                    let gain = |(c, n): (usize, f64)| {
                        self.weight[c] * 2.0 * n * (self.off[from][c] - self.off[other][c] - n)
                    };
                    let gain: f64 = units[unit].columns().map(gain).sum();
                    if gain > most {
                        (to, most) = (other, gain);
                    }
                }
                if to != from {
                    self.move_unit(&units[unit], from, to);
                    part_of[unit] = to;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// Swaps two units (or moves one) between the part with the largest deviation and another so
    /// that the weighted sum of fourth powers, which the largest deviations dominate, falls the
    /// most; until no deviation is as large as one sample, no swap helps, or a fixed number of
    /// swaps is done.
    pub fn swap_units(&mut self, units: &[Unit], shuffled: &[usize], part_of: &mut [usize]) {
        const SWAPS: usize = 400;
        let kinds = Kinds::new(units, shuffled);
        let mut stock: Vec<BTreeMap<usize, Vec<usize>>> = vec![BTreeMap::new(); self.off.len()];
        for &unit in shuffled {
            stock[part_of[unit]].entry(kinds.of[unit]).or_default().push(unit);
        }
        for _ in 0..SWAPS {
            let Some(swap) = self
                .largest()
                .into_iter()
                .find_map(|(part, column)| self.best_swap(&kinds, &stock, part, column))
            else {
                break;
            };
            for (kind, from, to) in
                [(swap.there, swap.part, swap.other), (swap.back, swap.other, swap.part)]
            {
                let Some(kind) = kind else { continue };
                let in_stock = stock[from].get_mut(&kind).expect("a kind in stock");
                let unit = in_stock.pop().expect("kinds without units are removed");
                if in_stock.is_empty() {
                    stock[from].remove(&kind);
                }
                stock[to].entry(kind).or_default().push(unit);
                part_of[unit] = to;
                self.move_unit(&units[unit], from, to);
            }
        }
    }

    /// The (part, column) of the largest deviations of at least one sample, the largest first.
    fn largest(&self) -> Vec<(usize, usize)> {
        const TRIED: usize = 6;
        let cells = (0..self.off.len()).flat_map(|p| (0..COLUMNS).map(move |c| (p, c)));
        let mut cells: Vec<_> =
            cells.filter(|&(p, c)| self.off[p][c].abs() >= 1.0 - 1e-9).collect();
        let size = |&(p, c): &(usize, usize)| self.weight[c] * self.off[p][c].powi(4);
        cells.sort_by(|a, b| size(b).total_cmp(&size(a)));
        cells.truncate(TRIED);
        cells
    }

    fn best_swap(
        &self,
        kinds: &Kinds,
        stock: &[BTreeMap<usize, Vec<usize>>],
        part: usize,
        column: usize,
    ) -> Option<Swap> {
        let mut best: Option<(f64, Swap)> = None;
        let sign = self.off[part][column].signum();
        for other in (0..self.off.len()).filter(|&p| p != part) {
            // What leaves `part` and what comes back, the most promising kinds of each first.
            let slope: Row = std::array::from_fn(|c| {
                self.weight[c] * (self.off[part][c].powi(3) - self.off[other][c].powi(3))
            });
            let there = kinds.promising(&stock[part], |c| slope[c]);
            let back = kinds.promising(&stock[other], |c| -slope[c]);
            for &x in &there {
                for &y in &back {
                    let mut change = [0.0; COLUMNS];
                    kinds.columns(x).iter().for_each(|&(c, n)| change[c] += n);
                    kinds.columns(y).iter().for_each(|&(c, n)| change[c] -= n);
                    if change[column] * sign <= 0.0 {
                        continue;
                    }
                    let gain = self.gain(part, other, kinds.columns(x), kinds.columns(y), &change);
                    if gain > best.as_ref().map_or(1e-9, |b| b.0) {
                        best = Some((gain, Swap { part, other, there: x, back: y }));
                    }
                }
            }
        }
        best.map(|b| b.1)
    }

    /// How far the weighted sum of fourth powers falls where `part` loses `change` to `other`, of
    /// which the columns of the two swapped kinds are not zero.
    fn gain(
        &self,
        part: usize,
        other: usize,
        there: &[(usize, f64)],
        back: &[(usize, f64)],
        change: &Row,
    ) -> f64 {
        let only_back = back.iter().filter(|(c, _)| there.iter().all(|x| x.0 != *c));
        let of_column = |&(c, _): &(usize, f64)| {
            let (a, b, d) = (self.off[part][c], self.off[other][c], change[c]);
            self.weight[c] * (a.powi(4) + b.powi(4) - (a - d).powi(4) - (b + d).powi(4))
        };
        there.iter().chain(only_back).map(of_column).sum()
    }
}

/// A unit of the kind `there` goes from `part` to `other`, one of the kind `back` the other way;
/// `None` is no unit.
struct Swap {
    part: usize,
    other: usize,
    there: Option<usize>,
    back: Option<usize>,
}

/// Units with the same counts, which can stand for each other.
struct Kinds {
    /// The kind of each unit.
    of: Vec<usize>,
    columns: Vec<Vec<(usize, f64)>>,
}

impl Kinds {
    fn new(units: &[Unit], shuffled: &[usize]) -> Self {
        let (mut number, mut columns) = (HashMap::new(), Vec::new());
        let mut of = vec![0; units.len()];
        for &unit in shuffled {
            of[unit] = *number.entry(units[unit].key()).or_insert_with(|| {
                columns.push(units[unit].columns().collect());
                columns.len() - 1
            });
        }
        Self { of, columns }
    }

    fn columns(&self, kind: Option<usize>) -> &[(usize, f64)] {
        kind.map_or(&[], |k| &self.columns[k])
    }

    /// No unit, and the kinds in stock whose removal promises the largest gain.
    fn promising(
        &self,
        stock: &BTreeMap<usize, Vec<usize>>,
        slope: impl Fn(usize) -> f64,
    ) -> Vec<Option<usize>> {
        const TRIED: usize = 40;
        let promise =
            |kind: usize| self.columns[kind].iter().map(|&(c, n)| n * slope(c)).sum::<f64>();
        let mut kinds: Vec<(f64, usize)> =
            stock.keys().map(|&kind| (promise(kind), kind)).collect();
        kinds.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        [None].into_iter().chain(kinds.into_iter().take(TRIED).map(|k| Some(k.1))).collect()
    }
}
