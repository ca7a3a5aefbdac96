//! SE-ResNeXt on flat arenas: takes a batch of crops from the [`loader`](crate::loading::loader),
//! gives the logits that the [`loss`](crate::network::loss) takes.
//!
//! All parameters lie in one flat tensor (f32), all gradients in a second, the running statistics
//! of batch norm in a third; the layers see views of them under timm's names. Optimiser, clipping,
//! averaging and checkpoints work on the flat tensors.

mod arch;
mod parameter_arena;
mod folded;
mod compute_mode;
mod layers;
mod pass;

use std::ops::Range;

use rand_distr::{Distribution, StandardNormal, Uniform};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use self::{
    arch::{ARCHS, Arch},
    compute_mode::{ComputeMode, Precision},
    folded::Folded,
    parameter_arena::Slot,
    pass::{DropKeys, EPS, Mode, Norms},
};
use self::{layers::Layers, layers::Plan, parameter_arena::Init, pass::Pass};
use crate::{
    base::{
        Error, Result,
        rng::{self, Use},
    },
    config::{self, Head, Stem},
    data::labels::CLASSES,
    network::autograd::GradientHooks,
};

/// What a network is; a weight file carries it in its metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// One of [`ARCHS`].
    pub arch: String,
    pub stem: Stem,
    pub head: Head,
    /// Input channels.
    pub channels: i64,
    pub classes: i64,
    /// Probability with which the head drops a unit in training.
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

    fn plan(&self) -> Result<(Plan, Layers)> {
        let mut plan = Plan::default();
        let layers = Layers::new(
            &mut plan,
            self.find_arch()?,
            self.stem,
            self.head,
            self.channels,
            self.classes,
        );
        Ok((plan, layers))
    }

    /// Names and shapes of all tensors of such a network: parameters, then buffers.
    pub fn shapes(&self) -> Result<Vec<(String, Vec<i64>)>> {
        let (plan, _) = self.plan()?;
        Ok(plan
            .parameters
            .list
            .into_iter()
            .chain(plan.buffers.list)
            .map(|s| (s.name, s.shape))
            .collect())
    }
}

/// A network with its parameters, gradients and running statistics.
pub struct Network {
    spec: Spec,
    nhwc: bool,
    device: Device,
    layers: Layers,
    parameter_slots: Vec<Slot>,
    buffer_slots: Vec<Slot>,
    flat_parameters: Tensor,
    flat_gradients: Tensor,
    flat_buffers: Tensor,
    /// Leaves of the graph: views into `flat_parameters` whose gradients are views into
    /// `flat_gradients`.
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
}

impl Network {
    /// A network with fresh weights, a pure function of `spec` and `seed` (not of `nhwc`, which is
    /// whether images and kernels lie channels-last in memory).
    ///
    /// # Errors
    /// Usage, if there is no such architecture.
    pub fn new(spec: &Spec, seed: u64, nhwc: bool, device: Device) -> Result<Self> {
        Self::of_kind(spec, seed, nhwc, device, Kind::Float)
    }

    /// As [`new`](Self::new), with parameters of another kind: `Kind::Double`, to tell errors from
    /// rounding.
    pub fn of_kind(spec: &Spec, seed: u64, nhwc: bool, device: Device, kind: Kind) -> Result<Self> {
        let (plan, layers) = spec.plan()?;
        let (flat_parameters, flat_gradients) =
            (plan.parameters.zeros(kind, device), plan.parameters.zeros(kind, device));
        let flat_buffers = plan.buffers.zeros(kind, device);
        let leaf = |s: &Slot| {
            parameter_arena::view(&flat_parameters, s, nhwc).detach().set_requires_grad(true)
        };
        let parameters: Vec<_> = plan.parameters.list.iter().map(leaf).collect();
        // `data()` gives each buffer a version counter of its own: a running mean that moves must
        // not make autograd believe that the others changed under it.
        let buffers = plan
            .buffers
            .list
            .iter()
            .map(|s| parameter_arena::view(&flat_buffers, s, nhwc).data())
            .collect();
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

    /// Makes every parameter's gradient a view into the arena; backward passes then add into it in
    /// place. A gradient has to exist before its storage can be changed, so a first backward pass
    /// makes them all.
    fn attach_gradients(&self) {
        let sums: Vec<_> = self.parameters.iter().map(|p| p.sum(None::<Kind>)).collect();
        Tensor::stack(&sums, 0).sum(None::<Kind>).backward();
        for (parameter, slot) in self.parameters.iter().zip(&self.parameter_slots) {
            parameter.grad().set_data(&parameter_arena::view(
                &self.flat_gradients,
                slot,
                self.nhwc,
            ));
        }
    }

    fn initialise(&self, seed: u64) {
        let slots: Vec<_> = self.parameter_slots.iter().chain(&self.buffer_slots).collect();
        let values: Vec<Vec<f32>> =
            slots.par_iter().enumerate().map(|(i, slot)| draw(slot, seed, i as u64)).collect();
        for ((slot, values), tensor) in
            slots.iter().zip(values).zip(self.parameters.iter().chain(&self.buffers))
        {
            tensor.data().copy_(&Tensor::from_slice(&values).view(&slot.shape[..]));
        }
    }

    /// Logits `[n, classes]` f32 of `x` `[n, channels, h, w]` f32, normalised, on the network's
    /// device. Gradients are recorded in [`Mode::Train`] only. Any stride order of `x` will do;
    /// channels-last costs no copy with `nhwc`.
    pub fn forward(&self, x: &Tensor, mode: Mode, precision: Precision) -> Tensor {
        let own = self.flat_parameters.kind();
        let kind = self.kind(precision);
        let x = self.input(x, kind);
        let pass = Pass {
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

    fn kind(&self, precision: Precision) -> Kind {
        match precision {
            Precision::F32 => self.flat_parameters.kind(),
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// A batch as the layers take it.
    fn input(&self, x: &Tensor, kind: Kind) -> Tensor {
        let x = x.to_kind(kind);
        if self.nhwc {
            x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
        } else {
            x.contiguous()
        }
    }

    /// Calls `ready(i)` each time a backward pass has added its part to the gradient of parameter
    /// `i` (of [`parameter_slots`](Self::parameter_slots)), until what this returns is dropped.
    pub fn on_gradients(&self, ready: impl Fn(usize) + Send + Sync + 'static) -> GradientHooks {
        GradientHooks::new(&self.parameters, ready)
    }

    /// The stages in the order of the forward pass: their parameters, and where those lie in the
    /// flat tensors.
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

    /// All parameters in one f32 tensor. The handle shares the memory: what is written to it under
    /// `no_grad` is what the network computes with.
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
        let view =
            |s: &Slot| (s.name.clone(), parameter_arena::view(&self.flat_gradients, s, self.nhwc));
        self.parameter_slots.iter().map(view).collect()
    }
}

/// The first values of a slot; each slot has its own stream, so that they can be drawn in parallel.
fn draw(slot: &Slot, seed: u64, index: u64) -> Vec<f32> {
    let mut rng = rng::stream(Use::Init, seed, 0, index);
    let n = slot.len() as usize;
    match slot.init {
        Init::Constant(c) => vec![c as f32; n],
        Init::Normal(std) => (0..n)
            .map(|_| (std * Distribution::<f64>::sample(&StandardNormal, &mut rng)) as f32)
            .collect(),
        Init::Uniform(limit) => {
            let uniform = Uniform::new_inclusive(-limit, limit).expect("a finite, ordered range");
            (0..n).map(|_| uniform.sample(&mut rng) as f32).collect()
        }
    }
}

#[cfg(test)]
mod tests;
