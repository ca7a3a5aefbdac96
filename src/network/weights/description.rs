//! The metadata by which a weight file describes its network.

use std::path::Path;

use super::file::Metadata;
use crate::{
    base::{Error, Result},
    network::model::Spec,
};

/// The metadata of a network of `spec`.
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

/// The network that the metadata describes.
///
/// # Errors
/// Data, if an entry is missing or invalid.
pub fn spec_of(path: &Path, metadata: &Metadata) -> Result<Spec> {
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

/// A setting as the configuration writes it.
pub fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}
