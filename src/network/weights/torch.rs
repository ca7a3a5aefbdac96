//! Files of `torch.save`. Only tensors in dictionaries (and in modules that were saved whole) are
//! read; nothing in the file is executed.

mod storages;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use tch::Tensor;

pub use self::storages::is_torch;
use self::storages::{KINDS, Storages};
use super::{
    names::Choice,
    pickle::{Object, Pickle, Storage, TensorView, Value},
};
use crate::base::{Error, Result};

/// Bytes of a tensor's name with the keys of the dictionaries around it, and entries of all
/// dictionaries; real ones are far below, and a small file cannot take much memory.
const MAX_NAME: usize = 300;
const MAX_ENTRIES: usize = 100_000;

/// The dictionaries in which a module keeps its parts; no part of a tensor's name.
const MODULE: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// Those tensors that `choose` takes by their names, on the CPU, in the kinds in which they are
/// stored. A name begins with the keys of the dictionaries around the tensor:
/// `state_dict.last_linear.bias`.
///
/// # Errors
/// Data, if the file is broken, has no tensors, or a tensor that is taken states wrong sizes.
pub fn read(
    path: &Path,
    bytes: &[u8],
    choose: impl FnOnce(&[String]) -> Choice,
) -> Result<BTreeMap<String, Tensor>> {
    tensors(bytes, choose).map_err(|what| {
        Error::data(path, format!("not a state dict of PyTorch that can be read: {what}"))
    })
}

fn tensors(
    bytes: &[u8],
    choose: impl FnOnce(&[String]) -> Choice,
) -> Result<BTreeMap<String, Tensor>, String> {
    let (pickle, storages) = Storages::open(bytes)?;
    let (names, values): (Vec<_>, Vec<_>) = named(&pickle)?.into_iter().unzip();
    if names.is_empty() {
        return Err(no_tensors(&pickle));
    }
    let mut reader = Reader { storages, read: HashMap::new() };
    let mut tensors = BTreeMap::new();
    // Tensors may share a storage, but all together must not be much larger than the file.
    let mut remaining = 2 * bytes.len() as u64;
    for (index, name) in choose(&names) {
        let wrong = |what: String| format!("tensor `{}` {what}", names[index].escape_debug());
        let tensor = match pickle.object(values[index]) {
            Some(Object::Tensor(view)) => reader.tensor(view).map_err(wrong)?,
            _ => {
                let class = class(&pickle, values[index]).unwrap_or_default().escape_debug();
                return Err(wrong(format!("is one of `{class}`; expected plain numbers")));
            }
        };
        let size = (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        remaining =
            remaining.checked_sub(size).ok_or("its tensors together are larger than the file")?;
        if tensors.insert(name, tensor).is_some() {
            return Err(wrong("is there twice, perhaps with and without a prefix".into()));
        }
    }
    Ok(tensors)
}

/// All tensors in dictionaries by name, also those that are not plain numbers. Each dictionary is
/// taken once, wherever it is referred to again.
fn named(pickle: &Pickle) -> Result<Vec<(String, Value)>, String> {
    let mut named = Vec::new();
    let mut seen = HashSet::new();
    let mut open =
        Vec::from_iter(may_hold(pickle, pickle.root).then(|| (String::new(), pickle.root)));
    while let Some((name, value)) = open.pop() {
        let (pairs, is_module) = match pickle.object(value) {
            Some(Object::Dict(pairs)) => (&pairs[..], false),
            Some(Object::Opaque { state, .. }) if pickle.dict(*state).is_some() => {
                (pickle.dict(*state).unwrap_or_default(), true)
            }
            Some(Object::Tensor(_) | Object::Opaque { .. }) if !name.is_empty() => {
                named.push((name, value));
                continue;
            }
            _ => continue,
        };
        if !matches!(value, Value::Object(at) if seen.insert(at)) {
            continue;
        }
        for &(key, value) in pairs.iter().rev() {
            let Some(key) = pickle.text(key) else { continue };
            let is_part = MODULE.contains(&key);
            if !may_hold(pickle, value)
                || is_module && !is_part
                || name.len() + key.len() > MAX_NAME
            {
                continue;
            }
            if named.len() + open.len() == MAX_ENTRIES {
                return Err(format!("more than {MAX_ENTRIES} tensors"));
            }
            open.push(match (is_part, name.is_empty()) {
                (true, _) => (name.clone(), value),
                (_, true) => (key.to_string(), value),
                _ => (format!("{name}.{key}"), value),
            });
        }
    }
    Ok(named)
}

/// Whether a value is or may hold a tensor, also one of a kind that is not read: quantised, sparse,
/// of 8 bits.
fn may_hold(pickle: &Pickle, value: Value) -> bool {
    match pickle.object(value) {
        Some(Object::Tensor(_) | Object::Dict(_)) => true,
        Some(Object::Opaque { state, .. }) => {
            pickle.dict(*state).is_some()
                || class(pickle, value).is_some_and(|name| {
                    name.starts_with("torch.")
                        && (name.contains("._rebuild_") || name.ends_with("Storage"))
                })
        }
        _ => false,
    }
}

/// The class or function that would have made an object.
fn class(pickle: &Pickle, value: Value) -> Option<&str> {
    let Object::Opaque { class, .. } = pickle.object(value)? else { return None };
    pickle.name(*class)
}

fn no_tensors(pickle: &Pickle) -> String {
    match class(pickle, pickle.root) {
        Some(class) => format!(
            "it holds an object of `{}`, which is not run; save its weights, with \
                torch.save(model.state_dict(), FILE)",
            class.escape_debug()
        ),
        None => "expected a dictionary of tensors".into(),
    }
}

struct Reader<'a> {
    storages: Storages<'a>,
    /// The storages read so far, by key.
    read: HashMap<String, Tensor>,
}

impl Reader<'_> {
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
        let tensor = match self.read.get(key) {
            Some(tensor) => tensor.shallow_clone(),
            None => {
                let bytes = self.storages.bytes(key)?;
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
        self.read.insert(key.clone(), tensor.shallow_clone());
        Ok(tensor)
    }
}

/// Whether libtorch can count the values of a tensor of such a size. An axis of no values does not
/// excuse the others, since strides are products of them.
pub fn is_size(size: &[i64]) -> bool {
    let product = size.iter().try_fold(8i64, |product, n| product.checked_mul(*n.max(&1)));
    product.is_some() && size.iter().all(|&n| n >= 0)
}

/// The least number of values in a storage; `None` if the arguments are invalid or a value is used
/// more than once per axis.
fn min_len(offset: i64, size: &[i64], stride: &[i64]) -> Option<usize> {
    let mut end = usize::try_from(offset).ok()?;
    if !is_size(size) {
        return None;
    }
    if size.contains(&0) {
        return Some(end);
    }
    for (&n, &step) in size.iter().zip(stride) {
        let (n, step) = (usize::try_from(n).ok()?, usize::try_from(step).ok()?);
        if n > 1 && step == 0 {
            return None;
        }
        end = end.checked_add((n - 1).checked_mul(step)?)?;
    }
    end.checked_add(1)
}

#[cfg(test)]
mod tests;
