//! The image files that a shard was made from, by their sizes and times, in a list beside the
//! shard. A file that was replaced since is found by them; since copies of a whole project have
//! new times, only other pixels count.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use crate::{
    base::{Result, csv_file},
    data::manifest::Sample,
};

const HEADER: [&str; 9] = [
    "id",
    "red_bytes",
    "green_bytes",
    "blue_bytes",
    "yellow_bytes",
    "red_modified",
    "green_modified",
    "blue_modified",
    "yellow_modified",
];

/// The four files of a sample: bytes, and when each was modified, in nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    bytes: [u64; 4],
    modified: [i64; 4],
    /// The newest time at which a file came to its place or was changed in it, whatever time it
    /// bears.
    placed: i64,
    /// One of them is not there; then the shard is all that is left, and nothing is compared.
    is_gone: bool,
}

/// The files of `samples` as they are now, looked at in the current rayon pool.
pub(super) fn now(samples: &[Sample]) -> Vec<Sources> {
    samples.par_iter().map(Sources::of).collect()
}

impl Sources {
    fn of(sample: &Sample) -> Self {
        let mut sources = Self::default();
        for c in 0..4 {
            let Ok(file) = fs::metadata(sample.file(c)) else {
                sources.is_gone = true;
                continue;
            };
            sources.bytes[c] = file.len();
            sources.modified[c] = nanoseconds(file.mtime(), file.mtime_nsec());
            sources.placed = sources.placed.max(nanoseconds(file.ctime(), file.ctime_nsec()));
        }
        sources
    }

    /// Whether a file came to its place or was changed after `time`, in nanoseconds since 1970.
    pub fn is_newer(&self, time: i64) -> bool {
        self.placed > time
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// When `path` was written, in nanoseconds since 1970; `None` where it is not there.
pub(super) fn written(path: &Path) -> Option<i64> {
    let file = fs::metadata(path).ok()?;
    Some(nanoseconds(file.mtime(), file.mtime_nsec()))
}

/// The list of the shard with the position `unit` in the manifest's shards.
fn path(work: &Path, unit: usize) -> PathBuf {
    work.join("shards").join(format!("sources-{unit:05}.csv"))
}

/// Records the files of `samples`.
pub(super) fn write(
    work: &Path,
    unit: usize,
    samples: &[Sample],
    sources: &[Sources],
) -> Result<()> {
    let rows = samples.iter().zip(sources).map(|(s, of)| (&s.id, of.bytes, of.modified));
    csv_file::write(&path(work, unit), &HEADER, rows)
}

/// By sample, whether its files, which are now `sources`, are not recorded with their size and
/// time; never where a file is gone.
pub(super) fn differ(
    work: &Path,
    unit: usize,
    samples: &[Sample],
    sources: &[Sources],
) -> Vec<bool> {
    type Row = (String, [u64; 4], [i64; 4]);
    let recorded = csv_file::read::<Row>(&path(work, unit), "preprocess").unwrap_or_default();
    let is_recorded = |i: usize| {
        let of_now = |(id, bytes, modified): &Row| {
            *id == samples[i].id && (*bytes, *modified) == (sources[i].bytes, sources[i].modified)
        };
        recorded.get(i).is_some_and(of_now)
    };
    (0..samples.len()).map(|i| !sources[i].is_gone && !is_recorded(i)).collect()
}
