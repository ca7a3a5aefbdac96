//! Writes one shard: images as they come, tables at the end, then verified and moved into place.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use hdf5::{dataset::AllocTime, dataset::FillTime, types::VarLenUnicode};
use multiversion::multiversion;

use super::{FORMAT, Reader, Tables, options, seal::Seal};
use crate::{
    base::{
        Error, Result,
        atomic_file::{self, Temporary},
        checksum,
    },
    data::{labels::Labels, manifest::Part},
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
    offset: u64,
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
        let at = self.images.offset + (slot * bytes) as u64;
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
        let failed =
            |e: hdf5::Error| Error::failed(format!("cannot write {}: {e}", temporary.display()));
        self.write_tables().map_err(failed)?;
        let seal = Seal {
            offset: self.images.offset,
            bytes: (n * self.tables.size * self.tables.size * 4) as u64,
        };
        seal.write(&self.images.file).map_err(Error::io("write", temporary))?;
        atomic_file::sync(&self.images.file, temporary)?;
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

    fn write_tables(&self) -> hdf5::Result<()> {
        let t = &self.tables;
        let file = options().open_rw(&self.images.temporary.0)?;
        let ids: Vec<VarLenUnicode> = t
            .ids
            .iter()
            .map(|id| id.parse().map_err(|e| hdf5::Error::from(format!("id {id}: {e}"))))
            .collect::<Result<_, _>>()?;
        let flat = |rows: &[[u64; 4]]| {
            ndarray::Array2::from_shape_vec((rows.len(), 4), rows.as_flattened().to_vec())
                .expect("4 per row")
        };
        let new = || file.new_dataset_builder().obj_track_times(false);
        new().with_data(&ids).create("ids")?;
        if let Some(labels) = &t.labels {
            let flat: Vec<u8> = labels.iter().flat_map(|l| l.one_hot()).collect();
            let table =
                ndarray::Array2::from_shape_vec((labels.len(), crate::data::labels::CLASSES), flat)
                    .expect("28 per row");
            new().with_data(&table).create("labels")?;
        }
        new().with_data(&flat(&t.phash)).create("phash")?;
        new().with_data(&t.checksum).create("checksum")?;
        new().with_data(&t.mean).create("mean")?;
        new().with_data(&t.std).create("std")?;
        let version: VarLenUnicode =
            env!("CARGO_PKG_VERSION").parse().map_err(|e| hdf5::Error::from(format!("{e}")))?;
        file.new_attr::<u32>().create("format_version")?.write_scalar(&FORMAT)?;
        file.new_attr::<u32>().create("size")?.write_scalar(&(t.size as u32))?;
        file.new_attr::<u32>().create("channels")?.write_scalar(&4u32)?;
        file.new_attr::<u64>().create("manifest_hash")?.write_scalar(&t.manifest_hash)?;
        file.new_attr::<VarLenUnicode>().create("atlas_version")?.write_scalar(&version)?;
        // No dataset or attribute is alive here: closing with one of them open would leave the file
        // short.
        file.close()
    }
}

impl Images {
    /// Creates the temporary file of the shard `path`.
    fn create(path: &Path, capacity: usize, size: usize) -> Result<Self> {
        let temporary = Temporary(atomic_file::temporary_name(path)?);
        let shown = temporary.0.display();
        let make = || -> hdf5::Result<Option<u64>> {
            let file = options().with_fcpl(|p| p.obj_track_times(false)).create(&temporary.0)?;
            let images = file
                .new_dataset_builder()
                .obj_track_times(false)
                .alloc_time(Some(AllocTime::Early))
                .fill_time(FillTime::Never)
                .empty::<u8>()
                .shape([capacity, size, size, 4])
                .create("images")?;
            let offset = images.offset();
            drop(images);
            file.close()?;
            Ok(offset)
        };
        let offset = make().map_err(|e| Error::failed(format!("cannot create {shown}: {e}")))?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&temporary.0)
            .map_err(Error::io("open", &temporary.0))?;
        // HDF5 allocates nothing for a shard without images.
        let offset = offset
            .or((capacity == 0).then_some(0))
            .ok_or_else(|| Error::failed(format!("HDF5 gave {shown} no place for its images")))?;
        Ok(Self { temporary, file, offset })
    }

    /// Copies the images numbered `slots`, of `bytes` each, one after the other.
    fn copy_to(&self, to: &Self, slots: &[usize], bytes: usize) -> Result<()> {
        let mut image = vec![0; bytes];
        for (i, slot) in slots.iter().enumerate() {
            let at = |i: usize| (i * bytes) as u64;
            self.file
                .read_exact_at(&mut image, self.offset + at(*slot))
                .map_err(Error::io("read", &self.temporary.0))?;
            to.file
                .write_all_at(&image, to.offset + at(i))
                .map_err(Error::io("write", &to.temporary.0))?;
        }
        Ok(())
    }
}
