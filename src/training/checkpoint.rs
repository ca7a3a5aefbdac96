//! Checkpoints: all that a bit-exact resume needs in one safetensors file with a checksum, written
//! whole or not at all. A broken one is skipped in favour of the one before it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{
    base::{Error, Result},
    loading::normalization::Normalization,
    network::{
        model::{ComputeMode, Spec},
        weights::{self, Metadata},
    },
    training::history::Row,
};

/// How many checkpoints of the running training are kept: the last may be bad.
const KEPT: usize = 2;

/// What bit-equal results depend on besides the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Of each rank.
    pub threads: usize,
    #[serde(default = "one")]
    pub ranks: usize,
    #[serde(flatten)]
    pub compute_mode: ComputeMode,
    pub processor: String,
}

/// Of checkpoints that do not say.
fn one() -> usize {
    1
}

/// Where a training stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub spec: Spec,
    pub normalization: Normalization,
    /// Epochs completed.
    pub epoch: usize,
    /// Steps completed in the epoch after those.
    pub step_in_epoch: usize,
    /// Steps completed since the start, skipped ones included.
    pub step: u64,
    /// Steps that the optimizer took.
    pub optimizer_steps: u64,
    /// Steps skipped because of a gradient that was not finite.
    pub skipped: usize,
    /// The best validation score so far and its epoch.
    pub best: Option<(f64, usize)>,
    pub history: Vec<Row>,
    pub conditions: Conditions,
    /// Hash of the samples, their order and the labels that the training is about.
    pub data: u64,
}

/// A state and its tensors by name.
pub struct Checkpoint {
    pub state: State,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Writes it as one file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let state = serde_json::to_string(&self.state).map_err(Error::failed)?;
        let sum = weights::checksum(&state, &self.tensors);
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        weights::write(
            path,
            &tensors,
            &Metadata::from([("state".into(), state), ("xxh3".into(), sum)]),
        )
    }

    /// Reads and verifies one file.
    pub fn read(path: &Path) -> Result<Self> {
        let (tensors, metadata) = weights::read(path)?;
        let (Some(text), Some(sum)) = (metadata.get("state"), metadata.get("xxh3")) else {
            return Err(Error::data(
                path,
                "no checkpoint of atlas: its metadata lacks `state` and `xxh3`",
            ));
        };
        if weights::checksum(text, &tensors) != *sum {
            return Err(Error::data(
                path,
                "this checkpoint is broken: its content does not match its checksum",
            ));
        }
        let state = serde_json::from_str(text).map_err(|e| {
            Error::data(
                path,
                format!(
                    "this checkpoint is of another version of atlas ({e}); train \
                into a new run with --run NAME"
                ),
            )
        })?;
        Ok(Self { state, tensors })
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            Error::failed(format!(
                "the checkpoint has no tensor `{name}`; it is of another configuration"
            ))
        })
    }
}

/// The files of a fold's `model_checkpoints/`.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn of(fold: &Path) -> Self {
        Self(fold.join("model_checkpoints"))
    }

    /// Weights of the best epoch.
    pub fn best(&self) -> PathBuf {
        self.0.join("best.safetensors")
    }

    /// Weights of the last epoch.
    pub fn last(&self) -> PathBuf {
        self.0.join("last.safetensors")
    }

    /// Whether a training has left anything to go on with.
    pub fn is_begun(&self) -> bool {
        self.last().exists() || self.resumable().is_ok_and(|paths| !paths.is_empty())
    }

    /// Writes the checkpoint of a running training and removes all but the newest ones.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.0.join(format!("step_{:09}.safetensors", checkpoint.state.step));
        checkpoint.write(&path)?;
        // What claims to be newer could not be read when the training went on.
        let (newer, older): (Vec<_>, Vec<_>) =
            self.resumable()?.into_iter().partition(|p| *p > path);
        for old in newer.iter().chain(older.iter().rev().skip(KEPT)) {
            fs::remove_file(old).map_err(Error::io("remove", old))?;
        }
        Ok(())
    }

    /// The newest whole checkpoint, if there is any at all; broken ones are named in a warning.
    ///
    /// # Errors
    /// Data, where there are some and none can be read: starting over would be a loss that nobody
    /// asked for.
    pub fn newest(&self) -> Result<Option<Checkpoint>> {
        let paths = self.resumable()?;
        for path in paths.iter().rev() {
            match Checkpoint::read(path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(e) => log::warn!("{e}; taking the one before it"),
            }
        }
        if paths.is_empty() {
            return Ok(None);
        }
        let what = format!(
            "none of the {} checkpoints can be read; remove them to begin again, or train into a \
                new run with --run NAME",
            paths.len()
        );
        Err(Error::data(&self.0, what))
    }

    /// In ascending order of their step.
    fn resumable(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", &self.0)(e)),
        };
        let is_ours = |p: &PathBuf| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with("step_") && n.ends_with(".safetensors"))
        };
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).filter(is_ours).collect();
        paths.sort();
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn checkpoint(step: u64) -> Checkpoint {
        let state = State {
            spec: Spec::of(&Config::default().model),
            normalization: Normalization::unit(),
            epoch: 1,
            step_in_epoch: 2,
            step,
            optimizer_steps: step,
            skipped: 0,
            best: Some((0.1, 1)),
            history: vec![],
            conditions: Conditions {
                threads: 2,
                ranks: 1,
                compute_mode: ComputeMode::PREFERRED,
                processor: "p".into(),
            },
            data: 5,
        };
        let tensors = [
            ("a", Tensor::from_slice(&[1.5f32, -0.0, f32::MIN_POSITIVE])),
            ("k", Tensor::from_slice(&[7i64]).view([1, 1])),
        ];
        Checkpoint { state, tensors: tensors.map(|(n, t)| (n.to_string(), t)).into() }
    }

    #[test]
    fn every_bit_comes_back_and_every_flipped_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        let written = checkpoint(3);
        written.write(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read.state, written.state);
        let bits = |c: &Checkpoint| weights::with_bytes(c.tensor("a").unwrap(), <[u8]>::to_vec);
        assert_eq!(bits(&read), bits(&written));
        assert_eq!(read.tensor("k").unwrap().size(), [1, 1]);
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            // A flip in the padding or in a blank of the header may leave the content as it was,
            // but never change it.
            if let Ok(read) = Checkpoint::read(&path) {
                assert_eq!(read.state, written.state, "byte {i}");
            }
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(Checkpoint::read(&path).err().unwrap().exit_code(), 65);
    }

    #[test]
    fn a_broken_checkpoint_gives_way_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path());
        for step in [1, 2, 3] {
            folder.save(&checkpoint(step)).unwrap();
        }
        let paths = folder.resumable().unwrap();
        assert_eq!(paths.len(), KEPT);
        let whole = fs::read(&paths[1]).unwrap();
        fs::write(&paths[1], &whole[..whole.len() / 2]).unwrap();
        assert_eq!(folder.newest().unwrap().unwrap().state.step, 2);

        // The training goes on from there: the broken one, of a later step, must not push out what
        // is written now.
        folder.save(&checkpoint(2)).unwrap();
        assert_eq!(folder.newest().unwrap().unwrap().state.step, 2);
        assert!(!paths[1].exists());
        for path in folder.resumable().unwrap() {
            fs::write(path, "no").unwrap();
        }
        let e = folder.newest().err().unwrap();
        assert!(
            e.exit_code() == 65 && e.to_string().contains(&*dir.path().to_string_lossy()),
            "{e}"
        );
    }

    #[test]
    fn a_loss_that_is_not_finite_leaves_a_checkpoint_that_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut c = checkpoint(1);
        let row = Row {
            epoch: 1,
            train_loss: None,
            train_macro_f1: 0.0,
            valid_loss: None,
            macro_f1: None,
            macro_f1_fitted: None,
            map: None,
            lr: 1.0,
            skipped_steps: 3,
        };
        c.state.history.push(row);
        c.tensors.insert("losses".into(), Tensor::from_slice(&[f32::NAN, f32::INFINITY]));
        c.write(&dir.path().join("c")).unwrap();
        assert_eq!(Checkpoint::read(&dir.path().join("c")).unwrap().state, c.state);
    }
}
