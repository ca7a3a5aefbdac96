//! From gradients to new weights: learning-rate schedules, AdamW and SGD, clipping and the running
//! average. All of it works on the flat arenas of [`Network`], and all state can be saved and
//! restored for a bit-exact resume.

mod ema;
mod schedule;

use std::collections::BTreeMap;

use tch::Tensor;

pub use self::{
    ema::Ema,
    schedule::{Rates, Schedule},
};
use crate::{
    base::{Error, Result},
    config,
    network::{
        autograd::{self, AdamW},
        model::{Network, Slot},
    },
};

const EPS: f64 = 1e-8;

/// The result of [`Optimizer::step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerStep {
    /// Global L2 norm of the gradient before clipping; infinite above about 1e19, the root of the
    /// largest f32.
    pub norm: f64,
    /// The gradient was not finite, so that nothing was changed.
    pub skipped: bool,
}

/// AdamW or SGD over all parameters at once.
pub struct Optimizer {
    beta2: f64,
    weight_decay: f64,
    /// Parts of the arena: (offset, length, whether weight decay applies).
    runs: Vec<(i64, i64, bool)>,
    /// Maximum norm of the gradient; 0: no clipping.
    clip: f64,
    /// Running mean of the gradient (AdamW) or its momentum (SGD).
    first: Tensor,
    /// Running mean of its square (AdamW).
    second: Option<Tensor>,
    /// Steps so far without skipped ones.
    steps: u64,
}

impl Optimizer {
    /// As configured, with all moments zero.
    pub fn new(config: &config::Train, network: &Network) -> Self {
        let zeros = || network.flat_parameters().zeros_like();
        let second = (config.optimizer == config::Optimizer::Adamw).then(zeros);
        Self {
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            runs: runs(network, |slot| {
                config.weight_decay != 0.0 && (config.decay_all || slot.decays())
            }),
            clip: config.clip,
            first: zeros(),
            second,
            steps: 0,
        }
    }

    /// Clips the gradients of `network` and updates its parameters. If a gradient is not finite,
    /// nothing changes.
    pub fn step(&mut self, network: &Network, rates: Rates) -> OptimizerStep {
        tch::no_grad(|| {
            let (parameters, mut gradients) = (network.flat_parameters(), network.flat_gradients());
            let norm = clip(&mut gradients, self.clip);
            if !norm.is_finite() {
                return OptimizerStep { norm, skipped: true };
            }
            self.steps += 1;
            match &self.second {
                Some(second) => self.adamw([&parameters, &gradients, &self.first, second], rates),
                None => self.sgd(&parameters, &gradients, rates),
            }
            OptimizerStep { norm, skipped: false }
        })
    }

    /// Loshchilov & Hutter 2019; bias correction with the momentum of this step, as PyTorch.
    fn adamw(&self, arenas: [&Tensor; 4], Rates { lr, momentum }: Rates) {
        let step = AdamW {
            lr,
            beta1: momentum,
            beta2: self.beta2,
            decay: 0.0,
            eps: EPS,
            step: self.steps,
        };
        for (decays, decay) in [(true, self.weight_decay), (false, 0.0)] {
            let runs = self.runs.iter().filter(|run| run.2 == decays);
            let parts: Vec<_> = runs
                .map(|&(offset, len, _)| arenas.map(|arena| arena.narrow(0, offset, len)))
                .collect();
            autograd::adamw(&parts, AdamW { decay, ..step });
        }
    }

    /// As torch.optim.SGD: weight decay is added to the gradient, and the momentum starts as the
    /// first gradient.
    fn sgd(&self, parameters: &Tensor, gradients: &Tensor, rates: Rates) {
        for &(offset, len, _) in self.runs.iter().filter(|run| run.2) {
            let part = |t: &Tensor| t.narrow(0, offset, len);
            let _ = part(gradients).g_add_(&(part(parameters) * self.weight_decay));
        }
        for (offset, len) in chunks(parameters) {
            let part = |t: &Tensor| t.narrow(0, offset, len);
            let mut first = part(&self.first);
            let _ = first.g_mul_scalar_(rates.momentum);
            let _ = first.g_add_(&part(gradients));
            let _ = part(parameters).g_sub_(&(first * rates.lr));
        }
    }

    /// The moments by name, each as long as the arena. They share the memory with the optimiser.
    pub fn state(&self) -> Vec<(&'static str, Tensor)> {
        let second = self.second.iter().map(|t| ("second_moment", t.shallow_clone()));
        [("first_moment", self.first.shallow_clone())].into_iter().chain(second).collect()
    }

    /// Steps so far without skipped ones; part of the state.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Restores the [`state`](Self::state) and [`steps`](Self::steps) of an interrupted run.
    ///
    /// # Errors
    /// Failed, if a moment is missing or of another length (another network or optimiser).
    pub fn set_state(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        for (name, mut mine) in self.state() {
            let theirs = state.get(name).ok_or_else(|| {
                Error::failed(format!(
                    "the optimiser state has no `{name}`: it is of another optimiser"
                ))
            })?;
            if theirs.size() != mine.size() {
                let (is, want) = (theirs.numel(), mine.numel());
                return Err(Error::failed(format!(
                    "`{name}` of the optimiser state has {is} values, expected {want}: it is of \
                        another network"
                )));
            }
            mine.copy_(theirs);
        }
        self.steps = steps;
        Ok(())
    }
}

/// The parameter arena of `network`, cut into runs of consecutive slots for which `decays` is the
/// same, with the gaps (of zeros) between the slots.
fn runs(network: &Network, decays: impl Fn(&Slot) -> bool) -> Vec<(i64, i64, bool)> {
    let mut runs: Vec<(i64, i64, bool)> = Vec::new();
    let slots = network.parameter_slots();
    let ends = slots
        .iter()
        .skip(1)
        .map(|next| next.offset)
        .chain([network.flat_parameters().numel() as i64]);
    for (slot, end) in slots.iter().zip(ends) {
        match runs.last_mut() {
            Some((offset, len, flag)) if *flag == decays(slot) => *len = end - *offset,
            _ => runs.push((slot.offset, end - slot.offset, decays(slot))),
        }
    }
    runs
}

/// Scales `gradients` so that their L2 norm is at most `max_norm` (0: no limit) and returns the
/// norm before, as `torch.nn.utils.clip_grad_norm_`. Squares are summed in f32 within a chunk of
/// the arena, the chunks in f64.
pub fn clip(gradients: &mut Tensor, max_norm: f64) -> f64 {
    let squares = |(offset, len)| {
        let part = gradients.narrow(0, offset, len);
        part.dot(&part).double_value(&[])
    };
    let norm = chunks(gradients).map(squares).sum::<f64>().sqrt();
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && factor < 1.0 && norm.is_finite() {
        let _ = gradients.g_mul_scalar_(factor);
    }
    norm
}

/// (offset, length) of the chunks in which a flat tensor is processed: on a CPU a chunk and what is
/// computed from it fit in the cache.
fn chunks(flat: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    let all = flat.numel() as i64;
    let size = if flat.device().is_cuda() { all.max(1) } else { 1 << 17 };
    (0..all).step_by(size as usize).map(move |offset| (offset, size.min(all - offset)))
}

#[cfg(test)]
mod tests;
