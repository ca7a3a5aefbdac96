//! From gradients to new weights: learning-rate curves, AdamW and SGD, clipping and the running
//! average. All of it works on the flat arenas of [`Network`], and all state can be read and set
//! for a bit-exact resume.

mod ema;
mod schedule;

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

/// What [`Optimizer::step`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Global L2 norm of the gradient before clipping; above some 1e19 the squares are not finite.
    pub norm: f64,
    /// The gradient was not finite, so that nothing was changed.
    pub skipped: bool,
}

/// AdamW or SGD over all parameters at once.
pub struct Optimizer {
    beta2: f64,
    weight_decay: f64,
    /// The arena in runs, (offset, length, whether weight decay acts on it).
    runs: Vec<(i64, i64, bool)>,
    /// Largest gradient norm; 0: no clipping.
    clip: f64,
    /// Running mean of the gradient (AdamW) or its momentum (SGD).
    first: Tensor,
    /// Running mean of its square (AdamW).
    second: Option<Tensor>,
    /// Steps done, skipped ones not counted.
    steps: u64,
}

impl Optimizer {
    /// As configured, with moments of zero.
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

    /// Clips the gradients of `network` and moves its parameters. A gradient that is not finite
    /// changes nothing.
    pub fn step(&mut self, network: &Network, rates: Rates) -> Step {
        tch::no_grad(|| {
            let (parameters, mut gradients) = (network.flat_parameters(), network.flat_gradients());
            let norm = clip(&mut gradients, self.clip);
            if !norm.is_finite() {
                return Step { norm, skipped: true };
            }
            self.steps += 1;
            match &self.second {
                Some(second) => self.adamw([&parameters, &gradients, &self.first, second], rates),
                None => self.sgd(&parameters, &gradients, rates),
            }
            Step { norm, skipped: false }
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

    /// Weight decay is added to the gradient, and the momentum starts as the first gradient, as in
    /// torch.optim.SGD.
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

    /// The moments by name, each as long as the arena. The handles share the memory.
    pub fn state(&self) -> Vec<(&'static str, Tensor)> {
        let second = self.second.iter().map(|t| ("second_moment", t.shallow_clone()));
        [("first_moment", self.first.shallow_clone())].into_iter().chain(second).collect()
    }

    /// Steps done, skipped ones not counted; part of the state.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes the state of an interrupted run: what [`state`](Self::state) and
    /// [`steps`](Self::steps) gave.
    ///
    /// # Errors
    /// Failed, if a moment is missing or of another length (another network or optimiser).
    pub fn set_state(&mut self, state: &[(String, Tensor)], steps: u64) -> Result<()> {
        for (name, mut mine) in self.state() {
            let theirs = state.iter().find(|(n, _)| n == name).map(|(_, t)| t);
            let theirs = theirs.ok_or_else(|| {
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

/// The arena of `network` in runs of slots that `decays` gives the same answer for, gaps (of zeros)
/// included.
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

/// Scales `gradients` so that their L2 norm is at most `most` (0: no limit) and returns the norm
/// before. As `torch.nn.utils.clip_grad_norm_`; squares are summed in f32 within a piece of the
/// arena, the pieces in f64.
pub fn clip(gradients: &mut Tensor, most: f64) -> f64 {
    let squares = |(offset, len)| {
        let part = gradients.narrow(0, offset, len);
        part.dot(&part).double_value(&[])
    };
    let norm = chunks(gradients).map(squares).sum::<f64>().sqrt();
    let factor = most / (norm + 1e-6);
    if most > 0.0 && factor < 1.0 && norm.is_finite() {
        let _ = gradients.g_mul_scalar_(factor);
    }
    norm
}

/// (offset, length) of the pieces of a flat tensor that are worked on one after the other: on a CPU
/// they and what is computed from them stay in the cache.
fn chunks(flat: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    let all = flat.numel() as i64;
    let size = if flat.device().is_cuda() { all.max(1) } else { 1 << 17 };
    (0..all).step_by(size as usize).map(move |offset| (offset, size.min(all - offset)))
}

#[cfg(test)]
mod tests;
