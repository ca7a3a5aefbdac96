//! Running average of the weights.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::{
    base::{Error, Result},
    network::model::Network,
};

/// Exponential moving average of parameters and running statistics (Polyak & Juditsky 1992). At
/// first the decay is min(decay, (1 + t) / (10 + t)), so that the initial weights soon have no
/// effect.
pub struct Ema {
    decay: f64,
    parameters: Tensor,
    buffers: Tensor,
    updates: u64,
}

impl Ema {
    /// Starts at the network's weights.
    pub fn new(network: &Network, decay: f64) -> Self {
        Self {
            decay,
            parameters: network.flat_parameters().copy(),
            buffers: network.flat_buffers().copy(),
            updates: 0,
        }
    }

    /// Adds the weights after a step to the average.
    pub fn update(&mut self, network: &Network) {
        let t = self.updates as f64;
        let weight = 1.0 - self.decay.min((1.0 + t) / (10.0 + t));
        self.updates += 1;
        tch::no_grad(|| {
            let _ = self.parameters.lerp_(&network.flat_parameters(), weight);
            let _ = self.buffers.lerp_(&network.flat_buffers(), weight);
        });
    }

    /// Exchanges the average with the network's weights; a second call undoes the first, to the
    /// bit.
    pub fn swap(&mut self, network: &Network) {
        tch::no_grad(|| {
            let exchange = |mine: &mut Tensor, mut theirs: Tensor| {
                let kept = theirs.copy();
                theirs.copy_(mine);
                mine.copy_(&kept);
            };
            exchange(&mut self.parameters, network.flat_parameters());
            exchange(&mut self.buffers, network.flat_buffers());
        });
    }

    /// The averages by name. They share the memory with this average.
    pub fn state(&self) -> [(&'static str, Tensor); 2] {
        [
            ("ema_parameters", self.parameters.shallow_clone()),
            ("ema_buffers", self.buffers.shallow_clone()),
        ]
    }

    /// Calls of [`update`](Self::update); part of the state.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Restores the state of an interrupted run.
    ///
    /// # Errors
    /// Failed, if an average is missing or of another length.
    pub fn set_state(&mut self, state: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        for (name, mut mine) in self.state() {
            match state.get(name) {
                Some(theirs) if theirs.size() == mine.size() => mine.copy_(theirs),
                _ => {
                    return Err(Error::failed(format!(
                        "the state has no `{name}` of {} values: it is of another network",
                        mine.numel()
                    )));
                }
            }
        }
        self.updates = updates;
        Ok(())
    }
}
