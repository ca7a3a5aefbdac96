//! Weights in and out: safetensors files that describe themselves, and state dicts of Cadene's and
//! timm's networks under the same names, also as PyTorch saves them. [`Weights::open`] checks a
//! file in full before [`Weights::network`] makes a network of it; [`export`] and [`onnx`] give
//! networks to others.

mod file;
pub mod onnx;
mod pickle;
mod torch;

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use self::file::{Metadata, checksum, read, with_bytes, write};
use crate::{
    base::{Error, Result},
    config::{Head, Stem},
    loading::normalization::Normalization,
    network::model::{ARCHS, ComputeMode, Network, Spec},
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
    /// Reads a file of ours (a checkpoint too: `best` and `last` hold averaged weights, the others
    /// those of the moment), or a state dict of Cadene's or timm's, as safetensors or from
    /// `torch.save`, with or without `module.` and `model.` before the names. `input`, `logits` and
    /// batch counters are ignored. What the metadata does not say is found from the shapes; the
    /// stem, which has none, is then `standard`.
    ///
    /// # Errors
    /// Data, naming every tensor that is missing, unexpected or of a wrong shape.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut raw, metadata) = read(path)?;
        if let Some(state) = metadata.get("state") {
            if metadata.get("xxh3") != Some(&checksum(state, &raw)) {
                return Err(Error::data(
                    path,
                    "this checkpoint is broken: its content does not match its checksum",
                ));
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
                    return Err(Error::data(
                        path,
                        format!("tensor `{short}` is there twice, with and without a prefix"),
                    ));
                }
            }
        }
        let spec = match metadata.contains_key("arch") {
            true => described(path, &metadata)?,
            false => guessed(path, &tensors)?,
        };
        let problems = problems(&spec, &tensors)?;
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

    /// What the file holds.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What the file says of itself; a checkpoint's lies under `state`.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What images have to go through before these weights, where the file says it: checkpoints do,
    /// and what was exported from one.
    ///
    /// # Errors
    /// Data, where it cannot be read.
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

    /// Whether a network as `spec` wants it can begin with them.
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
                "{path}: the weights want {} channels, not {}",
                mine.channels, spec.channels
            )));
        }
        Ok(())
    }

    /// A network as `spec` wants it with these weights, and what had to be changed to get there, in
    /// words. More input channels than the file's: the new ones get the mean of the others, and all
    /// are scaled so that activations keep their size. Another head or number of classes: the head
    /// starts afresh from `seed`.
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

/// Writes a network's weights with what it is in the metadata, and `more` beside it.
pub fn save(path: &Path, network: &Network, more: &Metadata) -> Result<()> {
    let mut metadata = describe(network.spec());
    metadata.extend(more.clone());
    write(path, &network.named_tensors(), &metadata)
}

/// The metadata by which a weight file describes itself.
pub fn describe(spec: &Spec) -> Metadata {
    let Spec { arch, stem, head, channels, classes, dropout } = spec;
    let pairs = [
        ("arch", arch.clone()),
        ("stem", word(*stem)),
        ("head", word(*head)),
        ("channels", channels.to_string()),
        ("classes", classes.to_string()),
        ("dropout", dropout.to_string()),
    ];
    pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

/// The key under which a normalisation stands in metadata, as JSON.
pub const NORMALIZATION: &str = "normalization";

/// The kernel that sees the image.
const FIRST: &str = "layer0.conv1.weight";
const TIMM_DROPOUT: f64 = 0.2;

fn is_head(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("last_linear.")
}

fn head_of(spec: &Spec) -> String {
    format!("`{}` with {} classes", word(spec.head), spec.classes)
}

/// A setting as the configuration writes it.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}

/// `[o, i, kh, kw]` to `channels` inputs.
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

fn described(path: &Path, metadata: &Metadata) -> Result<Spec> {
    fn parsed<T: serde::de::DeserializeOwned>(
        path: &Path,
        metadata: &Metadata,
        key: &str,
        text: bool,
    ) -> Result<T> {
        let value = metadata
            .get(key)
            .ok_or_else(|| Error::data(path, format!("the metadata has `arch` but no `{key}`")))?;
        let json = if text { serde_json::to_value(value) } else { serde_json::from_str(value) };
        json.and_then(serde_json::from_value)
            .map_err(|e| Error::data(path, format!("metadata `{key}` is `{value}`: {e}")))
    }
    let spec = Spec {
        arch: parsed(path, metadata, "arch", true)?,
        stem: parsed(path, metadata, "stem", true)?,
        head: parsed(path, metadata, "head", true)?,
        channels: parsed(path, metadata, "channels", false)?,
        classes: parsed(path, metadata, "classes", false)?,
        dropout: parsed(path, metadata, "dropout", false)?,
    };
    match spec.shapes() {
        Ok(_) => Ok(spec),
        Err(e) => Err(Error::data(path, e)),
    }
}

/// The network whose names and shapes fit best.
fn guessed(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<Spec> {
    let size = |name: &str, dim: usize| tensors.get(name).and_then(|t| t.size().get(dim).copied());
    let head = if size("head.fc2.weight", 0).is_some() { Head::Seed } else { Head::Linear };
    let classes = size("head.fc2.weight", 0).or(size("last_linear.weight", 0)).unwrap_or(1000);
    let channels = size(FIRST, 1).unwrap_or(3);
    let mut best: Option<(usize, Spec)> = None;
    for arch in ARCHS {
        let spec = Spec {
            arch: arch.name.into(),
            stem: Stem::Standard,
            head,
            channels,
            classes,
            dropout: TIMM_DROPOUT,
        };
        let wrong = problems(&spec, tensors)?.len();
        if best.as_ref().is_none_or(|(least, _)| wrong < *least) {
            best = Some((wrong, spec));
        }
    }
    best.map(|(_, spec)| spec).ok_or_else(|| Error::data(path, "no architecture is known"))
}

/// Every way in which `tensors` are not those of `spec`.
fn problems(spec: &Spec, tensors: &BTreeMap<String, Tensor>) -> Result<Vec<String>> {
    let expected: BTreeMap<_, _> = spec.shapes()?.into_iter().collect();
    let missing = expected.keys().filter(|n| !tensors.contains_key(*n));
    let mut problems: Vec<_> = missing.map(|n| format!("`{n}` is missing")).collect();
    for (name, tensor) in tensors {
        match expected.get(name) {
            None => problems.push(format!("`{name}` is unexpected")),
            Some(shape) if *shape != tensor.size() => problems
                .push(format!("`{name}` has the shape {:?}, expected {shape:?}", tensor.size())),
            Some(_) if tensor.kind() != Kind::Float => {
                problems.push(format!("`{name}` does not hold floating-point numbers"))
            }
            Some(_) => {}
        }
    }
    Ok(problems)
}

/// Writes a network as a state dict that timm's model of the same shape loads, and says what such a
/// model has to be changed in. The metadata repeats it, with `more` beside.
pub fn export(path: &Path, network: &Network, more: &Metadata) -> Result<Vec<String>> {
    let spec = network.spec();
    let mut notes = Vec::new();
    match TIMM.iter().find(|(ours, _)| *ours == spec.arch) {
        Some((_, theirs)) => {
            notes.push(format!(
                "timm.create_model(\"{theirs}\", in_chans={}, num_classes={})",
                spec.channels, spec.classes
            ));
        }
        None => notes.push(format!("timm has no model with the shapes of {}", spec.arch)),
    }
    if spec.stem == Stem::Seed {
        notes.push("then layer0.conv1.stride = (3, 3)".into());
    }
    if spec.head == Head::Seed {
        notes.push(
            "head.bn1, fc1, bn2 and fc2 stand in place of last_linear: average and max \
            pooling, batch norm, linear, relu, batch norm, linear"
                .into(),
        );
    }
    // `pt` is what PyTorch's own tools look for.
    let mut metadata =
        Metadata::from([("format".into(), "pt".into()), ("timm".into(), notes.join("; "))]);
    metadata.extend(more.clone());
    save(path, network, &metadata)?;
    Ok(notes)
}

/// timm's names of the members that it has.
const TIMM: [(&str, &str); 3] = [
    ("se_resnext101_32x4d", "legacy_seresnext101_32x4d"),
    ("se_resnext50_32x4d", "legacy_seresnext50_32x4d"),
    ("se_resnext26_32x4d", "legacy_seresnext26_32x4d"),
];
