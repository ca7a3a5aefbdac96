//! Weight files: safetensors files that describe themselves, and state dicts of Cadene's and timm's
//! networks under the same names, also as PyTorch saves them. [`Weights::open`] checks a whole file
//! before [`Weights::network`] makes a network of it; [`export`] and [`onnx`] write files for other
//! programs.

mod description;
mod export;
mod file;
mod identify;
mod names;
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
    file::read_chosen,
    identify::{FIRST, best_match, check_finite, misfit, mismatches},
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
    /// On what was left out of the file.
    notes: Vec<String>,
}

impl Weights {
    /// Reads a file of this program (also a checkpoint: `best` and `last` hold averaged weights,
    /// the others those of their step), or a state dict of Cadene's or timm's networks, as
    /// safetensors or from `torch.save`, alone or within what a training script saves beside it,
    /// under a network's own names or behind any prefix. Of several networks in a file, averaged
    /// weights are taken before others. `input`, `logits` and counters are ignored. What the
    /// metadata does not state is found from the shapes; the stem, which does not show in them, is
    /// then `standard`.
    ///
    /// # Errors
    /// Data, naming the first tensors that are missing, unexpected, of a wrong shape or not finite.
    pub fn open(path: &Path) -> Result<Self> {
        let mut notes = Vec::new();
        let (mut tensors, metadata) = read_chosen(path, |names, metadata| {
            if metadata.contains_key("state") {
                return names.iter().cloned().enumerate().collect();
            }
            let (choice, left_out) = names::choose(names);
            notes = left_out;
            choice
        })?;
        let spec = match metadata.get("state") {
            Some(state) => {
                if metadata.get("xxh3") != Some(&checksum(state, &tensors)) {
                    let what = "this checkpoint is broken: its content does not match its checksum";
                    return Err(Error::data(path, what));
                }
                let (spec, named) = trained(path, state, &tensors)?;
                tensors = named;
                spec
            }
            None => fitting(path, &mut tensors, &metadata)?,
        };
        check_finite(path, &tensors)?;
        Ok(Self { path: path.into(), spec, tensors, metadata, notes })
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

    /// A network of `spec` with these weights, and a note on each change that this needed and on
    /// what was left out of the file. If it
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
        let mut notes = self.notes.clone();
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

/// The network that a state dict's tensors, which become f32, are of.
fn fitting(
    path: &Path,
    tensors: &mut BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<Spec> {
    for tensor in tensors.values_mut().filter(|t| t.is_floating_point()) {
        *tensor = tensor.to_kind(Kind::Float);
    }
    let spec = match metadata.contains_key("arch") {
        true => spec_of(path, metadata)?,
        false => best_match(path, tensors)?,
    };
    let problems = mismatches(&spec, tensors)?;
    if problems.is_empty() { Ok(spec) } else { Err(misfit(path, &spec, tensors, &problems)) }
}

/// The network of a checkpoint, whose flat tensors become named ones.
fn trained(
    path: &Path,
    state: &str,
    flat: &BTreeMap<String, Tensor>,
) -> Result<(Spec, BTreeMap<String, Tensor>)> {
    let CheckpointState { network: NetworkState { spec, .. }, conditions } =
        serde_json::from_str(state).map_err(|e| {
            Error::data(path, format!("this checkpoint cannot be used as weights: {e}"))
        })?;
    check_flat(path, &spec, flat)?;
    let network = Network::new(&spec, 0, conditions.channels_last, Device::Cpu)?;
    let targets = [("parameters", network.flat_parameters()), ("buffers", network.flat_buffers())];
    for (name, mut target) in targets {
        tch::no_grad(|| target.copy_(&flat[name]));
    }
    Ok((spec, network.named_tensors().into_iter().collect()))
}

/// Checks the flat tensors of a checkpoint before a network is built: that the network is a
/// possible one, and that its weights are there.
///
/// # Errors
/// Data.
pub fn check_flat(path: &Path, spec: &Spec, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let (parameters, buffers) = spec
        .flat_lengths()
        .map_err(|e| Error::data(path, format!("this checkpoint cannot be used: {e}")))?;
    for (name, expected) in [("parameters", parameters), ("buffers", buffers)] {
        let found = match tensors.get(name) {
            Some(t) if t.kind() == Kind::Float && t.size() == [expected] => continue,
            Some(t) => format!("{:?} of {:?}", t.size(), t.kind()),
            None => "none".into(),
        };
        let what = format!(
            "this checkpoint cannot be used: its `{name}` are {found}, expected [{expected}] of \
                Float for {}",
            spec.arch
        );
        return Err(Error::data(path, what));
    }
    Ok(())
}
