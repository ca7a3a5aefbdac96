//! The two formats of `torch.save`. Since PyTorch 1.6: a zip archive of one pickle, which describes
//! the tensors, and one file of plain numbers per storage. Before: pickles one after the other,
//! then the numbers of all storages.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{Cursor, Read},
};

use tch::Kind;
use zip::{CompressionMethod, ZipArchive};

use crate::{
    base::zip_file,
    network::weights::pickle::{self, Object, Pickle},
};

/// In the order of the storages' names in `pickle/objects.rs`. Booleans are read as bytes, since
/// not every byte is a valid boolean.
pub const KINDS: [Kind; 8] = [
    Kind::Float,
    Kind::Half,
    Kind::BFloat16,
    Kind::Double,
    Kind::Int64,
    Kind::Int,
    Kind::Uint8,
    Kind::Uint8,
];

/// Largest pickle in bytes; that of a ResNeXt-101 has a tenth of a megabyte, but what a training
/// script saves beside the weights may be larger.
const MAX_PICKLE: u64 = 32 << 20;

/// The first pickle of the old format: a magic number.
const OLD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Whether a file is one of `torch.save`.
pub fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK") || bytes.starts_with(OLD)
}

/// The storages of a file, by key.
pub enum Storages<'a> {
    Zip(Zip<'a>),
    Old(HashMap<String, &'a [u8]>),
}

impl<'a> Storages<'a> {
    /// The pickle and the storages of a file.
    pub fn open(bytes: &'a [u8]) -> Result<(Pickle, Self), String> {
        if bytes.starts_with(OLD) {
            return open_old(bytes);
        }
        let mut zip = Zip::open(bytes)?;
        let (pickle, _) = pickle::parse(&zip.read("data.pkl", MAX_PICKLE)?)?;
        Ok((pickle, Self::Zip(zip)))
    }

    pub fn bytes(&mut self, key: &str) -> Result<Cow<'a, [u8]>, String> {
        match self {
            Self::Zip(zip) => zip.read(&format!("data/{key}"), u64::MAX).map(Cow::Owned),
            Self::Old(storages) => {
                storages.get(key).map(|b| Cow::Borrowed(*b)).ok_or("has no stored numbers".into())
            }
        }
    }
}

/// Pickles of the magic number, the version, the sizes of types, the saved object and the keys of
/// its storages; then, per key, the number of values in eight bytes and the values.
fn open_old(bytes: &[u8]) -> Result<(Pickle, Storages<'_>), String> {
    let mut rest = bytes;
    let mut next = || {
        let (pickle, after) = pickle::parse(&rest[..rest.len().min(MAX_PICKLE as usize)])?;
        let read = rest.len().min(MAX_PICKLE as usize) - after.len();
        rest = &rest[read..];
        Ok::<_, String>(pickle)
    };
    for _ in 0..3 {
        next()?;
    }
    let (pickle, keys) = (next()?, next()?);
    let kinds: HashMap<_, _> = pickle
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Storage(storage) => Some((storage.key.as_str(), KINDS[storage.kind])),
            _ => None,
        })
        .collect();
    let mut storages = HashMap::new();
    for &key in keys.sequence(keys.root).unwrap_or_default() {
        let key = keys.text(key).unwrap_or_default();
        // Without the kind, the place of the storages after it is unknown, too.
        let kind = kinds.get(key).ok_or("a storage of numbers of an unknown kind")?;
        let cut = || format!("storage {key} is cut off");
        let (numbers, after) = rest.split_at_checked(8).ok_or_else(cut)?;
        let numbers = numbers.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
        let size = numbers.checked_mul(kind.elt_size_in_bytes()).ok_or_else(cut)?;
        let (values, after) = after.split_at_checked(size).ok_or_else(cut)?;
        storages.insert(key.to_string(), values);
        rest = after;
    }
    Ok((pickle, Storages::Old(storages)))
}

pub struct Zip<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder of all files in the archive.
    root: String,
    /// How many more bytes may be read. Files in a zip may overlap, so that their sizes may add up
    /// to more than that of the archive.
    remaining: u64,
}

impl<'a> Zip<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let zip = zip_file::open(Cursor::new(bytes))
            .map_err(|e| format!("a broken zip archive ({e})"))?;
        let root = zip
            .file_names()
            .flatten()
            .find_map(|name| Some(name.strip_suffix("data.pkl")?.to_string()));
        let root = root.ok_or("a zip archive without data.pkl")?;
        let mut archive = Self { zip, root, remaining: bytes.len() as u64 };
        match archive.read("byteorder", 16) {
            Ok(order) if order != b"little" => {
                Err("its numbers are big-endian; save it on an ordinary machine".into())
            }
            _ => Ok(archive),
        }
    }

    /// A file of the archive, of at most `largest` bytes.
    fn read(&mut self, name: &str, largest: u64) -> Result<Vec<u8>, String> {
        let name = format!("{}{name}", self.root);
        let file = self.zip.by_name(&name).map_err(|e| format!("{name}: {e}"))?;
        // PyTorch stores without compression, so that the size of a file limits its content.
        if file.compression() != CompressionMethod::Stored
            || file.size() > largest.min(self.remaining)
        {
            return Err(format!("{name} is compressed or too large, which PyTorch never makes"));
        }
        let size = file.size();
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(size + 1).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
        if bytes.len() as u64 != size {
            return Err(format!("{name} is cut off"));
        }
        self.remaining -= size;
        Ok(bytes)
    }
}
