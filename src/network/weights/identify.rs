//! Which network a state dict without metadata belongs to.

use std::{collections::BTreeMap, path::Path};

use tch::{Kind, Tensor};

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
        let wrong = mismatches(&spec, tensors)?.len();
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
