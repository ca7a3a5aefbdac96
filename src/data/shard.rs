//! Shards: HDF5 files with a run of samples each, ready to be fed to training. One writer
//! ([`Builder`]), many readers ([`Reader`] for one file, [`Store`] for a whole part of the data).
//!
//! A file of [`sealed_hdf5`](crate::base::sealed_hdf5), format 2: `/images` u8 `[n, h, w, 4]` (red,
//! green, blue, yellow), contiguous and uncompressed, so that a reader can seek in it; `/ids` UTF-8
//! `[n]` of a fixed length, padded with zeros; `/labels` u8 `[n, 28]` (absent in test shards);
//! `/phash` u64 `[n, 4]`, of the channels before they were resized; `/checksum` u64 `[n]`, the xxh3
//! of each image; `/mean` and `/std` f64 `[4]` over the pixels of the shard, on the scale 0 to 255;
//! attributes `format_version`, `size`, `channels`, `manifest_hash`, `atlas_version`.

use std::path::{Path, PathBuf};

use crate::data::{labels::Labels, manifest::Part};

mod build;
mod planned;
mod reader;
mod sample_image;
mod sources;
mod store;
mod tally;
mod task_shards;
mod writer;

pub use build::{Builder, ShardOutcome, quarantine_path, quarantined, write_bad};
pub use planned::{Expected, open_planned};
pub use reader::Reader;
pub use sample_image::{Bad, Settings, interleaved, read_images};
pub use store::Store;
pub use tally::Tally;
pub use task_shards::{ShareSummary, build_share};
pub use writer::{Entry, Writer};

/// The shard `number` of a part in a work folder.
pub fn path(work: &Path, part: Part, number: usize) -> PathBuf {
    work.join("shards").join(format!("{}-{number:05}.h5", part.name()))
}

/// Everything in a shard but its pixels.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tables {
    ids: Vec<String>,
    /// `None` in test shards.
    labels: Option<Vec<Labels>>,
    phash: Vec<[u64; 4]>,
    checksum: Vec<u64>,
    mean: [f64; 4],
    std: [f64; 4],
    size: usize,
    manifest_hash: u64,
}
