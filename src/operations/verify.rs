//! Checks that files written by this program are complete and undamaged.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    base::{Error, Result, sealed_hdf5::Sealed},
    data::shard,
    network::weights::{self, Weights},
    scoring::prediction_file::Predictions,
    training::checkpoint::Checkpoint,
};

/// Adds to `files` the file `path`, or the files of a known kind in the folder `path`, in order.
///
/// # Errors
/// Usage where `path` does not exist; data where a folder has no such file.
pub fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.exists() {
        return Err(Error::usage(format!("{} does not exist", path.display())));
    }
    if !path.is_dir() {
        files.push(path.into());
        return Ok(());
    }
    let before = files.len();
    let mut entries: Vec<_> =
        fs::read_dir(path).map_err(Error::io("list", path))?.flatten().map(|e| e.path()).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if entry.is_dir() && !hidden {
            let _ = collect(&entry, files); // a subfolder may have none
        } else if !hidden && kind(&entry).is_some() {
            files.push(entry);
        }
    }
    if files.len() == before {
        return Err(Error::data(
            path,
            "there is nothing to verify in this folder; expected .h5 or .safetensors files",
        ));
    }
    Ok(())
}

fn kind(path: &Path) -> Option<&str> {
    path.extension()?.to_str().filter(|e| ["h5", "safetensors"].contains(e))
}

/// Checks one file against its checksums (weights have none: they are read, and names and shapes
/// checked). Returns a description of its content.
///
/// # Errors
/// Data, where the file is damaged or of another kind.
pub fn check(path: &Path) -> Result<String> {
    match kind(path) {
        Some("h5") if holds_predictions(path)? => {
            Ok(format!("predictions of {} samples", Predictions::read(path)?.ids.len()))
        }
        Some("h5") if let Some(samples) = embeddings(path)? => {
            Ok(format!("embeddings of {samples} samples"))
        }
        Some("h5") => {
            let shard = shard::Reader::open(path)?;
            shard.verify()?;
            Ok(format!("{} samples of {} pixels a side", shard.len(), shard.size()))
        }
        Some("safetensors") if weights::read(path)?.1.contains_key("arch") => {
            Ok(format!("weights of {}", Weights::open(path)?.spec().arch))
        }
        Some("safetensors") => {
            let state = Checkpoint::read(path)?.state;
            let arch = &state.network.spec.arch;
            Ok(format!("{arch} after epoch {}, step {}", state.epoch, state.step))
        }
        _ => Err(Error::data(
            path,
            "not a kind of file that can be verified; expected .h5 or .safetensors",
        )),
    }
}

/// The number of embeddings in a file of `predict --embeddings`; `None` in others.
fn embeddings(path: &Path) -> Result<Option<u64>> {
    let sealed = Sealed::open(path)?.ok();
    let place = sealed.as_ref().and_then(|sealed| sealed.place::<f32>("embeddings").ok());
    Ok(place.and_then(|place| place.shape.first().copied()))
}

/// Judged by the list of contents; where the file does not fit its seal or has none, by its place
/// or by the name of its data set, which is in plain text at the start of the file.
fn holds_predictions(path: &Path) -> Result<bool> {
    if let Ok(sealed) = Sealed::open(path)? {
        return Ok(sealed.has("probabilities"));
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|f| f.take(4096).read_to_end(&mut start))
        .map_err(Error::io("read", path))?;
    let is_in_place = path.ends_with("validation.h5")
        || path.parent().is_some_and(|p| p.ends_with("predictions"));
    Ok(is_in_place || start.windows(13).any(|w| w == b"probabilities"))
}
