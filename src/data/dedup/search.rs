//! All pairs of samples whose red, green and blue hashes each lie within a Hamming radius. Of two
//! red hashes within `r` bits at least one of five bands differs by at most `r / 5` bits
//! (multi-index hashing; Norouzi, Punjani and Fleet 2012): only samples with bands so near are
//! compared, bucket by bucket, bit-parallel.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use multiversion::multiversion;
use rayon::prelude::*;

use crate::{
    base::{Error, Result},
    data::dedup::UnionFind,
};

/// Samples of a bucket that are compared at a time; two blocks of three channels take 96 KiB.
const BLOCK: usize = 2048;
/// Candidates that are compared together; only where one of them is near are they compared one by
/// one.
const TILE: usize = 128;
/// More pairs than that (400 MB of memory) mean that the radius is too large to separate
/// near-duplicates.
const MOST_PAIRS: usize = 50_000_000;

/// For each sample the smallest index of its group. Hashes are red, green, blue, yellow; yellow is
/// ignored.
pub fn groups(hashes: &[[u64; 4]], radius: u32) -> Vec<usize> {
    let sets = Mutex::new(UnionFind::new(hashes.len()));
    each_pair(hashes, [0..hashes.len(), 0..hashes.len()], radius, |pairs| {
        let mut sets = sets.lock().unwrap_or_else(|e| e.into_inner());
        pairs.iter().for_each(|&(a, b)| {
            sets.join(a as usize, b as usize);
        });
    });
    let mut sets = sets.into_inner().unwrap_or_else(|e| e.into_inner());
    (0..hashes.len()).map(|i| sets.root(i)).collect()
}

/// All pairs (a, b), a < b, with a in the first of `ranges` and b in the second, in ascending
/// order.
///
/// # Errors
/// [`Error::Usage`] where the radius is so large that nearly everything is near.
pub fn pairs(
    hashes: &[[u64; 4]],
    ranges: [Range<usize>; 2],
    radius: u32,
) -> Result<Vec<(u32, u32)>> {
    let (all, count) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    each_pair(hashes, ranges, radius, |pairs| {
        if count.fetch_add(pairs.len(), Ordering::Relaxed) < MOST_PAIRS {
            all.lock().unwrap_or_else(|e| e.into_inner()).extend_from_slice(pairs);
        }
    });
    if count.into_inner() > MOST_PAIRS {
        return Err(Error::usage(format!(
            "dedup.radius = {radius} finds more than {MOST_PAIRS} pairs; take a smaller radius (up \
                to 12)"
        )));
    }
    let mut all = all.into_inner().unwrap_or_else(|e| e.into_inner());
    all.par_sort_unstable();
    Ok(all)
}

/// A part of the bits of a hash.
#[derive(Clone, Copy)]
struct Band {
    shift: u32,
    bits: u32,
}

impl Band {
    fn key(self, hash: u64) -> usize {
        (hash >> self.shift) as usize & ((1 << self.bits) - 1)
    }
}

/// Below that many samples it is faster to compare all than to search near buckets.
const FEW: usize = 8192;

/// Bands, and by how many bits two hashes within `radius` differ at most in one of them. Where that
/// would leave most pairs to compare, or there are few, a single band of no bits, in which all
/// hashes are alike.
fn bands(radius: u32, samples: usize) -> (Vec<Band>, u32) {
    match radius / 5 {
        most @ 0..=3 if samples >= FEW => (
            [0, 13, 26, 39, 52].map(|shift| Band { shift, bits: 13.min(64 - shift) }).to_vec(),
            most,
        ),
        _ => (vec![Band { shift: 0, bits: 0 }], 0),
    }
}

/// Samples in the order of a band of red, channels apart, so that those that are compared lie side
/// by side.
struct Buckets {
    /// Where the samples of each key begin, and the end.
    starts: Vec<usize>,
    samples: Vec<u32>,
    red: Vec<u64>,
    green: Vec<u64>,
    blue: Vec<u64>,
}

impl Buckets {
    fn new(hashes: &[[u64; 4]], range: Range<usize>, band: Band) -> Self {
        let mut starts = vec![0; (1 << band.bits) + 1];
        hashes[range.clone()].iter().for_each(|h| starts[band.key(h[0]) + 1] += 1);
        (1..starts.len()).for_each(|key| starts[key] += starts[key - 1]);
        let (mut next, mut samples) = (starts.clone(), vec![0; range.len()]);
        for sample in range {
            let next = &mut next[band.key(hashes[sample][0])];
            samples[*next] = sample as u32;
            *next += 1;
        }
        let column = |c: usize| samples.iter().map(|&s| hashes[s as usize][c]).collect();
        Self { starts, red: column(0), green: column(1), blue: column(2), samples }
    }

    /// The places of the samples with a key.
    fn of(&self, key: usize) -> Range<usize> {
        self.starts[key]..self.starts[key + 1]
    }
}

fn blocks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

/// Calls `found` with the pairs (a, b), a < b, with a in the first of `ranges` and b in the second,
/// each pair once, in any order, from several threads.
fn each_pair(
    hashes: &[[u64; 4]],
    [first, second]: [Range<usize>; 2],
    radius: u32,
    found: impl Fn(&[(u32, u32)]) + Sync,
) {
    assert!(u32::try_from(hashes.len()).is_ok(), "sample numbers fit 32 bits");
    let (bands, most) = bands(radius, first.len().max(second.len()));
    for (number, band) in bands.iter().enumerate() {
        let a = Buckets::new(hashes, first.clone(), *band);
        let other = (first != second).then(|| Buckets::new(hashes, second.clone(), *band));
        let b = other.as_ref().unwrap_or(&a);
        let masks: Vec<usize> =
            (0..1usize << band.bits).filter(|mask| mask.count_ones() <= most).collect();
        // What two bands find counts in the first of them.
        let found_before = |x: u64, y: u64| {
            bands[..number].iter().any(|band| (band.key(x) ^ band.key(y)).count_ones() <= most)
        };
        let one = |(pairs, places): &mut (Vec<_>, Vec<_>), (key, rows): (usize, Range<usize>)| {
            pairs.clear();
            for mask in &masks {
                let near = key ^ mask;
                for candidates in blocks(b.of(near)) {
                    // Within one set of samples each two buckets, and each two samples of a bucket,
                    // meet once.
                    if other.is_none() && (near < key || candidates.end <= rows.start) {
                        continue;
                    }
                    places.clear();
                    let later = other.is_none() && near == key;
                    compare(&a, rows.clone(), b, candidates, later, radius, places);
                    let new = places.iter().filter(|(i, j)| !found_before(a.red[*i], b.red[*j]));
                    let samples = new.map(|(i, j)| (a.samples[*i], b.samples[*j]));
                    pairs.extend(match other {
                        None => samples.map(|(i, j)| (i.min(j), i.max(j))).collect::<Vec<_>>(),
                        Some(_) => samples.filter(|(i, j)| i < j).collect(),
                    });
                }
            }
            if !pairs.is_empty() {
                found(pairs);
            }
        };
        let jobs: Vec<_> = (0..a.starts.len() - 1)
            .flat_map(|key| blocks(a.of(key)).map(move |rows| (key, rows)))
            .collect();
        jobs.into_par_iter().for_each_init(Default::default, one);
    }
}

/// The places of all pairs of a row of `a` and a candidate of `b`; with `later` only of later
/// candidates.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512vpopcntdq+popcnt", "x86_64+popcnt"))]
fn compare(
    a: &Buckets,
    rows: Range<usize>,
    b: &Buckets,
    candidates: Range<usize>,
    later: bool,
    radius: u32,
    places: &mut Vec<(usize, usize)>,
) {
    let near = |x: u64, y: u64| (x ^ y).count_ones() <= radius;
    for i in rows {
        let query = a.red[i];
        let mut start = if later { candidates.start.max(i + 1) } else { candidates.start };
        while start < candidates.end {
            let stop = (start + TILE).min(candidates.end);
            let hits: u64 =
                b.red[start..stop].iter().map(|&other| u64::from(near(query, other))).sum();
            if hits > 0 {
                for j in start..stop {
                    if near(query, b.red[j])
                        && near(a.green[i], b.green[j])
                        && near(a.blue[i], b.blue[j])
                    {
                        places.push((i, j));
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

    /// Random hashes; one in twenty is a copy of another with up to `radius` + 1 bits changed per
    /// channel.
    fn planted(n: usize, radius: u32, seed: u64) -> Vec<[u64; 4]> {
        let mut rng = crate::base::rng::stream(crate::base::rng::Use::Synth, seed, 0, 0);
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
    fn edges_of_blocks_and_all_numbers_of_bands() {
        for (n, radius) in [
            (0, 4),
            (1, 4),
            (2, 64),
            (BLOCK + 1, 3),
            (BLOCK + TILE + 1, 22),
            (FEW, 5),
            (FEW, 14),
            (FEW, 19),
            (FEW, 20),
        ] {
            let hashes = planted(n, radius.min(20), 9);
            let want = brute(&hashes, radius);
            assert_eq!(all_pairs(&hashes, radius), want, "{n} hashes, radius {radius}");
        }
    }

    #[test]
    fn hashes_that_all_share_their_bands_are_compared_too() {
        let hashes: Vec<[u64; 4]> =
            (0..FEW as u64 + 300).map(|i| [i & 1, i << 7, i << 20, 0]).collect();
        for radius in [4, 12] {
            assert_eq!(all_pairs(&hashes, radius), brute(&hashes, radius));
        }
    }

    #[test]
    fn parts_of_the_samples_give_their_share_of_the_pairs() {
        let hashes = planted(FEW + 4000, 12, 5);
        let want = brute(&hashes, 12);
        for [first, second] in [
            [0..1000, 1000..12_000],
            [4000..12_000, 0..12_000],
            [0..9000, 3000..FEW + 4000],
            [0..3000, 2000..5000],
        ] {
            let mut mine = want.clone();
            mine.retain(|(a, b)| first.contains(&(*a as usize)) && second.contains(&(*b as usize)));
            let got = pairs(&hashes, [first.clone(), second.clone()], 12).unwrap();
            assert_eq!(got, mine, "{first:?} {second:?}");
        }
    }

    #[test]
    fn yellow_does_not_count_and_the_radius_does() {
        let base = [1, 2, 3, 4];
        let hashes =
            [base, [1, 2, 3, !4], [1 ^ 0xf, 2, 3, 4], [1, 2 ^ 0x1f, 3, 4], [1, 2, 3 ^ 0x1f, 4]];
        assert_eq!(all_pairs(&hashes, 4), [(0, 1), (0, 2), (1, 2)]);
        assert_eq!(groups(&hashes, 4), [0, 0, 0, 3, 4]);
    }
}
