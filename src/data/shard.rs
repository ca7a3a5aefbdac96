//! Shards: HDF5 files with a run of samples each, ready to be fed to training. One writer
//! ([`Builder`]), many readers ([`Reader`] for one file, [`Store`] for a whole part of the data).
//!
//! Format 1: `/images` u8 `[n, h, w, 4]` (red, green, blue, yellow), contiguous and uncompressed,
//! so that a reader can seek in it; `/ids` variable-length UTF-8 `[n]`; `/labels` u8 `[n, 28]`
//! (absent in test shards); `/phash` u64 `[n, 4]`, of the channels before they were resized;
//! `/checksum` u64 `[n]`, the xxh3 of each image; `/mean` and `/std` f64 `[4]` over the pixels of
//! the shard, on the scale 0 to 255; attributes `format_version`, `size`, `channels`,
//! `manifest_hash`, `atlas_version`. After the HDF5 content, where its readers ignore
//! them, follow 32 bytes (the seal) with the place of the images and the xxh3 of everything else: a
//! damaged file is found before the HDF5 library, which can loop on one forever, opens it.

use std::path::{Path, PathBuf};

use hdf5::file::LibraryVersion;

use crate::{
    base::hdf5_file,
    data::{labels::Labels, manifest::Part},
};

mod build;
mod planned;
mod reader;
mod sample_image;
mod seal;
mod sources;
mod store;
mod task_shards;
mod writer;

pub use build::{Builder, ShardOutcome, quarantine_path, quarantined, write_bad};
pub use planned::{Expected, open_planned};
pub use reader::Reader;
pub use sample_image::{Bad, Settings, interleaved, read_images};
pub use store::Store;
pub use task_shards::{ShareSummary, build_share};
pub use writer::{Entry, Writer};

/// Version of the file format.
pub const FORMAT: u32 = 1;

/// The shard `number` of a part in a work folder.
pub fn path(work: &Path, part: Part, number: usize) -> PathBuf {
    work.join("shards").join(format!("{}-{number:05}.h5", part.name()))
}

/// Metadata of HDF5 1.8 and later carries its own checksums.
fn options() -> hdf5::file::FileBuilder {
    let mut options = hdf5_file::options();
    options.with_fapl(|p| p.libver_bounds(LibraryVersion::V18, LibraryVersion::V110));
    options
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
