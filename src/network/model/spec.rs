//! What a network is, without its weights.

use serde::{Deserialize, Serialize};

use super::{
    arch::{ARCHS, Arch},
    layers::Layers,
    plan::LayerPlan,
};
use crate::{
    base::{Error, Result},
    config::{self, Head, Stem},
    data::labels::CLASSES,
};

/// Architecture and sizes of a network; a weight file states them in its metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// One of [`ARCHS`].
    pub arch: String,
    pub stem: Stem,
    pub head: Head,
    /// Input channels.
    pub channels: i64,
    pub classes: i64,
    /// Probability with which the head drops a unit in training (Srivastava et al. 2014).
    pub dropout: f64,
}

impl Spec {
    /// The configured network for four-channel images and 28 classes.
    pub fn of(model: &config::Model) -> Self {
        Self {
            arch: model.arch.clone(),
            stem: model.stem,
            head: model.head,
            channels: 4,
            classes: CLASSES as i64,
            dropout: model.dropout,
        }
    }

    fn find_arch(&self) -> Result<&'static Arch> {
        Arch::find(&self.arch).ok_or_else(|| {
            let names: Vec<_> = ARCHS.iter().map(|a| a.name).collect();
            Error::usage(format!(
                "model.arch: no network is called `{}`; there are {}",
                self.arch,
                names.join(", ")
            ))
        })
    }

    pub(super) fn plan(&self) -> Result<(LayerPlan, Layers)> {
        let Self { stem, head, channels, classes, .. } = *self;
        let mut plan = LayerPlan::default();
        let layers = Layers::new(&mut plan, self.find_arch()?, stem, head, channels, classes);
        Ok((plan, layers))
    }

    /// Names and shapes of all tensors of such a network: parameters, then buffers.
    pub fn shapes(&self) -> Result<Vec<(String, Vec<i64>)>> {
        let (plan, _) = self.plan()?;
        let slots = plan.parameters.list.into_iter().chain(plan.buffers.list);
        Ok(slots.map(|s| (s.name, s.shape)).collect())
    }
}
