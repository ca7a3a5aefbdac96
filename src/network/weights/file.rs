//! Named tensors in a safetensors file. The crate is not used for writing, because equal content
//! must give equal bytes (it keeps metadata in a hash map), and the file must appear complete or
//! not at all.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, json};
use tch::{Device, Kind, Tensor};

use super::{
    names::{Choice, shown},
    torch,
};
use crate::base::{Error, Result, atomic_file, checksum, fault};

/// Text about the tensors of a file, by key.
pub type Metadata = BTreeMap<String, String>;

const KINDS: [(Dtype, Kind, &str); 8] = [
    (Dtype::F32, Kind::Float, "F32"),
    (Dtype::F16, Kind::Half, "F16"),
    (Dtype::BF16, Kind::BFloat16, "BF16"),
    (Dtype::F64, Kind::Double, "F64"),
    (Dtype::I64, Kind::Int64, "I64"),
    (Dtype::I32, Kind::Int, "I32"),
    (Dtype::U8, Kind::Uint8, "U8"),
    (Dtype::BOOL, Kind::Bool, "BOOL"),
];

/// All tensors of a safetensors file, or of a file of `torch.save`, on the CPU, in the kinds in
/// which they are stored.
///
/// # Errors
/// Data, if it is neither, is truncated, or holds an unknown kind of number.
pub fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, Metadata)> {
    read_chosen(path, |names, _| names.iter().cloned().enumerate().collect())
}

/// As [`read`], the tensors that `choose` takes by their names and the metadata.
pub fn read_chosen(
    path: &Path,
    choose: impl FnOnce(&[String], &Metadata) -> Choice,
) -> Result<(BTreeMap<String, Tensor>, Metadata)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    if torch::is_torch(&bytes) {
        let none = Metadata::new();
        return Ok((torch::read(path, &bytes, |names| choose(names, &none))?, none));
    }
    let invalid = |e| Error::data(path, foreign(&bytes, e));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let views = SafeTensors::deserialize(&bytes).map_err(invalid)?;
    let names: Vec<String> = views.names().into_iter().map(String::from).collect();
    let mut tensors = BTreeMap::new();
    for (index, name) in choose(&names, &metadata) {
        let view = views.tensor(&names[index]).map_err(invalid)?;
        let wrong =
            |what: String| Error::data(path, format!("tensor `{}` {what}", shown(&names[index])));
        let Some((_, kind, _)) = KINDS.iter().find(|k| k.0 == view.dtype()) else {
            let dtype = view.dtype();
            return Err(wrong(format!("is of kind {dtype:?}; expected F32, F16, BF16 or F64")));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        if !torch::is_size(&shape) {
            return Err(wrong(format!("has the impossible shape {:?}", view.shape())));
        }
        let tensor = Tensor::f_from_data_size(view.data(), &shape, *kind)?;
        if tensors.insert(name, tensor).is_some() {
            return Err(wrong("is there twice, with and without a prefix".into()));
        }
    }
    Ok((tensors, metadata))
}

/// What a file is that is no weight file, as far as its first bytes tell.
fn foreign(bytes: &[u8], e: SafeTensorError) -> String {
    if bytes.starts_with(b"version https://git-lfs") {
        return "this is Git LFS's pointer to the weights; get them with `git lfs pull`".into();
    }
    if bytes.trim_ascii_start().starts_with(b"<") {
        return "this is a web page, perhaps of a download that failed, not a weight file".into();
    }
    format!("expected a complete safetensors file or one of torch.save ({e})")
}

/// Writes tensors in the given order, completely or not at all. Equal content gives equal bytes.
pub fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in tensors {
        let kind = KINDS.iter().find(|k| k.1 == tensor.kind());
        let (_, _, kind) = kind.ok_or_else(|| {
            Error::failed(format!("tensor `{name}` of kind {:?} cannot be stored", tensor.kind()))
        })?;
        let end = offset + tensor.numel() * tensor.kind().elt_size_in_bytes();
        header.insert(
            name.clone(),
            json!({"dtype": kind, "shape": tensor.size(), "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header).expect("plain data with string keys");
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = atomic_file::Writer::create(path)?;
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io("write", path));
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for (_, tensor) in tensors {
        with_bytes(tensor, &mut put)?;
        fault::kill_at("half", path);
    }
    out.finish()
}

/// Calls `f` with a tensor's values as bytes, in row order, little-endian as on every machine that
/// libtorch runs on.
pub fn with_bytes<T>(tensor: &Tensor, f: impl FnOnce(&[u8]) -> T) -> T {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let len = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if len == 0 {
        return f(&[]);
    }
    // SAFETY: a contiguous tensor in host memory owns `len` initialised bytes from its data pointer
    // on, and it lives until the end of this function.
    f(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), len) })
}

/// Of a checkpoint: over its state and, in the order of their names, every tensor's name, kind,
/// shape and data; in hex.
pub fn checksum(state: &str, tensors: &BTreeMap<String, Tensor>) -> String {
    let mut sums = Vec::new();
    for (name, tensor) in tensors {
        sums.extend(
            checksum::of(format!("{name}{:?}{:?}", tensor.kind(), tensor.size()).as_bytes())
                .to_le_bytes(),
        );
        sums.extend(with_bytes(tensor, checksum::of).to_le_bytes());
    }
    format!("{:016x}", checksum::of_parts([state.as_bytes(), &sums]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_and_equal_content_gives_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
        let strided =
            Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 4]).permute([2, 0, 1]);
        let tensors = [
            ("z".to_string(), strided),
            ("half".to_string(), Tensor::from_slice(&[1.5f32, -2.0]).to_kind(Kind::BFloat16)),
            ("none".to_string(), Tensor::zeros([0, 3], (Kind::Int64, Device::Cpu))),
        ];
        let metadata: Metadata = (0..20).map(|i| (format!("key{i}"), format!("\"{i}\""))).collect();
        write(&a, &tensors, &metadata).unwrap();
        write(&b, &tensors, &metadata).unwrap();
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
        let (read, text) = read(&a).unwrap();
        assert_eq!((read.len(), text), (3, metadata));
        for (name, tensor) in tensors {
            assert!(read[&name].size() == tensor.size() && read[&name].equal(&tensor), "{name}");
        }
    }

    #[test]
    fn a_file_cut_off_or_foreign_is_bad_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let tensor = Tensor::zeros([100], (Kind::Float, Device::Cpu));
        write(&path, &[("w".to_string(), tensor)], &Metadata::new()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for bad in [&bytes[..bytes.len() - 1], &bytes[..5], b"PK\x03\x04 no zip", b""] {
            fs::write(&path, bad).unwrap();
            let e = read(&path).unwrap_err();
            assert!(e.exit_code() == 65 && e.to_string().contains("w.safetensors"), "{e}");
        }
    }
}
