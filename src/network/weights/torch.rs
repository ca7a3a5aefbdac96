//! Files of `torch.save` since PyTorch 1.6: a zip archive of one pickle, which describes the
//! tensors, and one file of plain numbers per storage. Only tensors are read; nothing in the file
//! is executed.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Cursor, Read},
    path::Path,
};

use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Pickle, Storage, TensorView, Value};
use crate::base::{Error, Result};

/// By the index of a storage's name in [`STORAGES`](super::pickle::STORAGES). Booleans are read as
/// bytes, since not every byte is a valid boolean.
const KINDS: [Kind; 8] = [
    Kind::Float,
    Kind::Half,
    Kind::BFloat16,
    Kind::Double,
    Kind::Int64,
    Kind::Int,
    Kind::Uint8,
    Kind::Uint8,
];

/// The keys under which training scripts save the network's weights among other things.
const NESTED: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Largest pickle in bytes; that of a ResNeXt-101 has a tenth of a megabyte.
const MAX_PICKLE: u64 = 8 << 20;

/// Whether a file is PyTorch's from before version 1.6: bare pickles, the first of which is a magic
/// number.
pub fn is_old(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
}

/// All tensors of a state dict by name, on the CPU, in the kinds in which they are stored. It may
/// be the value of `state_dict`, `model_state_dict` or `model` in another dictionary.
///
/// # Errors
/// Data, if the file is broken, states wrong sizes, or needs more than tensors.
pub fn read(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    tensors(bytes).map_err(|what| {
        Error::data(path, format!("not a state dict of PyTorch that can be read: {what}"))
    })
}

fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut archive = Archive::open(bytes)?;
    let pickle = pickle::parse(&archive.read("data.pkl", MAX_PICKLE)?)?;
    let mut tensors = BTreeMap::new();
    // Tensors may share a storage, but all together must not be much larger than the file.
    let mut remaining = 2 * bytes.len() as u64;
    for (name, view) in state_dict(&pickle)? {
        let wrong = |what: String| format!("tensor `{name}` {what}");
        let tensor = archive.tensor(view).map_err(wrong)?;
        let size = (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        remaining =
            remaining.checked_sub(size).ok_or("its tensors together are larger than the file")?;
        if tensors.insert(name.to_string(), tensor).is_some() {
            return Err(wrong("is there twice".into()));
        }
    }
    Ok(tensors)
}

/// Names and tensors of the dictionary that holds the weights.
fn state_dict(pickle: &Pickle) -> Result<Vec<(&str, &TensorView)>, String> {
    let pairs = pickle.dict(pickle.root).ok_or("expected a dictionary of tensors")?;
    let named = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| pickle.text(*key) == Some(name))
            .and_then(|(_, value)| pickle.dict(*value))
    };
    let pairs = NESTED.into_iter().find_map(named).unwrap_or(pairs);
    let entry = |&(key, value): &(Value, Value)| {
        let name = pickle.text(key).ok_or("a key that is not text")?;
        let view = pickle.view(value).ok_or_else(|| {
            let among = NESTED.map(|n| format!("`{n}`")).join(", ");
            format!("`{name}` is not a tensor; expected a state dict, alone or as one of {among}")
        })?;
        Ok((name, view))
    };
    pairs.iter().map(entry).collect()
}

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder of all files in the archive.
    root: String,
    /// The storages read so far, by key.
    storages: HashMap<String, Tensor>,
    /// How many more bytes may be read. Files in a zip may overlap, so that their sizes may add up
    /// to more than that of the archive.
    remaining: u64,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| format!("a broken zip archive ({e})"))?;
        let root = zip
            .file_names()
            .flatten()
            .find_map(|name| Some(name.strip_suffix("data.pkl")?.to_string()));
        let root = root.ok_or("a zip archive without data.pkl")?;
        let mut archive =
            Self { zip, root, storages: HashMap::new(), remaining: bytes.len() as u64 };
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

    /// A view into its storage.
    fn tensor(
        &mut self,
        TensorView { storage, offset, size, stride }: &TensorView,
    ) -> Result<Tensor, String> {
        let storage = self.storage(storage)?;
        let fits = size.len() == stride.len()
            && min_len(*offset, size, stride).is_some_and(|end| end <= storage.numel());
        if !fits {
            return Err(format!(
                "has the size {size:?}, stride {stride:?} and offset {offset}, but {} numbers are \
                    there",
                storage.numel()
            ));
        }
        storage
            .f_as_strided(&size[..], &stride[..], Some(*offset))
            .map_err(|e| Error::from(e).to_string())
    }

    fn storage(&mut self, Storage { kind, key, len }: &Storage) -> Result<Tensor, String> {
        let kind = KINDS[*kind];
        let tensor = match self.storages.get(key) {
            Some(tensor) => tensor.shallow_clone(),
            None => {
                let bytes = self.read(&format!("data/{key}"), u64::MAX)?;
                let there = bytes.len() / kind.elt_size_in_bytes();
                if bytes.len() % kind.elt_size_in_bytes() != 0 {
                    return Err(format!(
                        "is stored in {} bytes, not whole numbers of {kind:?}",
                        bytes.len()
                    ));
                }
                Tensor::f_from_data_size(&bytes, &[there as i64], kind)
                    .map_err(|e| Error::from(e).to_string())?
            }
        };
        if (tensor.kind(), tensor.numel() as i64) != (kind, *len) {
            return Err(format!(
                "claims {len} stored numbers of {kind:?}, but there are {} of {:?}",
                tensor.numel(),
                tensor.kind()
            ));
        }
        self.storages.insert(key.clone(), tensor.shallow_clone());
        Ok(tensor)
    }
}

/// The least number of values in a storage; `None` if the arguments are invalid or a value is used
/// more than once per axis.
fn min_len(offset: i64, size: &[i64], stride: &[i64]) -> Option<usize> {
    let mut end = usize::try_from(offset).ok()?;
    if size.contains(&0) {
        return size.iter().all(|&n| n >= 0).then_some(end);
    }
    for (&n, &step) in size.iter().zip(stride) {
        let (n, step) = (usize::try_from(n).ok()?, usize::try_from(step).ok()?);
        if n == 0 || (n > 1 && step == 0) {
            return None;
        }
        end = end.checked_add((n - 1).checked_mul(step)?)?;
    }
    end.checked_add(1)
}

#[cfg(test)]
mod tests;
