//! The results of the tasks of an array, in files that `dedup --merge` reads.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::decide::Confirmed;
use crate::base::{Error, Result, atomic_file};

/// Near pairs of samples.
#[derive(Default, Serialize, Deserialize)]
pub struct NearPairs {
    /// Pairs within the radius.
    pub candidates: usize,
    pub confirmed: Vec<Confirmed>,
}

#[derive(Serialize, Deserialize)]
struct PartFile {
    /// See [`source`].
    source: String,
    found: NearPairs,
}

/// The parts of the search for an array of `tasks`: pairs of blocks of consecutive samples, at
/// least as many as tasks while there are samples. Every pair of samples lies in one of them. Task
/// i does the parts i, i + tasks, ...
pub fn ranges(samples: usize, tasks: usize) -> Vec<[Range<usize>; 2]> {
    let enough = (1..).find(|b| b * (b + 1) / 2 >= tasks).unwrap_or(1);
    let blocks = enough.min(samples).max(1);
    let block = |i: usize| i * samples / blocks..(i + 1) * samples / blocks;
    (0..blocks).flat_map(|a| (a..blocks).map(move |b| [block(a), block(b)])).collect()
}

pub fn path(work: &Path, number: usize) -> PathBuf {
    work.join("dedup").join(format!("pairs-{number:05}.json"))
}

/// What a part is made from: all samples and settings (`fingerprint`), and which of them it
/// compares.
pub fn source(fingerprint: &str, [a, b]: &[Range<usize>; 2]) -> String {
    format!("{fingerprint} {a:?} {b:?}")
}

/// # Errors
/// What is wrong with the part: it is missing, broken, or made from other input.
pub fn read(work: &Path, number: usize, source: &str) -> Result<NearPairs, &'static str> {
    let bytes = fs::read(path(work, number)).map_err(|_| "not there")?;
    match serde_json::from_slice::<PartFile>(&bytes) {
        Ok(file) if file.source == source => Ok(file.found),
        Ok(_) => Err("made from other shards or with other dedup keys"),
        Err(_) => Err("not as `atlas dedup` wrote it"),
    }
}

pub fn write(work: &Path, number: usize, source: String, found: NearPairs) -> Result<()> {
    atomic_file::write(
        path(work, number),
        serde_json::to_vec(&PartFile { source, found }).map_err(Error::failed)?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_lies_in_one_part() {
        for (samples, tasks) in [(0, 1), (1, 4), (7, 1), (7, 2), (10, 6), (23, 16), (5, 100)] {
            let parts = ranges(samples, tasks);
            assert!(parts.len() >= tasks.min(samples), "{samples} {tasks}: {}", parts.len());
            for a in 0..samples {
                for b in a + 1..samples {
                    let holding =
                        parts.iter().filter(|[x, y]| x.contains(&a) && y.contains(&b)).count();
                    assert_eq!(holding, 1, "{a}, {b} of {samples} in {tasks} tasks");
                }
            }
        }
    }
}
