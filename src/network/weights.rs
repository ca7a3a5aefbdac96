//! Weight files: safetensors files that describe themselves, and state dicts of Cadene's and timm's
//! networks under the same names, also as PyTorch saves them. [`Weights::open`] checks a whole file
//! before [`Weights::network`] makes a network of it; [`export`] and [`onnx`] write files for other
//! programs.

mod description;
mod export;
mod file;
mod identify;
pub mod onnx;
mod pickle;
mod torch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use self::{
    description::describe,
    export::{export, save},
    file::{Metadata, checksum, read, with_bytes, write},
};
use self::{
    description::{spec_of, word},
    identify::{FIRST, best_match, mismatches},
};
use crate::{
    base::{Error, Result},
    loading::normalization::Normalization,
    network::model::{ComputeMode, Network, Spec},
};

/// The part of a checkpoint's state that describes its network; fields of the same JSON object as
/// the rest of `training::checkpoint::TrainingState`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkState {
    pub spec: Spec,
    pub normalization: Normalization,
}

/// The parts of a checkpoint's state that its flat tensors are read with.
#[derive(Deserialize)]
struct CheckpointState {
    #[serde(flatten)]
    network: NetworkState,
    conditions: ComputeMode,
}

/// The checked content of a weight file.
pub struct Weights {
    path: PathBuf,
    spec: Spec,
    tensors: BTreeMap<String, Tensor>,
    metadata: Metadata,
}

impl Weights {
    /// Reads a file of this program (also a checkpoint: `best` and `last` hold averaged weights,
    /// the others those of their step), or a state dict of Cadene's or timm's, as safetensors or
    /// from `torch.save`, with or without `module.` and `model.` before the names. `input`,
    /// `logits` and batch counters are ignored. What the metadata does not state is found from the
    /// shapes; the stem, which does not show in them, is then `standard`.
    ///
    /// # Errors
    /// Data, naming every tensor that is missing, unexpected or of a wrong shape.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut raw, metadata) = read(path)?;
        if let Some(state) = metadata.get("state") {
            if metadata.get("xxh3") != Some(&checksum(state, &raw)) {
                let what = "this checkpoint is broken: its content does not match its checksum";
                return Err(Error::data(path, what));
            }
            let (spec, tensors) = trained(path, state, &mut raw)?;
            return Ok(Self { path: path.into(), spec, tensors, metadata });
        }
        let mut tensors = BTreeMap::new();
        for (name, tensor) in raw {
            let mut short = name.as_str();
            while let Some(rest) =
                short.strip_prefix("module.").or_else(|| short.strip_prefix("model."))
            {
                short = rest;
            }
            if !matches!(short, "input" | "logits") && !short.ends_with("num_batches_tracked") {
                let tensor =
                    if tensor.is_floating_point() { tensor.to_kind(Kind::Float) } else { tensor };
                if tensors.insert(short.to_string(), tensor).is_some() {
                    let what =
                        format!("tensor `{short}` is there twice, with and without a prefix");
                    return Err(Error::data(path, what));
                }
            }
        }
        let spec = match metadata.contains_key("arch") {
            true => spec_of(path, &metadata)?,
            false => best_match(path, &tensors)?,
        };
        let problems = mismatches(&spec, &tensors)?;
        if problems.is_empty() {
            return Ok(Self { path: path.into(), spec, tensors, metadata });
        }
        let (arch, listed) = (&spec.arch, problems.join("; "));
        Err(Error::data(
            path,
            format!("these are not the weights of {arch}, the network that fits best: {listed}"),
        ))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The network that the weights belong to.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The file's metadata; those of a checkpoint are JSON under the key `state`.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The normalisation of images for these weights, if the file states it, as checkpoints do and
    /// what was exported from one.
    ///
    /// # Errors
    /// Data, if it cannot be read.
    pub fn normalization(&self) -> Result<Option<Normalization>> {
        let read = match (self.metadata.get("state"), self.metadata.get(NORMALIZATION)) {
            (Some(state), _) => {
                serde_json::from_str(state).map(|s: NetworkState| Some(s.normalization))
            }
            (None, Some(normalization)) => serde_json::from_str(normalization).map(Some),
            (None, None) => Ok(None),
        };
        read.map_err(|e| {
            Error::data(
                &self.path,
                format!("its metadata have no `{NORMALIZATION}` that can be read: {e}"),
            )
        })
    }

    /// Checks that a network of `spec` can start from these weights.
    ///
    /// # Errors
    /// Usage, if the architecture is another or there are fewer input channels.
    pub fn fit(&self, spec: &Spec) -> Result<()> {
        let (path, mine) = (self.path.display(), &self.spec);
        if spec.arch != mine.arch {
            return Err(Error::usage(format!(
                "{path}: the weights are of {}, not of {}: set model.arch to it",
                mine.arch, spec.arch
            )));
        }
        if spec.channels < mine.channels {
            return Err(Error::usage(format!(
                "{path}: the weights need {} channels, not {}",
                mine.channels, spec.channels
            )));
        }
        Ok(())
    }

    /// A network of `spec` with these weights, and a note on each change that this needed. If it
    /// has more input channels than the file, the new ones get the mean of the others, and all are
    /// scaled so that activations keep their size. If it has another head or number of classes, the
    /// head is initialised from `seed`.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn network(
        &self,
        spec: &Spec,
        seed: u64,
        nhwc: bool,
        device: Device,
    ) -> Result<(Network, Vec<String>)> {
        self.fit(spec)?;
        let mine = &self.spec;
        let network = Network::new(spec, seed, nhwc, device)?;
        let mut notes = Vec::new();
        let keep_head = (spec.head, spec.classes) == (mine.head, mine.classes);
        if !keep_head {
            let (was, now) = (head_of(mine), head_of(spec));
            notes.push(format!(
                "the head is new and untrained: the file has {was}, wanted is {now}"
            ));
        }
        if spec.stem != mine.stem {
            notes.push(format!(
                "the weights were trained with the stem `{}`, wanted is `{}`",
                word(mine.stem),
                word(spec.stem)
            ));
        }
        if spec.channels != mine.channels {
            notes.push(format!(
                "{} input channels became {}, the new ones from the mean of the others",
                mine.channels, spec.channels
            ));
        }
        for (name, mut target) in network.named_tensors() {
            match self.tensors.get(&name) {
                Some(kernel) if name == FIRST => target.copy_(&expanded(kernel, spec.channels)),
                Some(tensor) if keep_head || !is_head(&name) => target.copy_(tensor),
                _ => {}
            }
        }
        Ok((network, notes))
    }
}

/// The metadata key of a normalisation, which is JSON.
pub const NORMALIZATION: &str = "normalization";

fn is_head(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("last_linear.")
}

fn head_of(spec: &Spec) -> String {
    format!("`{}` with {} classes", word(spec.head), spec.classes)
}

/// A kernel `[o, i, kh, kw]` for `channels` inputs.
fn expanded(kernel: &Tensor, channels: i64) -> Tensor {
    let old = kernel.size()[1];
    if old == channels {
        return kernel.shallow_clone();
    }
    let mean = kernel.mean_dim([1].as_slice(), true, Kind::Float);
    let mut parts = vec![kernel.shallow_clone()];
    parts.extend((old..channels).map(|_| mean.shallow_clone()));
    Tensor::cat(&parts, 1) * (old as f64 / channels as f64)
}

/// The network of a checkpoint, whose flat tensors become named ones.
fn trained(
    path: &Path,
    state: &str,
    raw: &mut BTreeMap<String, Tensor>,
) -> Result<(Spec, BTreeMap<String, Tensor>)> {
    let broken = |what: String| {
        Error::data(path, format!("this checkpoint cannot be used as weights: {what}"))
    };
    let CheckpointState { network: NetworkState { spec, .. }, conditions } =
        serde_json::from_str(state).map_err(|e| broken(e.to_string()))?;
    let network = Network::new(&spec, 0, conditions.channels_last, Device::Cpu)?;
    for (name, mut flat) in
        [("parameters", network.flat_parameters()), ("buffers", network.flat_buffers())]
    {
        match raw.remove(name) {
            Some(values) if values.size() == flat.size() => tch::no_grad(|| flat.copy_(&values)),
            _ => return Err(broken(format!("its `{name}` are missing or of another size"))),
        }
    }
    Ok((spec, network.named_tensors().into_iter().collect()))
}
