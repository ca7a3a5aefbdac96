//! Writes a network's weights, for this program or for timm.

use std::path::Path;

use super::{
    description::describe,
    file::{Metadata, write},
};
use crate::{
    base::Result,
    config::{Head, Stem},
    network::model::Network,
};

/// Writes a network's weights, with metadata that describe the network, and `more`.
pub fn save(path: &Path, network: &Network, more: &Metadata) -> Result<()> {
    let mut metadata = describe(network.spec());
    metadata.extend(more.clone());
    write(path, &network.named_tensors(), &metadata)
}

/// Writes a network as a state dict that timm's model of the same shape loads. Returns how to make
/// such a model, which the metadata repeat, with `more`.
pub fn export(path: &Path, network: &Network, more: &Metadata) -> Result<Vec<String>> {
    let spec = network.spec();
    let mut notes = vec![match TIMM.iter().find(|(ours, _)| *ours == spec.arch) {
        Some((_, theirs)) => format!(
            "timm.create_model(\"{theirs}\", in_chans={}, num_classes={})",
            spec.channels, spec.classes
        ),
        None => format!("timm has no model with the shapes of {}", spec.arch),
    }];
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
    // `pt` is the value that PyTorch's own tools expect.
    let mut metadata =
        Metadata::from([("format".into(), "pt".into()), ("timm".into(), notes.join("; "))]);
    metadata.extend(more.clone());
    save(path, network, &metadata)?;
    Ok(notes)
}

/// Our names and timm's, of the architectures that timm has.
pub const TIMM: [(&str, &str); 3] = [
    ("se_resnext101_32x4d", "legacy_seresnext101_32x4d"),
    ("se_resnext50_32x4d", "legacy_seresnext50_32x4d"),
    ("se_resnext26_32x4d", "legacy_seresnext26_32x4d"),
];
