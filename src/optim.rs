//! From gradients to new weights: learning-rate curves, AdamW and SGD, clipping and the running average. All of it works
//! on the flat arenas of [`Network`], and all state can be read and set for a bit-exact resume.

mod ema;
mod schedule;

use tch::{Kind, Tensor};

pub use self::{
    ema::Ema,
    schedule::{Rates, Schedule},
};
use crate::{
    config,
    error::{Error, Result},
    model::Network,
};

const EPS: f64 = 1e-8;

/// What [`Optimizer::step`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Global L2 norm of the gradient before clipping.
    pub norm: f64,
    /// The gradient was not finite, so that nothing was changed.
    pub skipped: bool,
}

/// AdamW or SGD over all parameters at once.
pub struct Optimizer {
    kind: config::Optimizer,
    beta2: f64,
    weight_decay: f64,
    /// Runs of the arena, (offset, length), on which weight decay acts.
    decayed: Vec<(i64, i64)>,
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
        let decayed = network.parameter_slots().iter().filter(|s| config.decay_all || s.decays()).map(|s| (s.offset, s.len())).collect();
        let zeros = || network.flat_parameters().zeros_like();
        let second = (config.optimizer == config::Optimizer::Adamw).then(zeros);
        Self {
            kind: config.optimizer,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            decayed,
            clip: config.clip,
            first: zeros(),
            second,
            steps: 0,
        }
    }

    /// Clips the gradients of `network` and moves its parameters. A gradient that is not finite changes nothing.
    pub fn step(&mut self, network: &Network, rates: Rates) -> Step {
        tch::no_grad(|| {
            let (parameters, mut gradients) = (network.flat_parameters(), network.flat_gradients());
            let norm = clip(&mut gradients, self.clip);
            if !norm.is_finite() {
                return Step { norm, skipped: true };
            }
            self.steps += 1;
            if self.weight_decay != 0.0 {
                self.decay(&parameters, &gradients, rates.lr);
            }
            for (offset, len) in chunks(&parameters) {
                let part = |t: &Tensor| t.narrow(0, offset, len);
                let (parameters, gradients, first) = (part(&parameters), part(&gradients), part(&self.first));
                match &self.second {
                    Some(second) => self.adamw(parameters, &gradients, first, part(second), rates),
                    None => sgd(parameters, &gradients, first, rates),
                }
            }
            Step { norm, skipped: false }
        })
    }

    /// AdamW shrinks the decayed parameters; SGD adds them to the gradient, as torch.optim.
    fn decay(&self, parameters: &Tensor, gradients: &Tensor, lr: f64) {
        for &(offset, len) in &self.decayed {
            let mut part = parameters.narrow(0, offset, len);
            let _ = match self.kind {
                config::Optimizer::Adamw => part.g_mul_scalar_(1.0 - lr * self.weight_decay),
                config::Optimizer::Sgd => gradients.narrow(0, offset, len).g_add_(&(part * self.weight_decay)),
            };
        }
    }

    /// Loshchilov & Hutter 2019; bias correction with the momentum of this step, as PyTorch.
    fn adamw(&self, mut parameters: Tensor, gradients: &Tensor, mut first: Tensor, mut second: Tensor, rates: Rates) {
        let (Rates { lr, momentum: beta1 }, beta2) = (rates, self.beta2);
        let _ = first.lerp_(gradients, 1.0 - beta1);
        let _ = second.g_mul_scalar_(beta2);
        let _ = second.addcmul_(gradients, &(gradients * (1.0 - beta2)));
        let t = self.steps as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        let mut scale = second.sqrt();
        let _ = scale.g_div_scalar_(correction2.sqrt());
        let _ = scale.g_add_scalar_(EPS);
        let _ = parameters.addcdiv_(&(first * (-lr / correction1)), &scale);
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

    /// Takes the state of an interrupted run: what [`state`](Self::state) and [`steps`](Self::steps) gave.
    ///
    /// # Errors
    /// Failed, if a moment is missing or of another length (another network or optimiser).
    pub fn set_state(&mut self, state: &[(String, Tensor)], steps: u64) -> Result<()> {
        for (name, mut mine) in self.state() {
            let theirs = state.iter().find(|(n, _)| n == name).map(|(_, t)| t);
            let theirs = theirs.ok_or_else(|| Error::failed(format!("the optimiser state has no `{name}`: it is of another optimiser")))?;
            if theirs.size() != mine.size() {
                let (is, want) = (theirs.numel(), mine.numel());
                return Err(Error::failed(format!(
                    "`{name}` of the optimiser state has {is} values, expected {want}: it is of another network"
                )));
            }
            mine.copy_(theirs);
        }
        self.steps = steps;
        Ok(())
    }
}

/// The momentum starts as the first gradient, as torch.optim.SGD.
fn sgd(mut parameters: Tensor, gradients: &Tensor, mut first: Tensor, rates: Rates) {
    let _ = first.g_mul_scalar_(rates.momentum);
    let _ = first.g_add_(gradients);
    let _ = parameters.g_sub_(&(first * rates.lr));
}

/// Scales `gradients` so that their L2 norm is at most `most` (0: no limit) and returns the norm before. As
/// `torch.nn.utils.clip_grad_norm_`; the norm is summed in f64.
pub fn clip(gradients: &mut Tensor, most: f64) -> f64 {
    let norm_of = |(offset, len)| {
        let part = gradients.narrow(0, offset, len);
        part.linalg_norm(2.0, [0].as_slice(), false, Kind::Double).double_value(&[])
    };
    let norm = chunks(gradients).map(norm_of).map(|x| x * x).sum::<f64>().sqrt();
    let factor = most / (norm + 1e-6);
    if most > 0.0 && factor < 1.0 && norm.is_finite() {
        let _ = gradients.g_mul_scalar_(factor);
    }
    norm
}

/// (offset, length) of the pieces of a flat tensor that are worked on one after the other: on a CPU they and what is
/// computed from them stay in the cache.
fn chunks(flat: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    let all = flat.numel() as i64;
    let size = if flat.device().is_cuda() { all.max(1) } else { 1 << 17 };
    (0..all).step_by(size as usize).map(move |offset| (offset, size.min(all - offset)))
}

#[cfg(test)]
mod tests;
