//! The weights of a fold, found to be those of this fold and run before anyone uses them.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{checkpoint::TrainingState, origin::Origin, run_folder::Run};
use crate::{
    base::{Error, Result, advice},
    config::Keep,
    network::{model::Spec, weights::Metadata},
};

/// The weights of a fold that validation and prediction use.
///
/// # Errors
/// Data, naming the file, where it is missing or no checkpoint, or was copied from another fold or
/// run.
pub fn of_fold(run: &Run, fold: usize, keep: Keep) -> Result<PathBuf> {
    state_of_fold(run, fold, keep).map(|_| run.weights(fold, keep))
}

/// The state in the weights of a fold.
///
/// # Errors
/// As [`of_fold`].
pub fn state_of_fold(run: &Run, fold: usize, keep: Keep) -> Result<TrainingState> {
    let path = run.weights(fold, keep);
    let state = state_of(&path)?;
    let unlike = unlike(&state, run, fold)?.or_else(|| of_other_epoch(&state, keep));
    match unlike {
        None => Ok(state),
        Some(what) => Err(Error::data(&path, advised(&what, run, fold))),
    }
}

/// Says where the best weights are not of the best epoch, as where the last ones were copied there.
fn of_other_epoch(state: &TrainingState, keep: Keep) -> Option<String> {
    let (_, best) = state.best.filter(|(_, best)| keep == Keep::Best && *best != state.epoch)?;
    Some(format!("they are of epoch {}, the best was epoch {best}", state.epoch))
}

/// The state in a checkpoint, without its tensors, so that it is quickly read: nothing is compared
/// with its checksum.
fn state_of(path: &Path) -> Result<TrainingState> {
    let header = read_header(path).map_err(Error::io("read", path))?;
    let state = header.as_ref().and_then(|header| header.metadata.get("state"));
    let text = state.ok_or_else(|| {
        Error::data(path, "not a complete checkpoint of atlas: no `state` in its metadata")
    })?;
    TrainingState::parse(path, text)
}

/// The JSON at the start of a safetensors file.
#[derive(Deserialize)]
struct Header {
    #[serde(default, rename = "__metadata__")]
    metadata: Metadata,
}

/// `None` where the file does not begin with its length and itself.
fn read_header(path: &Path) -> io::Result<Option<Header>> {
    let mut file = File::open(path)?;
    let (bytes, mut length) = (file.metadata()?.len(), [0; 8]);
    if bytes < 8 {
        return Ok(None);
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > bytes - 8 {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    Ok(serde_json::from_slice(&header).ok())
}

/// Says in what a checkpoint is not of this fold and run; `None` where it is, as far as it tells.
///
/// # Errors
/// Usage where the run's configuration cannot be read.
pub fn unlike(state: &TrainingState, run: &Run, fold: usize) -> Result<Option<String>> {
    let config = run.config()?;
    let (wanted, found) = (Spec::of(&config.model), &state.network.spec);
    if *found != wanted {
        return Ok(Some(match found.arch == wanted.arch {
            true => format!("they are of another network ({found:?}, expected {wanted:?})"),
            false => format!("they are of {}, not {}", found.arch, wanted.arch),
        }));
    }
    let wanted = Origin::of(&config, &run.provenance(), fold);
    Ok(state.origin.as_ref().and_then(|origin| origin.unlike(&wanted)))
}

/// The fault and what to do.
pub fn advised(what: &str, run: &Run, fold: usize) -> String {
    format!(
        "these are not the weights of fold {fold} of the run {}: {what}; put the file of this fold \
         back, or remove {} and train it again with `atlas train --run {} --fold {fold}`",
        run.name(),
        run.fold(fold).display(),
        advice::quoted(run.name())
    )
}
