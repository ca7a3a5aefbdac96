//! What a network is, without its weights.

use std::ops::RangeInclusive;

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

/// How many input channels and classes a network may have.
pub const CHANNELS: RangeInclusive<i64> = 1..=64;
pub const CLASS_COUNT: RangeInclusive<i64> = 1..=100_000;

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

    /// # Errors
    /// Usage, if there is no such architecture, or a size is out of range: a file may state any.
    pub(super) fn plan(&self) -> Result<(LayerPlan, Layers)> {
        let Self { stem, head, channels, classes, .. } = *self;
        for (name, size, range) in
            [("channels", channels, CHANNELS), ("classes", classes, CLASS_COUNT)]
        {
            if !range.contains(&size) {
                let (from, to) = (range.start(), range.end());
                return Err(Error::usage(format!(
                    "a network with {size} {name}; expected {from} to {to}"
                )));
            }
        }
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
    /// The lengths of the network's flat parameters and buffers.
    pub fn flat_lengths(&self) -> Result<(i64, i64)> {
        let (plan, _) = self.plan()?;
        Ok((plan.parameters.len, plan.buffers.len))
    }
}
