//! Reads one shard: its tables at once, its images one at a time.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rayon::prelude::*;

use super::Tables;
use crate::{
    base::{Error, Result, checksum, sealed_hdf5::Sealed},
    config::Preprocess,
    data::labels::{CLASSES, Labels},
};

/// An open shard. Shared by threads: each read is one `pread` at the sample's place, no HDF5 call
/// and no lock. (A memory map would turn a file cut short by someone else into a crash.)
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    offset: u64,
    pub(super) tables: Tables,
    /// By sample, whether its image has matched its checksum since the shard was opened.
    verified: Vec<AtomicBool>,
}

impl Reader {
    /// Opens a shard and reads its tables.
    ///
    /// # Errors
    /// Names the file where it is missing, cut short, of another format, or its tables fail their
    /// checksum.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::data(path, "not there; run `atlas preprocess`"));
        }
        let faulty = |what: String| {
            Error::data(path, format!("{what}; delete it and run `atlas preprocess` again"))
        };
        let sealed = Sealed::open(path)?.map_err(|fault| faulty(fault.to_string()))?;
        let (tables, offset) =
            read_tables(&sealed).map_err(|what| faulty(format!("not a whole shard ({what})")))?;
        let verified = tables.ids.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { path: path.into(), file: sealed.into_file(), offset, tables, verified })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Side of the square images in pixels.
    pub fn size(&self) -> usize {
        self.tables.size
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.tables.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn ids(&self) -> &[String] {
        &self.tables.ids
    }

    /// `None` in a test shard.
    pub fn labels(&self) -> Option<&[Labels]> {
        self.tables.labels.as_deref()
    }

    /// By sample, the hashes of red, green, blue and yellow.
    pub fn phash(&self) -> &[[u64; 4]] {
        &self.tables.phash
    }

    /// By sample, xxh3 of its image.
    pub fn checksums(&self) -> &[u64] {
        &self.tables.checksum
    }

    /// Mean of each channel over all pixels, 0 to 255.
    pub fn mean(&self) -> [f64; 4] {
        self.tables.mean
    }

    /// Standard deviation of each channel over all pixels, 0 to 255.
    pub fn std(&self) -> [f64; 4] {
        self.tables.std
    }

    /// Pixels per channel, over all samples.
    pub fn pixels(&self) -> u64 {
        (self.len() * self.size() * self.size()) as u64
    }

    /// [`Manifest::hash`](crate::data::manifest::Manifest::hash) of the manifest that it was made
    /// from.
    pub fn manifest_hash(&self) -> u64 {
        self.tables.manifest_hash
    }

    /// Reads image `i` into `out`, u8 `[size, size, 4]`: rows of pixels of red, green, blue,
    /// yellow.
    ///
    /// # Errors
    /// Names the file and the sample where the bytes do not match their checksum or are not there.
    pub fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        assert_eq!(out.len(), self.size() * self.size() * 4, "a buffer of [size, size, 4]");
        self.read_bytes(i, 0, out)?;
        if checksum::of(out) != self.tables.checksum[i] {
            return Err(self.faulty(i, "its image does not match its checksum"));
        }
        self.verified[i].store(true, Relaxed);
        Ok(())
    }

    /// Reads at least `rows` of image `i`, each to its place in `out`, u8 `[size, size, 4]`; the
    /// other rows of `out` may hold anything. Only whole images have checksums: the first
    /// time, this reader reads and compares the whole image, later the rows alone.
    ///
    /// # Errors
    /// As [`Reader::read`]; bytes that changed after the first time are not noticed.
    pub fn read_rows(&self, i: usize, rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        if !self.verified[i].load(Relaxed) {
            return self.read(i, out);
        }
        let row = self.size() * 4;
        assert_eq!(out.len(), row * self.size(), "a buffer of [size, size, 4]");
        self.read_bytes(i, rows.start * row, &mut out[rows.start * row..rows.end * row])
    }

    /// Fills `out` with bytes of image `i`, from its byte `skip` on.
    fn read_bytes(&self, i: usize, skip: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.size() * self.size() * 4;
        self.file.read_exact_at(out, self.offset + (i * bytes + skip) as u64).map_err(|e| {
            match e.kind() {
                std::io::ErrorKind::UnexpectedEof => self.faulty(i, "the file is cut short"),
                _ => Error::io("read", &self.path)(e),
            }
        })
    }

    fn faulty(&self, i: usize, what: &str) -> Error {
        Error::data(
            &self.path,
            format!("sample {}: {what}; delete it and run `atlas preprocess` again", self.ids()[i]),
        )
    }

    /// Reads every image, on the threads of the current rayon pool, and compares it with its
    /// checksum; the tables were compared when the shard was opened.
    pub fn verify(&self) -> Result<()> {
        let buffer = || vec![0; self.size() * self.size() * 4];
        (0..self.len()).into_par_iter().try_for_each_init(buffer, |image, i| self.read(i, image))
    }
}

/// The tables, and the place of the images, which is within the file.
fn read_tables(file: &Sealed) -> Result<(Tables, u64), String> {
    let attribute = |name| file.attribute(name).ok_or(format!("no attribute {name}"));
    let size = attribute("size")?;
    let images = file.place::<u8>("images")?;
    let largest = u64::from(*Preprocess::SIZES.end());
    let n = match images.shape[..] {
        [n, h, w, 4] if h == size && w == size && (1..=largest).contains(&size) => n as usize,
        _ => {
            let shape = &images.shape;
            return Err(format!("its images are of the shape {shape:?}, its size is {size}"));
        }
    };
    let numbers = |name, shape: &[usize]| -> Result<Vec<u64>, String> {
        let bytes = file.bytes::<u64>(name, shape)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
    };
    let four = |name| -> Result<[f64; 4], String> {
        let values = numbers(name, &[4])?;
        Ok(std::array::from_fn(|c| f64::from_bits(values[c])))
    };
    let labels = match file.has("labels") {
        true => {
            let flat = file.bytes::<u8>("labels", &[n, CLASSES])?;
            let row = |row: &[u8]| {
                Labels::from_classes((0..CLASSES).filter(|&c| row[c] != 0)).expect("below CLASSES")
            };
            Some(flat.chunks_exact(CLASSES).map(row).collect())
        }
        false => None,
    };
    let tables = Tables {
        checksum: numbers("checksum", &[n])?,
        phash: numbers("phash", &[n, 4])?.as_chunks::<4>().0.to_vec(),
        ids: file.texts("ids", n)?,
        labels,
        mean: four("mean")?,
        std: four("std")?,
        size: size as usize,
        manifest_hash: attribute("manifest_hash")?,
    };
    Ok((tables, images.offset))
}
