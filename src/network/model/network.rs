//! The network: arenas, layers and the forward pass.

use std::ops::Range;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{
    compute_mode::Precision,
    layers::Layers,
    parameter_arena::{Slot, view},
    pass::{ForwardPass, Mode},
    spec::Spec,
};
use crate::{base::Result, network::autograd::GradientHooks};

/// A network with its parameters, gradients and running statistics.
pub struct Network {
    spec: Spec,
    nhwc: bool,
    device: Device,
    pub(super) layers: Layers,
    parameter_slots: Vec<Slot>,
    buffer_slots: Vec<Slot>,
    flat_parameters: Tensor,
    flat_gradients: Tensor,
    flat_buffers: Tensor,
    /// Leaves of the graph: views into `flat_parameters` whose gradients are views into
    /// `flat_gradients`.
    pub(super) parameters: Vec<Tensor>,
    pub(super) buffers: Vec<Tensor>,
}

impl Network {
    /// A network with initial weights, a pure function of `spec` and `seed`. With `nhwc`, images
    /// and kernels are channels-last in memory.
    ///
    /// # Errors
    /// Usage, if there is no such architecture.
    pub fn new(spec: &Spec, seed: u64, nhwc: bool, device: Device) -> Result<Self> {
        Self::of_kind(spec, seed, nhwc, device, Kind::Float)
    }

    /// As [`new`](Self::new), with parameters of another kind, such as `Kind::Double` to
    /// distinguish errors from rounding.
    pub fn of_kind(spec: &Spec, seed: u64, nhwc: bool, device: Device, kind: Kind) -> Result<Self> {
        let (plan, layers) = spec.plan()?;
        let (flat_parameters, flat_gradients) =
            (plan.parameters.zeros(kind, device), plan.parameters.zeros(kind, device));
        let flat_buffers = plan.buffers.zeros(kind, device);
        let leaf = |s: &Slot| view(&flat_parameters, s, nhwc).detach().set_requires_grad(true);
        let parameters: Vec<_> = plan.parameters.list.iter().map(leaf).collect();
        // `data()` gives each buffer its own version counter: otherwise autograd would take the
        // update of one running mean for a change of all others.
        let buffers =
            plan.buffers.list.iter().map(|s| view(&flat_buffers, s, nhwc).data()).collect();
        let network = Self {
            spec: spec.clone(),
            nhwc,
            device,
            layers,
            parameter_slots: plan.parameters.list,
            buffer_slots: plan.buffers.list,
            flat_parameters,
            flat_gradients,
            flat_buffers,
            parameters,
            buffers,
        };
        network.attach_gradients();
        network.initialise(seed);
        Ok(network)
    }

    /// Makes every parameter's gradient a view into the arena, to which backward passes then add in
    /// place. A gradient must exist before its storage can be replaced, so a first backward pass
    /// creates them all.
    fn attach_gradients(&self) {
        let sums: Vec<_> = self.parameters.iter().map(|p| p.sum(None::<Kind>)).collect();
        Tensor::stack(&sums, 0).sum(None::<Kind>).backward();
        for (parameter, slot) in self.parameters.iter().zip(&self.parameter_slots) {
            parameter.grad().set_data(&view(&self.flat_gradients, slot, self.nhwc));
        }
    }

    fn initialise(&self, seed: u64) {
        let slots: Vec<_> = self.parameter_slots.iter().chain(&self.buffer_slots).collect();
        let values: Vec<Vec<f32>> =
            slots.par_iter().enumerate().map(|(i, slot)| slot.draw(seed, i as u64)).collect();
        for ((slot, values), tensor) in
            slots.iter().zip(values).zip(self.parameters.iter().chain(&self.buffers))
        {
            tensor.data().copy_(&Tensor::from_slice(&values).view(&slot.shape[..]));
        }
    }

    /// Logits `[n, classes]` f32 of `x` `[n, channels, h, w]` f32, normalised, on the network's
    /// device. Gradients are recorded in [`Mode::Train`] only. `x` may have any stride order; with
    /// `nhwc`, channels-last needs no copy.
    pub fn forward(&self, x: &Tensor, mode: Mode, precision: Precision) -> Tensor {
        let own = self.flat_parameters.kind();
        let kind = self.kind(precision);
        let x = self.input(x, kind);
        let pass = ForwardPass {
            parameters: &self.parameters,
            buffers: &self.buffers,
            kind,
            mode,
            dropout: self.spec.dropout,
            folded: None,
        };
        let run = || self.layers.forward(&pass, &x).to_kind(own);
        match mode {
            Mode::Eval => tch::no_grad(run),
            Mode::Train(keys, _) => {
                assert_eq!(keys.keys.len() as i64, x.size()[0], "one dropout key per sample");
                run()
            }
        }
    }

    /// Of the numbers that it computes with.
    pub(super) fn kind(&self, precision: Precision) -> Kind {
        match precision {
            Precision::F32 => self.flat_parameters.kind(),
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// A batch in the kind and memory layout that the layers take.
    pub(super) fn input(&self, x: &Tensor, kind: Kind) -> Tensor {
        let x = x.to_kind(kind);
        if self.nhwc {
            x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
        } else {
            x.contiguous()
        }
    }

    /// Calls `ready(i)` each time a backward pass has added to the gradient of parameter `i` (of
    /// [`parameter_slots`](Self::parameter_slots)), until the returned hooks are dropped.
    pub fn on_gradients(&self, ready: impl Fn(usize) + Send + Sync + 'static) -> GradientHooks {
        GradientHooks::new(&self.parameters, ready)
    }

    /// The stages in the order of the forward pass: the indices of their parameters, and their
    /// range in the flat tensors.
    pub fn stages(&self) -> Vec<(Range<usize>, Range<i64>)> {
        let stage = |s: &Slot| s.name.split('.').next().unwrap_or_default().to_string();
        let mut stages: Vec<(Range<usize>, Range<i64>)> = Vec::new();
        for (i, slot) in self.parameter_slots.iter().enumerate() {
            let end = self
                .parameter_slots
                .get(i + 1)
                .map_or_else(|| self.flat_parameters.numel() as i64, |next| next.offset);
            match stages.last_mut() {
                Some((leaves, values))
                    if stage(slot) == stage(&self.parameter_slots[leaves.start]) =>
                {
                    (leaves.end, values.end) = (i + 1, end);
                }
                _ => stages.push((i..i + 1, slot.offset..end)),
            }
        }
        stages
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of trained values, without the gaps of the arena.
    pub fn parameter_count(&self) -> i64 {
        self.parameter_slots.iter().map(Slot::len).sum()
    }

    /// The parameters in the order of the arena.
    pub fn parameter_slots(&self) -> &[Slot] {
        &self.parameter_slots
    }

    /// All parameters in one f32 tensor. It shares the memory with the network: writing to it
    /// (under `no_grad`) changes the network.
    pub fn flat_parameters(&self) -> Tensor {
        self.flat_parameters.shallow_clone()
    }

    /// All gradients, in the order of the parameters; backward passes add to it.
    pub fn flat_gradients(&self) -> Tensor {
        self.flat_gradients.shallow_clone()
    }

    /// All running means and variances.
    pub fn flat_buffers(&self) -> Tensor {
        self.flat_buffers.shallow_clone()
    }

    pub fn zero_gradients(&self) {
        let _ = self.flat_gradients().zero_();
    }

    /// Parameters, then buffers, by name, in the shapes that torch would give them. The tensors
    /// share the memory of the arenas.
    pub fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let slots = self.parameter_slots.iter().chain(&self.buffer_slots);
        slots
            .map(|s| s.name.clone())
            .zip(self.parameters.iter().chain(&self.buffers).map(Tensor::data))
            .collect()
    }

    /// The gradients by name, as [`named_tensors`](Self::named_tensors).
    pub fn named_gradients(&self) -> Vec<(String, Tensor)> {
        let view = |s: &Slot| (s.name.clone(), view(&self.flat_gradients, s, self.nhwc));
        self.parameter_slots.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests;
