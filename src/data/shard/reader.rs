//! Reads one shard: its tables at once, its images one at a time.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use hdf5::types::VarLenUnicode;
use rayon::prelude::*;

use super::{FORMAT, Tables, options, seal::Seal};
use crate::{
    base::{Error, Result, checksum},
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
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::data(path, "not there; run `atlas preprocess`"),
            _ => Error::io("open", path)(e),
        })?;
        let faulty = |what: String| {
            Error::data(path, format!("{what}; delete it and run `atlas preprocess` again"))
        };
        let seal = Seal::read(&file)
            .map_err(Error::io("read", path))?
            .map_err(|what| faulty(what.into()))?;
        let tables = read_tables(path, seal).map_err(|e| {
            let text = e.to_string();
            faulty(format!(
                "not a whole shard ({})",
                text.lines().next().unwrap_or("HDF5 cannot read it")
            ))
        })?;
        let verified = tables.ids.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { path: path.into(), file, offset: seal.offset, tables, verified })
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

/// The tables of a file whose seal is whole; the images must be where the seal states.
fn read_tables(path: &Path, seal: Seal) -> hdf5::Result<Tables> {
    let file = options().open(path)?;
    let version: u32 = file.attr("format_version")?.read_scalar()?;
    if version != FORMAT {
        return Err(format!("format {version}; this program reads format {FORMAT}").into());
    }
    let size = file.attr("size")?.read_scalar::<u32>()? as usize;
    let images = file.dataset("images")?;
    let shape = images.shape();
    let n = match shape[..] {
        [n, h, w, 4] if h == size && w == size && size > 0 && images.dtype()?.is::<u8>() => n,
        _ => {
            return Err(format!(
                "its images are of the shape {shape:?}, expected u8 [n, {size}, {size}, 4]"
            )
            .into());
        }
    };
    let bytes = (size as u64 * size as u64).saturating_mul(4).saturating_mul(n as u64);
    if bytes != seal.bytes || (n > 0 && images.offset() != Some(seal.offset)) {
        return Err("its images are not where its seal states".into());
    }
    let checked = |name: &str, want: &[usize]| -> hdf5::Result<hdf5::Dataset> {
        let dataset = file.dataset(name)?;
        match dataset.shape() == want {
            true => Ok(dataset),
            false => {
                Err(format!("/{name} is of the shape {:?}, expected {want:?}", dataset.shape())
                    .into())
            }
        }
    };
    let four = |name: &str| -> hdf5::Result<[f64; 4]> {
        let values = checked(name, &[4])?.read_raw::<f64>()?;
        values.try_into().map_err(|_| format!("/{name} does not hold 4 values").into())
    };
    let ids: Vec<VarLenUnicode> = checked("ids", &[n])?.read_raw()?;
    let labels = match file.link_exists("labels") {
        true => {
            let flat: Vec<u8> = checked("labels", &[n, CLASSES])?.read_raw()?;
            let row = |row: &[u8]| {
                Labels::from_classes((0..CLASSES).filter(|&c| row[c] != 0)).expect("below CLASSES")
            };
            Some(flat.chunks_exact(CLASSES).map(row).collect())
        }
        false => None,
    };
    let phash: Vec<u64> = checked("phash", &[n, 4])?.read_raw()?;
    Ok(Tables {
        ids: ids.iter().map(|id| id.as_str().to_string()).collect(),
        labels,
        phash: phash.chunks_exact(4).map(|h| [h[0], h[1], h[2], h[3]]).collect(),
        checksum: checked("checksum", &[n])?.read_raw()?,
        mean: four("mean")?,
        std: four("std")?,
        size,
        manifest_hash: file.attr("manifest_hash")?.read_scalar()?,
    })
}
