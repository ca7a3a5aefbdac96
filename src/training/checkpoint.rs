//! Checkpoints: everything that a bit-exact resume needs, in one safetensors file with a checksum,
//! written whole or not at all. A damaged one is skipped in favour of the one before it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{
    base::{Error, Result},
    network::{
        model::{ComputeMode, Network},
        weights::{self, Metadata, NetworkState},
    },
    training::{history::EpochRow, origin::Origin},
};

/// How many checkpoints of the running training are kept: the last may be damaged.
const KEPT: usize = 2;

/// What bit-equal results depend on, besides the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Threads of each rank.
    pub threads: usize,
    #[serde(default = "one")]
    pub ranks: usize,
    #[serde(flatten)]
    pub compute_mode: ComputeMode,
    pub processor: String,
}

/// For checkpoints from before there were ranks.
fn one() -> usize {
    1
}

/// How far a training is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    #[serde(flatten)]
    pub network: NetworkState,
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
    pub history: Vec<EpochRow>,
    pub conditions: Conditions,
    /// [`FoldData::hash`](crate::training::fold_data::FoldData) of the samples that are trained on.
    pub data: u64,
    /// `None` in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl TrainingState {
    /// Before the first step.
    pub fn new(network: NetworkState, conditions: Conditions, data: u64) -> Self {
        Self {
            network,
            epoch: 0,
            step_in_epoch: 0,
            step: 0,
            optimizer_steps: 0,
            skipped: 0,
            best: None,
            history: Vec::new(),
            conditions,
            data,
            origin: None,
        }
    }

    /// Reads the JSON in the metadata of the checkpoint `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| {
            let what = format!(
                "this checkpoint is of another version of atlas ({e}); train into a new run with \
                    --run NAME"
            );
            Error::data(path, what)
        })
    }
}

/// A state and its tensors by name.
pub struct Checkpoint {
    pub state: TrainingState,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Writes it as one file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let state = serde_json::to_string(&self.state).map_err(Error::failed)?;
        let sum = weights::checksum(&state, &self.tensors);
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        let metadata = Metadata::from([("state".into(), state), ("xxh3".into(), sum)]);
        weights::write(path, &tensors, &metadata)
    }

    /// Reads and verifies one file.
    ///
    /// # Errors
    /// Data, where the file is damaged, of another version, or its tensors are not those of the
    /// network that it states, which may be of any size.
    pub fn read(path: &Path) -> Result<Self> {
        let checkpoint = Self::sealed(path)?;
        weights::check_flat(path, &checkpoint.state.network.spec, &checkpoint.tensors)?;
        Ok(checkpoint)
    }

    /// The content of a file that matches its checksum.
    fn sealed(path: &Path) -> Result<Self> {
        let (tensors, metadata) = weights::read(path)?;
        let (Some(text), Some(sum)) = (metadata.get("state"), metadata.get("xxh3")) else {
            let what = "no checkpoint of atlas: its metadata lacks `state` and `xxh3`";
            return Err(Error::data(path, what));
        };
        if weights::checksum(text, &tensors) != *sum {
            let what = "this checkpoint is broken: its content does not match its checksum";
            return Err(Error::data(path, what));
        }
        Ok(Self { state: TrainingState::parse(path, text)?, tensors })
    }

    /// Copies the weights into a network of the same kind.
    pub fn load_into(&self, network: &Network) -> Result<()> {
        let (parameters, buffers) = (self.tensor("parameters")?, self.tensor("buffers")?);
        tch::no_grad(|| {
            network.flat_parameters().copy_(parameters);
            network.flat_buffers().copy_(buffers);
        });
        Ok(())
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            Error::failed(format!(
                "the checkpoint has no tensor `{name}`: it was written by another \
                    program or with other keys in [train]; train into another run with --run NAME"
            ))
        })
    }
}

/// The files of a fold's `model_checkpoints/`.
pub struct CheckpointFolder(pub PathBuf);

impl CheckpointFolder {
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

    /// Whether there is a training to go on with.
    pub fn is_begun(&self) -> bool {
        self.last().exists() || self.resumable().is_ok_and(|paths| !paths.is_empty())
    }

    /// Writes the checkpoint of a running training and removes all but the newest ones.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.0.join(format!("step_{:09}.safetensors", checkpoint.state.step));
        checkpoint.write(&path)?;
        // Those of later steps are damaged: the training could not go on from them.
        let (newer, older): (Vec<_>, Vec<_>) =
            self.resumable()?.into_iter().partition(|p| *p > path);
        for old in newer.iter().chain(older.iter().rev().skip(KEPT)) {
            fs::remove_file(old).map_err(Error::io("remove", old))?;
        }
        Ok(())
    }

    /// The newest intact checkpoint; `None` if there is no checkpoint. Damaged ones are named in a
    /// warning.
    ///
    /// # Errors
    /// Data, if none of them can be read: training from the start must be the user's decision.
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
    use tch::{Device, Kind};

    use crate::{config::Config, loading::normalization::Normalization, network::model::Spec};

    fn checkpoint(step: u64) -> Checkpoint {
        let mut model = Config::default().model;
        model.arch = "se_resnext_tiny".into();
        let network = NetworkState { spec: Spec::of(&model), normalization: Normalization::unit() };
        let conditions = Conditions {
            threads: 2,
            ranks: 1,
            compute_mode: ComputeMode::PREFERRED,
            processor: "p".into(),
        };
        let state = TrainingState {
            epoch: 1,
            step_in_epoch: 2,
            step,
            optimizer_steps: step,
            best: Some((0.1, 1)),
            ..TrainingState::new(network, conditions, 5)
        };
        let tensors = [
            ("a", Tensor::from_slice(&[1.5f32, -0.0, f32::MIN_POSITIVE])),
            ("k", Tensor::from_slice(&[7i64]).view([1, 1])),
        ];
        Checkpoint { state, tensors: tensors.map(|(n, t)| (n.to_string(), t)).into() }
    }

    /// With the network's weights.
    fn whole(step: u64) -> Checkpoint {
        let mut whole = checkpoint(step);
        let (parameters, buffers) = whole.state.network.spec.flat_lengths().unwrap();
        for (name, length) in [("parameters", parameters), ("buffers", buffers)] {
            let zeros = Tensor::zeros([length], (Kind::Float, Device::Cpu));
            whole.tensors.insert(name.into(), zeros);
        }
        whole
    }

    /// State, and every tensor's name, kind, shape and bits.
    fn assert_same(read: &Checkpoint, written: &Checkpoint, what: &str) {
        assert_eq!(read.state, written.state, "{what}");
        let content = |c: &Checkpoint| -> Vec<_> {
            let one = |(name, t): (&String, &Tensor)| {
                (name.clone(), t.kind(), t.size(), weights::with_bytes(t, <[u8]>::to_vec))
            };
            c.tensors.iter().map(one).collect()
        };
        assert_eq!(content(read), content(written), "{what}");
    }

    /// The keys of the state, in order, as earlier versions wrote them.
    #[test]
    fn the_state_is_one_flat_json_object() {
        let text = serde_json::to_string(&checkpoint(3).state).unwrap();
        assert!(text.starts_with(r#"{"spec":{"arch":"#), "{text}");
        let keys = [
            "normalization",
            "epoch",
            "step_in_epoch",
            "step",
            "optimizer_steps",
            "skipped",
            "best",
            "history",
            "conditions",
            "data",
        ];
        let places: Vec<_> =
            keys.iter().map(|key| text.find(&format!(r#","{key}":"#)).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        let conditions = r#""conditions":{"threads":2,"ranks":1,"precision":"f32","#;
        assert!(text.contains(conditions), "{text}");
    }

    #[test]
    fn every_bit_is_read_back_and_every_flipped_byte_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        let written = checkpoint(3);
        written.write(&path).unwrap();
        let read = Checkpoint::sealed(&path).unwrap();
        assert_same(&read, &written, "unchanged");
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            // A flip in the padding or in a blank of the header may leave the content unchanged.
            if let Ok(read) = Checkpoint::sealed(&path) {
                assert_same(&read, &written, &format!("byte {i}"));
            }
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(Checkpoint::read(&path).err().unwrap().exit_code(), 65);
    }

    #[test]
    fn a_damaged_checkpoint_is_skipped_for_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of(dir.path());
        for step in [1, 2, 3] {
            folder.save(&whole(step)).unwrap();
        }
        let paths = folder.resumable().unwrap();
        assert_eq!(paths.len(), KEPT);
        let bytes = fs::read(&paths[1]).unwrap();
        fs::write(&paths[1], &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(folder.newest().unwrap().unwrap().state.step, 2);

        // The training goes on from there: the damaged one, of a later step, must not displace what
        // is written now.
        folder.save(&whole(2)).unwrap();
        assert_eq!(folder.newest().unwrap().unwrap().state.step, 2);
        assert!(!paths[1].exists());
        for path in folder.resumable().unwrap() {
            fs::write(path, "no").unwrap();
        }
        let e = folder.newest().err().unwrap();
        let folder = &*dir.path().to_string_lossy();
        assert!(e.exit_code() == 65 && e.to_string().contains(folder), "{e}");
    }

    #[test]
    fn a_checkpoint_with_a_loss_that_is_not_finite_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut c = whole(1);
        let row = EpochRow { epoch: 1, lr: 1.0, skipped_steps: 3, ..EpochRow::default() };
        c.state.history.push(row);
        c.tensors.insert("losses".into(), Tensor::from_slice(&[f32::NAN, f32::INFINITY]));
        c.write(&dir.path().join("c")).unwrap();
        assert_eq!(Checkpoint::read(&dir.path().join("c")).unwrap().state, c.state);
    }
    /// Whoever writes a checkpoint anew can give it a right checksum.
    #[test]
    fn sizes_that_are_absurd_or_of_another_network_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        let zeros = |n: i64, kind| Tensor::zeros([n], (kind, Device::Cpu));
        type Change = fn(&mut Checkpoint);
        let changes: [(&str, Change); 8] = [
            ("channels", |c| c.state.network.spec.channels = i64::MAX),
            ("channels", |c| c.state.network.spec.channels = -1),
            ("classes", |c| c.state.network.spec.classes = 1 << 40),
            ("classes", |c| c.state.network.spec.classes = 0),
            ("parameters", |c| c.state.network.spec.classes = 100_000),
            ("se_resnext_huge", |c| c.state.network.spec.arch = "se_resnext_huge".into()),
            ("buffers", |c| drop(c.tensors.remove("buffers"))),
            ("parameters", |c| {
                let double = c.tensors["parameters"].to_kind(Kind::Double);
                c.tensors.insert("parameters".into(), double);
            }),
        ];
        let refused = |c: &Checkpoint, what: &str| {
            c.write(&path).unwrap();
            let errors = [
                Checkpoint::read(&path).err().unwrap(),
                weights::Weights::open(&path).err().unwrap(),
            ];
            for e in errors {
                let text = e.to_string();
                assert!(e.exit_code() == 65 && text.contains("c.safetensors"), "{what}: {e}");
                assert!(text.contains(what), "{what}: {e}");
            }
        };
        for (what, change) in changes {
            let mut c = whole(1);
            change(&mut c);
            refused(&c, what);
        }
        let mut short = whole(1);
        short.tensors.insert("parameters".into(), zeros(7, Kind::Float));
        refused(&short, "[7]");
        whole(1).write(&path).unwrap();
        assert!(Checkpoint::read(&path).is_ok() && weights::Weights::open(&path).is_ok());
    }
}
