//! All pairs of samples whose red, green and blue hashes each lie within a Hamming radius: brute force, but bit-parallel,
//! block by block so that both sides stay in the cache, and over before green is looked at wherever red is too far.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rayon::prelude::*;

use crate::{
    dedup::UnionFind,
    error::{Error, Result},
};

/// Rows per block; two blocks of three channels take 96 KiB.
const BLOCK: usize = 2048;
/// Candidates that are looked at together; only where one of them is near are they looked at one by one.
const TILE: usize = 128;
/// More pairs than that are no near-duplicates, but a radius that means nothing (400 MB of memory, too).
const MOST_PAIRS: usize = 50_000_000;

/// For each sample the smallest index of its group. Hashes are red, green, blue, yellow; yellow is not looked at.
pub fn groups(hashes: &[[u64; 4]], radius: u32) -> Vec<usize> {
    let sets = Mutex::new(UnionFind::new(hashes.len()));
    each_block(hashes, [0..hashes.len(), 0..hashes.len()], radius, |pairs| {
        let mut sets = sets.lock().unwrap_or_else(|e| e.into_inner());
        pairs.iter().for_each(|&(a, b)| {
            sets.join(a as usize, b as usize);
        });
    });
    let mut sets = sets.into_inner().unwrap_or_else(|e| e.into_inner());
    (0..hashes.len()).map(|i| sets.root(i)).collect()
}

/// All pairs (a, b), a < b, with a in the first of `ranges` and b in the second, in ascending order.
///
/// # Errors
/// [`Error::Usage`] where the radius is so large that nearly everything is near.
pub fn pairs(hashes: &[[u64; 4]], ranges: [Range<usize>; 2], radius: u32) -> Result<Vec<(u32, u32)>> {
    let (all, count) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    each_block(hashes, ranges, radius, |pairs| {
        if count.fetch_add(pairs.len(), Ordering::Relaxed) < MOST_PAIRS {
            all.lock().unwrap_or_else(|e| e.into_inner()).extend_from_slice(pairs);
        }
    });
    if count.into_inner() > MOST_PAIRS {
        return Err(Error::usage(format!("dedup.radius = {radius} finds more than {MOST_PAIRS} pairs; take a smaller radius (up to 12)")));
    }
    let mut all = all.into_inner().unwrap_or_else(|e| e.into_inner());
    all.par_sort_unstable();
    Ok(all)
}

/// Red, green and blue apart, so that equal channels lie side by side.
struct Columns {
    red: Vec<u64>,
    green: Vec<u64>,
    blue: Vec<u64>,
}

/// Calls `found` with the pairs of every two blocks, one of each range, in any order, from several threads.
fn each_block(hashes: &[[u64; 4]], [first, second]: [Range<usize>; 2], radius: u32, found: impl Fn(&[(u32, u32)]) + Sync) {
    assert!(u32::try_from(hashes.len()).is_ok(), "sample numbers fit 32 bits");
    let column = |c: usize| hashes.iter().map(|h| h[c]).collect();
    let columns = Columns { red: column(0), green: column(1), blue: column(2) };
    let blocks = |range: &Range<usize>| {
        let end = range.end;
        range.clone().step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
    };
    let jobs: Vec<_> = blocks(&first).flat_map(|a| blocks(&second).map(move |b| (a.clone(), b))).filter(|(a, b)| b.end > a.start).collect();
    let compare = best_compare();
    jobs.into_par_iter().for_each_init(Vec::new, |pairs, (a, b)| {
        pairs.clear();
        compare(&columns, a, b, radius, pairs);
        if !pairs.is_empty() {
            found(pairs);
        }
    });
}

type Compare = fn(&Columns, Range<usize>, Range<usize>, u32, &mut Vec<(u32, u32)>);

/// The same code, compiled for what this processor counts bits with.
fn best_compare() -> Compare {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq,popcnt")]
        fn eight_at_once(columns: &Columns, a: Range<usize>, b: Range<usize>, radius: u32, pairs: &mut Vec<(u32, u32)>) {
            compare(columns, a, b, radius, pairs);
        }
        #[target_feature(enable = "popcnt")]
        fn one_by_one(columns: &Columns, a: Range<usize>, b: Range<usize>, radius: u32, pairs: &mut Vec<(u32, u32)>) {
            compare(columns, a, b, radius, pairs);
        }
        if is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has what the function is compiled for; checked in the line above.
            return |columns, a, b, radius, pairs| unsafe { eight_at_once(columns, a, b, radius, pairs) };
        }
        if is_x86_feature_detected!("popcnt") {
            // SAFETY: as above.
            return |columns, a, b, radius, pairs| unsafe { one_by_one(columns, a, b, radius, pairs) };
        }
    }
    compare
}

/// The pairs of one sample from the block `a` and a later one from the block `b`.
#[inline(always)]
fn compare(columns: &Columns, a: Range<usize>, b: Range<usize>, radius: u32, pairs: &mut Vec<(u32, u32)>) {
    let near = |x: u64, y: u64| (x ^ y).count_ones() <= radius;
    let radius = u64::from(radius);
    for i in a {
        let query = columns.red[i];
        let mut start = b.start.max(i + 1);
        while start < b.end {
            let stop = (start + TILE).min(b.end);
            let tile = &columns.red[start..stop];
            let hits: u64 = tile.iter().map(|&other| u64::from(u64::from((query ^ other).count_ones()) <= radius)).sum();
            if hits > 0 {
                for j in start..stop {
                    if near(query, columns.red[j]) && near(columns.green[i], columns.green[j]) && near(columns.blue[i], columns.blue[j]) {
                        pairs.push((i as u32, j as u32));
                    }
                }
            }
            start = stop;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    /// Random hashes; one in twenty is a copy of another with up to `radius` + 1 bits changed per channel.
    fn planted(n: usize, radius: u32, seed: u64) -> Vec<[u64; 4]> {
        let mut rng = crate::rng::stream(crate::rng::Use::Synth, seed, 0, 0);
        let mut hashes: Vec<[u64; 4]> = (0..n).map(|_| rng.random()).collect();
        for _ in 0..n / 20 {
            let (from, to) = (rng.random_range(0..n), rng.random_range(0..n));
            let mut copy = hashes[from];
            for hash in &mut copy {
                for _ in 0..rng.random_range(0..=radius + 1) {
                    *hash ^= 1 << rng.random_range(0..64);
                }
            }
            hashes[to] = copy;
        }
        hashes
    }

    /// Every pair, one after the other.
    fn brute(hashes: &[[u64; 4]], radius: u32) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        for a in 0..hashes.len() {
            for b in a + 1..hashes.len() {
                if (0..3).all(|c| (hashes[a][c] ^ hashes[b][c]).count_ones() <= radius) {
                    pairs.push((a as u32, b as u32));
                }
            }
        }
        pairs
    }

    fn all_pairs(hashes: &[[u64; 4]], radius: u32) -> Vec<(u32, u32)> {
        pairs(hashes, [0..hashes.len(), 0..hashes.len()], radius).unwrap()
    }

    #[test]
    fn equals_brute_force_on_ten_thousand_with_planted_copies() {
        for radius in [4, 12] {
            let hashes = planted(10_000, radius, u64::from(radius));
            let want = brute(&hashes, radius);
            assert!(want.len() > 200, "{}", want.len());
            assert_eq!(all_pairs(&hashes, radius), want, "radius {radius}");

            let mut lowest: Vec<usize> = (0..hashes.len()).collect();
            while want.iter().fold(false, |changed, &(a, b)| {
                let low = lowest[a as usize].min(lowest[b as usize]);
                let differ = lowest[a as usize] != lowest[b as usize];
                (lowest[a as usize], lowest[b as usize]) = (low, low);
                changed || differ
            }) {}
            assert_eq!(groups(&hashes, radius), lowest);
        }
    }

    #[test]
    fn all_variants_of_the_kernel_agree_at_the_edges() {
        for (n, radius) in [(0, 4), (1, 4), (2, 64), (BLOCK + 1, 3), (BLOCK + TILE + 1, 22)] {
            let hashes = planted(n, radius.min(20), 9);
            let want = brute(&hashes, radius);
            assert_eq!(all_pairs(&hashes, radius), want, "{n} hashes, radius {radius}");
            let column = |c: usize| hashes.iter().map(|h| h[c]).collect();
            let columns = Columns { red: column(0), green: column(1), blue: column(2) };
            let mut plain = Vec::new();
            compare(&columns, 0..n, 0..n, radius, &mut plain);
            plain.sort_unstable();
            assert_eq!(plain, want);
        }
    }

    #[test]
    fn yellow_does_not_count_and_the_radius_does() {
        let base = [1, 2, 3, 4];
        let hashes = [base, [1, 2, 3, !4], [1 ^ 0xf, 2, 3, 4], [1, 2 ^ 0x1f, 3, 4], [1, 2, 3 ^ 0x1f, 4]];
        assert_eq!(all_pairs(&hashes, 4), [(0, 1), (0, 2), (1, 2)]);
        assert_eq!(groups(&hashes, 4), [0, 0, 0, 3, 4]);
    }
}
