//! Iterative stratification of units (groups of samples) over parts with given shares.

use crate::data::{
    folds::{balance::Balance, unit::Unit},
    labels::CLASSES,
};

/// The part of each unit. `shuffled` lists all units in random order, which breaks ties.
pub fn assign(units: &[Unit], shuffled: &[usize], shares: &[f64], order: u8) -> Vec<usize> {
    let mut parts = greedy(units, shuffled, shares, order);
    let mut balance = Balance::new(units, &parts, shares);
    balance.move_units(units, shuffled, &mut parts);
    balance.swap_units(units, shuffled, &mut parts);
    parts
}

/// Takes the features from the rarest of those that still have units: these, large ones first, go
/// to the part that lacks the feature most, among equals to the one that lacks samples most.
fn greedy(units: &[Unit], shuffled: &[usize], shares: &[f64], order: u8) -> Vec<usize> {
    const NOWHERE: usize = usize::MAX;
    let features: Vec<Vec<(u16, u32)>> = units.iter().map(|u| u.features(order)).collect();
    let mut remaining = vec![0u64; CLASSES * CLASSES];
    let mut holders = vec![Vec::new(); CLASSES * CLASSES];
    for &unit in shuffled {
        for &(feature, count) in &features[unit] {
            remaining[feature as usize] += u64::from(count);
            holders[feature as usize].push((count, unit));
        }
    }
    let samples: f64 = units.iter().map(|u| f64::from(u.size)).sum();
    let mut room: Vec<f64> = shares.iter().map(|s| s * samples).collect();
    let mut want: Vec<Vec<f64>> =
        shares.iter().map(|s| remaining.iter().map(|&n| s * n as f64).collect()).collect();
    let mut part_of = vec![NOWHERE; units.len()];

    while let Some(rarest) =
        (0..remaining.len()).filter(|&f| remaining[f] > 0).min_by_key(|&f| remaining[f])
    {
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
                remaining[feature as usize] -= u64::from(count);
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
