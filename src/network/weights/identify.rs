//! Which network a state dict without metadata belongs to.

use std::{collections::BTreeMap, path::Path};

use tch::{Kind, Tensor};

use super::{
    export::TIMM,
    names::{first_few, shown},
};
use crate::{
    base::{Error, Result},
    config::{Head, Stem},
    network::model::{ARCHS, Spec},
};

/// The first kernel, whose inputs are the channels of the image.
pub const FIRST: &str = "layer0.conv1.weight";

/// timm's default.
const DROPOUT: f64 = 0.2;

/// The network whose names and shapes fit best.
pub fn best_match(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<Spec> {
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
            dropout: DROPOUT,
        };
        // Sizes that no network has are the file's.
        let wrong = mismatches(&spec, tensors).map_err(|e| Error::data(path, e))?.len();
        if best.as_ref().is_none_or(|(least, _)| wrong < *least) {
            best = Some((wrong, spec));
        }
    }
    best.map(|(_, spec)| spec).ok_or_else(|| Error::data(path, "no architecture is known"))
}

/// Every way in which `tensors` are not those of `spec`.
pub fn mismatches(spec: &Spec, tensors: &BTreeMap<String, Tensor>) -> Result<Vec<String>> {
    let expected: BTreeMap<_, _> = spec.shapes()?.into_iter().collect();
    let missing = expected.keys().filter(|n| !tensors.contains_key(*n));
    let mut problems: Vec<_> = missing.map(|n| format!("`{n}` is missing")).collect();
    for (name, tensor) in tensors {
        match expected.get(name) {
            None => problems.push(format!("`{}` is unexpected", shown(name))),
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

/// Refuses weights that have `problems` with the network that fits best: names the network that
/// they are of, where it can be told, and the first of the problems.
pub fn misfit(
    path: &Path,
    spec: &Spec,
    tensors: &BTreeMap<String, Tensor>,
    problems: &[String],
) -> Error {
    let known = ARCHS.map(|a| a.name).join(", ");
    let what = if let Some(own) = timms_own(tensors) {
        let same = TIMM.iter().find(|(_, timm)| timm.strip_prefix("legacy_") == Some(&own));
        let not = match same {
            Some((ours, timm)) => format!("another network than timm's `{timm}` (here {ours})"),
            None => "a network that is not known here".into(),
        };
        format!("these are the weights of timm's `{own}`, {not}; known are {known}")
    } else if 2 * problems.len() > tensors.len() {
        format!(
            "these are not the weights of a network that is known here ({known}); of {} tensors \
                in the file: {}; what does not fit {}, the nearest network: {}",
            tensors.len(),
            first_few(tensors.keys().map(|name| format!("`{}`", shown(name)))),
            spec.arch,
            first_few(problems.iter().cloned()),
        )
    } else {
        let (arch, problems) = (&spec.arch, first_few(problems.iter().cloned()));
        format!("these are not the weights of {arch}, the network that fits best: {problems}")
    };
    Error::data(path, what)
}

/// The name of a network of timm's own ResNet family with squeeze-and-excitation, whose stem and
/// names are other ones than those of Cadene's networks, timm's `legacy_` ones.
fn timms_own(tensors: &BTreeMap<String, Tensor>) -> Option<String> {
    let has = |name: &str| tensors.contains_key(name);
    let &[outputs, inputs, ..] = &tensors.get("layer1.0.conv2.weight")?.size()[..] else {
        return None;
    };
    if !has("conv1.weight") || !has("layer1.0.se.fc1.weight") || inputs < 1 {
        return None;
    }
    let blocks =
        |stage: usize| (0..).take_while(|i| has(&format!("layer{stage}.{i}.conv1.weight"))).count();
    let layers = 2 + 3 * (1..=4).map(blocks).sum::<usize>();
    Some(match outputs / inputs {
        1 => format!("seresnet{layers}"),
        groups => format!("seresnext{layers}_{groups}x{inputs}d"),
    })
}

/// Refuses weights that hold NaN or infinite values: whatever such a network computes is of no use.
pub fn check_finite(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut bad = Vec::new();
    for (name, tensor) in tensors.iter().filter(|(_, t)| t.is_floating_point()) {
        let wrong = tensor.f_isfinite()?.f_logical_not()?.f_sum(Kind::Int64)?.int64_value(&[]);
        if wrong > 0 {
            bad.push(format!("`{name}` ({wrong} of {} values)", tensor.numel()));
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    let (count, all, bad) = (bad.len(), tensors.len(), first_few(bad.into_iter()));
    let what = format!(
        "{count} of {all} tensors hold NaN or infinite numbers (as f32), so that the network \
            predicts nothing: {bad}; take weights from before the training diverged"
    );
    Err(Error::data(path, what))
}
