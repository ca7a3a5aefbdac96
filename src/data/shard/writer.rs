//! Writes one shard: images as they come, tables at the end, then verified and moved into place.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use multiversion::multiversion;

use super::{Reader, Tables};
use crate::{
    base::{
        Error, Result,
        atomic_file::{self, Temporary},
        checksum,
        sealed_hdf5::{self, Place, Table},
    },
    data::{
        labels::{CLASSES, Labels},
        manifest::Part,
    },
};

/// One sample for a shard, with everything that is computed for each sample on its own.
pub struct Entry {
    pub(super) image: Vec<u8>,
    row: Row,
}

/// The entries of a sample in the tables.
pub(super) struct Row {
    id: String,
    labels: Labels,
    phash: [u64; 4],
    checksum: u64,
    /// By channel, sum of the pixels and of their squares: whole numbers, so that no order of
    /// adding them matters.
    sums: [[u64; 2]; 4],
}

impl Entry {
    /// `image` is u8 `[size, size, 4]`.
    pub fn new(id: String, labels: Labels, phash: [u64; 4], image: Vec<u8>) -> Self {
        let row = Row { id, labels, phash, checksum: checksum::of(&image), sums: sums(&image) };
        Self { image, row }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn sums(image: &[u8]) -> [[u64; 2]; 4] {
    let mut sums = [[0; 2]; 4];
    // In blocks short enough for 32-bit sums, which the compiler can do several at a time.
    for block in image.chunks(4 << 14) {
        let mut part = [[0u32; 2]; 4];
        for pixel in block.as_chunks::<4>().0 {
            for (sum, &p) in part.iter_mut().zip(pixel) {
                sum[0] += u32::from(p);
                sum[1] += u32::from(p) * u32::from(p);
            }
        }
        for (sum, part) in sums.iter_mut().flatten().zip(part.as_flattened()) {
            *sum += u64::from(*part);
        }
    }
    sums
}

/// A shard that is being written, under a temporary name in its folder; dropped before
/// [`finish`](Writer::finish), no file remains.
pub struct Writer {
    path: PathBuf,
    part: Part,
    capacity: usize,
    images: Images,
    /// For each row of the tables, the number of its image in the file.
    slots: Vec<usize>,
    tables: Tables,
    sums: [[u64; 2]; 4],
}

/// The file with room for the images.
struct Images {
    temporary: Temporary,
    file: fs::File,
    place: Place,
}

impl Writer {
    /// Starts the shard `path` for up to `capacity` samples of `size` pixels a side.
    pub fn create(path: &Path, part: Part, capacity: usize, size: usize) -> Result<Self> {
        let images = Images::create(path, capacity, size)?;
        let tables =
            Tables { size, labels: (part == Part::Train).then(Vec::new), ..Tables::default() };
        let (path, slots, sums) = (path.into(), Vec::new(), [[0; 2]; 4]);
        Ok(Self { path, part, capacity, images, slots, tables, sums })
    }

    /// Adds the next sample.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        let slot = self.slots.len();
        let row = self.place(slot, entry)?;
        self.list(slot, row);
        Ok(())
    }

    /// Writes an image as number `slot`; other threads may write others at the same time.
    pub(super) fn place(&self, slot: usize, entry: Entry) -> Result<Row> {
        let bytes = self.tables.size * self.tables.size * 4;
        assert!(slot < self.capacity && entry.image.len() == bytes, "as announced to create()");
        let at = self.images.place.offset + (slot * bytes) as u64;
        self.images
            .file
            .write_all_at(&entry.image, at)
            .map_err(Error::io("write", &self.images.temporary.0))?;
        Ok(entry.row)
    }

    /// Adds a sample to the tables, whose image [`place`](Self::place) wrote as number `slot`.
    pub(super) fn list(&mut self, slot: usize, row: Row) {
        self.slots.push(slot);
        let t = &mut self.tables;
        t.ids.push(row.id);
        if let Some(labels) = &mut t.labels {
            labels.push(row.labels);
        }
        t.phash.push(row.phash);
        t.checksum.push(row.checksum);
        for (sum, more) in self.sums.as_flattened_mut().iter_mut().zip(row.sums.as_flattened()) {
            *sum += more;
        }
    }

    /// Writes the tables, syncs, reads everything back and moves the file into place.
    pub fn finish(mut self, manifest_hash: u64) -> Result<()> {
        let n = self.tables.ids.len();
        if n < self.capacity {
            // A contiguous dataset cannot shrink: copy the images into a file of the right size.
            let short = Images::create(&self.path.with_extension("short.h5"), n, self.tables.size)?;
            self.images.copy_to(&short, &self.slots, self.tables.size * self.tables.size * 4)?;
            self.images = short;
        }
        let pixels = (n * self.tables.size * self.tables.size).max(1) as f64;
        for (c, [sum, squares]) in self.sums.into_iter().enumerate() {
            let mean = sum as f64 / pixels;
            self.tables.mean[c] = mean;
            self.tables.std[c] = (squares as f64 / pixels - mean * mean).max(0.0).sqrt();
        }
        self.tables.manifest_hash = manifest_hash;
        let temporary = &self.images.temporary.0;
        let written = self.tables.write(temporary, &self.images.place)?;
        atomic_file::sync(&written, temporary)?;
        let written = Reader::open(temporary)?;
        written.verify()?;
        if written.tables != self.tables || written.labels().is_some() != (self.part == Part::Train)
        {
            return Err(Error::failed(format!(
                "{} does not read back as it was written; the disk may be faulty",
                temporary.display()
            )));
        }
        atomic_file::publish(temporary, &self.path)
    }
}

impl Tables {
    /// Completes a file that holds the images.
    fn write(&self, path: &Path, images: &Place) -> Result<fs::File> {
        let n = self.ids.len();
        let bytes = |values: &[u64]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let four = |name, values: [f64; 4]| {
            Table::new::<f64>(name, &[4], bytes(&values.map(f64::to_bits)))
        };
        let mut tables = vec![
            Table::of_texts("ids", &self.ids)?,
            Table::new::<u64>("phash", &[n, 4], bytes(self.phash.as_flattened())),
            Table::new::<u64>("checksum", &[n], bytes(&self.checksum)),
            four("mean", self.mean),
            four("std", self.std),
        ];
        if let Some(labels) = &self.labels {
            let flat = labels.iter().flat_map(|l| l.one_hot()).collect();
            tables.push(Table::new::<u8>("labels", &[n, CLASSES], flat));
        }
        let attributes =
            [("size", self.size as u64), ("channels", 4), ("manifest_hash", self.manifest_hash)];
        sealed_hdf5::finish(path, Some(("images", images)), &tables, &attributes)
    }
}

impl Images {
    /// Creates the temporary file of the shard `path`.
    fn create(path: &Path, capacity: usize, size: usize) -> Result<Self> {
        let temporary = Temporary(atomic_file::temporary_name(path)?);
        let place =
            sealed_hdf5::create_with_room(&temporary.0, "images", &[capacity, size, size, 4])?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&temporary.0)
            .map_err(Error::io("open", &temporary.0))?;
        Ok(Self { temporary, file, place })
    }

    /// Copies the images numbered `slots`, of `bytes` each, one after the other.
    fn copy_to(&self, to: &Self, slots: &[usize], bytes: usize) -> Result<()> {
        let mut image = vec![0; bytes];
        for (i, slot) in slots.iter().enumerate() {
            let at = |i: usize| (i * bytes) as u64;
            self.file
                .read_exact_at(&mut image, self.place.offset + at(*slot))
                .map_err(Error::io("read", &self.temporary.0))?;
            to.file
                .write_all_at(&image, to.place.offset + at(i))
                .map_err(Error::io("write", &to.temporary.0))?;
        }
        Ok(())
    }
}
