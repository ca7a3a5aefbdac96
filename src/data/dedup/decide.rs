//! From candidate pairs to groups, the sample of each group that is kept, and matches with the test
//! set.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
};

use rayon::prelude::*;

use crate::{
    base::{Result, progress::Progress},
    data::{
        dedup::{UnionFind, thumb::Thumb},
        labels::Labels,
    },
};

/// The properties of a sample that decisions depend on. Training samples come first, then those of
/// the test set.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub test: bool,
    pub official: bool,
    pub labels: Labels,
}

/// Near-duplicates among the training samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The sample that is kept.
    pub kept: usize,
    /// All members, ascending, each with its correlation with the kept one; `None` where they have
    /// no contrast in common.
    pub members: Vec<(usize, Option<f32>)>,
}

/// A training sample that is also in the test set.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    pub train: usize,
    pub test: usize,
    pub correlation: f32,
}

/// A pair of samples (the first before the second) whose images match, too, and the correlation of
/// these.
pub type Confirmed = (u32, u32, f32);

/// Of the candidate `pairs` (a < b, ascending) those whose thumbnails correlate. Pairs within the
/// test set are ignored. Of the pairs of training samples only as many are compared as are needed
/// to know which samples belong together, directly or through others.
///
/// # Errors
/// Those of `thumb`, which reads a sample's image.
pub fn confirm(
    samples: &[Candidate],
    pairs: &[(u32, u32)],
    min_correlation: f32,
    thumb: impl Fn(usize) -> Result<Thumb> + Sync,
) -> Result<Vec<Confirmed>> {
    let progress = Progress::new("dedup", "pairs", pairs.len() as u64);
    let pairs = pairs.iter().copied().filter(|&(a, _)| !samples[a as usize].test);
    let parts: Vec<Vec<Confirmed>> = components(samples.len(), pairs, |pair| pair)
        .into_par_iter()
        .map(|pairs| {
            let confirmed = confirm_component(samples, &pairs, min_correlation, &thumb);
            progress.add(pairs.len() as u64);
            confirmed
        })
        .collect::<Result<_>>()?;
    let mut confirmed = parts.concat();
    confirmed.sort_unstable_by_key(|&(a, b, _)| (a, b));
    Ok(confirmed)
}

/// Joins confirmed pairs transitively and decides which sample of each group is kept: official
/// before external, then more labels, then the first.
///
/// A group is joined over training samples alone: two of them that only match the same test sample
/// stay apart.
///
/// # Errors
/// Those of `thumb`, which reads a sample's image.
pub fn decide(
    samples: &[Candidate],
    confirmed: Vec<Confirmed>,
    thumb: impl Fn(usize) -> Result<Thumb> + Sync,
) -> Result<(Vec<Group>, Vec<Leak>)> {
    let (leaking, joining): (Vec<_>, Vec<_>) =
        confirmed.into_iter().partition(|&(_, b, _)| samples[b as usize].test);
    let mut leaks: Vec<Leak> = leaking
        .into_iter()
        .map(|(a, b, correlation)| Leak { train: a as usize, test: b as usize, correlation })
        .collect();
    leaks.sort_by_key(|l| (l.train, l.test));
    let group = |pairs: Vec<Confirmed>| {
        let members: BTreeSet<usize> =
            pairs.iter().flat_map(|&(a, b, _)| [a as usize, b as usize]).collect();
        let rank =
            |i: &usize| (Reverse(samples[*i].official), Reverse(samples[*i].labels.len()), *i);
        let kept = members.iter().copied().min_by_key(rank).expect("a pair has members");
        let standard = thumb(kept)?;
        let with = |i: usize| {
            Ok((i, if i == kept { Some(1.0) } else { thumb(i)?.correlation(&standard) }))
        };
        Ok(Group { kept, members: members.into_iter().map(with).collect::<Result<_>>()? })
    };
    let mut groups: Vec<Group> = components(samples.len(), joining.into_iter(), |(a, b, _)| (a, b))
        .into_par_iter()
        .map(group)
        .collect::<Result<_>>()?;
    groups.sort_by_key(|g| g.members[0].0);
    Ok((groups, leaks))
}

/// The pairs, parted into sets that share no sample.
fn components<T: Copy>(
    samples: usize,
    pairs: impl Iterator<Item = T>,
    of: impl Fn(T) -> (u32, u32),
) -> Vec<Vec<T>> {
    let pairs: Vec<T> = pairs.collect();
    let mut sets = UnionFind::new(samples);
    for (a, b) in pairs.iter().map(|&pair| of(pair)) {
        sets.join(a as usize, b as usize);
    }
    let mut components: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    for pair in pairs {
        components.entry(sets.root(of(pair).0 as usize)).or_default().push(pair);
    }
    components.into_values().collect()
}

fn confirm_component(
    samples: &[Candidate],
    pairs: &[(u32, u32)],
    min_correlation: f32,
    thumb: impl Fn(usize) -> Result<Thumb>,
) -> Result<Vec<Confirmed>> {
    let mut thumbs = BTreeMap::new();
    for &sample in pairs.iter().flat_map(|(a, b)| [a, b]) {
        if let Entry::Vacant(place) = thumbs.entry(sample) {
            place.insert(thumb(sample as usize)?);
        }
    }
    let members: Vec<u32> = thumbs.keys().copied().collect();
    let place =
        |sample: u32| members.binary_search(&sample).expect("every sample of a pair is a member");
    let mut sets = UnionFind::new(members.len());
    let mut confirmed = Vec::new();
    for &(a, b) in pairs {
        let (at, bt) = (place(a), place(b));
        let leak = samples[b as usize].test;
        if !leak && sets.root(at) == sets.root(bt) {
            continue; // joined already, through others
        }
        if let Some(correlation) =
            thumbs[&a].correlation(&thumbs[&b]).filter(|&r| r >= min_correlation)
        {
            confirmed.push((a, b, correlation));
            if !leak {
                sets.join(at, bt);
            }
        }
    }
    Ok(confirmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images that differ by a number: equal numbers give copies.
    fn thumb_of(number: usize) -> Thumb {
        let pixel = |i: usize| {
            [0, 7, 13].map(|c| {
                (crate::base::checksum::of(&[number as u8, (i / 64) as u8, (i % 64 / 4) as u8, c])
                    % 256) as u8
            })
        };
        let image: Vec<u8> = (0..64 * 64)
            .flat_map(|i| {
                let [r, g, b] = pixel(i);
                [r, g, b, 0]
            })
            .collect();
        Thumb::new(&image, 64)
    }

    fn run(samples: &[(bool, bool, &str, usize)]) -> (Vec<Group>, Vec<Leak>) {
        let candidates: Vec<Candidate> = samples
            .iter()
            .map(|s| Candidate { test: s.0, official: s.1, labels: Labels::parse(s.2).unwrap() })
            .collect();
        let n = samples.len() as u32;
        let pairs: Vec<(u32, u32)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
        let thumb = |i: usize| Ok(thumb_of(samples[i].3));
        decide(&candidates, confirm(&candidates, &pairs, 0.9, thumb).unwrap(), thumb).unwrap()
    }

    #[test]
    fn official_then_more_labels_then_first_stays() {
        let (groups, _) = run(&[
            (false, false, "1 2 3", 1),
            (false, true, "1", 1),
            (false, true, "1 2", 1),
            (false, true, "3 4", 1),
            (false, false, "0", 2),
            (false, false, "0 5", 2),
            (false, true, "0", 3),
        ]);
        let short: Vec<(usize, Vec<usize>)> =
            groups.iter().map(|g| (g.kept, g.members.iter().map(|m| m.0).collect())).collect();
        assert_eq!(short, [(2, vec![0, 1, 2, 3]), (5, vec![4, 5])]);
        assert!(groups.iter().flat_map(|g| &g.members).all(|m| m.1.unwrap() > 0.999));
    }

    #[test]
    fn test_samples_leak_but_do_not_join() {
        let (groups, leaks) = run(&[
            (false, true, "1", 1),
            (false, true, "1", 2),
            (true, true, "", 1),
            (true, true, "", 1),
        ]);
        assert!(groups.is_empty());
        assert_eq!(leaks.iter().map(|l| (l.train, l.test)).collect::<Vec<_>>(), [(0, 2), (0, 3)]);
    }
}
