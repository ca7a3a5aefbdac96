//! All shards of a part of the data as one table of samples.

use std::{collections::HashMap, ops::Range, path::Path};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    Reader,
    planned::{Expected, open_planned},
};
use crate::{
    base::Result,
    data::{labels::Labels, manifest::Part},
};

/// The samples of a part, numbered through all its shards. Shared by threads.
#[derive(Debug, Default)]
pub struct Store {
    shards: Vec<Reader>,
    /// By sample, its shard and its place in it.
    places: Vec<(u32, u32)>,
    by_id: HashMap<String, usize>,
    size: usize,
}

impl Store {
    /// Opens the shards of a part; a part without samples gives an empty store.
    ///
    /// # Errors
    /// Those of [`open_planned`].
    pub fn open(work: &Path, part: Part, expected: Expected) -> Result<Self> {
        let plans = expected.manifest.shards().into_iter().enumerate();
        let plans: Vec<_> = plans.filter(|(_, plan)| plan.part == part).collect();
        allow_open_files(plans.len() as u64 + 256);
        let mut store = Self::default();
        for (unit, plan) in plans {
            let shard = open_planned(work, expected, unit, &plan)?;
            store.size = shard.size();
            for (i, id) in shard.ids().iter().enumerate() {
                store.by_id.insert(id.clone(), store.places.len());
                store.places.push((store.shards.len() as u32, i as u32));
            }
            store.shards.push(shard);
        }
        Ok(store)
    }

    /// Side of the square images in pixels; 0 where there are none.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The open shards, in order.
    pub fn shards(&self) -> &[Reader] {
        &self.shards
    }

    pub fn id(&self, i: usize) -> &str {
        let (shard, i) = self.place(i);
        &shard.ids()[i]
    }

    /// Empty in the test part.
    pub fn labels(&self, i: usize) -> Labels {
        let (shard, i) = self.place(i);
        shard.labels().map_or_else(Labels::default, |l| l[i])
    }

    /// Hashes of red, green, blue and yellow.
    pub fn phash(&self, i: usize) -> [u64; 4] {
        let (shard, i) = self.place(i);
        shard.phash()[i]
    }

    /// xxh3 of its image.
    pub fn checksum(&self, i: usize) -> u64 {
        let (shard, i) = self.place(i);
        shard.checksums()[i]
    }

    /// The sample of an id.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Reads image `i` into `out`, u8 `[size, size, 4]`; errors as [`Reader::read`].
    pub fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        let (shard, i) = self.place(i);
        shard.read(i, out)
    }

    /// Reads at least `rows` of image `i`, each to its place in `out`, u8 `[size, size, 4]`; see
    /// [`Reader::read_rows`].
    pub fn read_rows(&self, i: usize, rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        let (shard, i) = self.place(i);
        shard.read_rows(i, rows, out)
    }

    /// Mean of each channel over all pixels of all shards, 0 to 255.
    pub fn mean(&self) -> [f64; 4] {
        self.weighted(Reader::mean)
    }

    /// Standard deviation of each channel over all pixels of all shards, 0 to 255.
    pub fn std(&self) -> [f64; 4] {
        let mean = self.mean();
        let squares =
            self.weighted(|s| std::array::from_fn(|c| s.std()[c].powi(2) + s.mean()[c].powi(2)));
        std::array::from_fn(|c| (squares[c] - mean[c] * mean[c]).max(0.0).sqrt())
    }

    fn weighted(&self, value: impl Fn(&Reader) -> [f64; 4]) -> [f64; 4] {
        let total: u64 = self.shards.iter().map(Reader::pixels).sum();
        let mut sum = [0.0; 4];
        for shard in &self.shards {
            for (sum, v) in sum.iter_mut().zip(value(shard)) {
                *sum += v * shard.pixels() as f64 / total.max(1) as f64;
            }
        }
        sum
    }

    fn place(&self, i: usize) -> (&Reader, usize) {
        let (shard, i) = self.places[i];
        (&self.shards[shard as usize], i as usize)
    }
}

/// Many small shards are more files than the 1,024 that a process may usually hold open; most
/// systems allow a process to raise that limit. Where it is refused, opening a shard fails.
fn allow_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}
