//! The forward and backward passes of one step: the gradient of this rank's share of the batch,
//! whose sum over the ranks starts while the last backward pass still runs.

use std::ops::{Deref, Range};

use tch::{Kind, Tensor};

use crate::{
    base::{Error, fault},
    config::{Losses, Wire},
    data::labels::{CLASSES, Labels},
    distributed::{World, batch_share::Share, gradient_sync::GradientSync},
    network::{
        autograd::GradientHooks,
        loss,
        model::{DropKeys, Mode, Network, Norms, Precision},
        predictor,
    },
};

/// The sum of a network's gradients over the ranks, connected to its backward passes until this is
/// dropped.
pub struct SyncedGradients {
    sync: GradientSync,
    _hooks: GradientHooks,
}

impl SyncedGradients {
    /// `wire` is the kind of number that the ranks send each other.
    pub fn new(network: &Network, world: &'static World, wire: Wire) -> Self {
        let sync = GradientSync::new(network.stages(), &network.flat_gradients(), world, wire);
        let in_hooks = sync.clone();
        let hooks = network.on_gradients(move |leaf| in_hooks.gradient_ready(leaf));
        Self { sync, _hooks: hooks }
    }
}

impl Deref for SyncedGradients {
    type Target = GradientSync;

    fn deref(&self) -> &GradientSync {
        &self.sync
    }
}

/// The input of one forward pass.
pub struct Input<'a> {
    /// `[n, 4, h, w]`, normalised.
    pub images: Tensor,
    /// `[n, 28]` of 0 and 1.
    pub targets: Tensor,
    pub keys: DropKeys<'a>,
}

/// How the forward passes of a step are done.
pub struct Passes<'a> {
    pub share: &'a Share,
    pub precision: Precision,
    pub losses: &'a Losses,
    /// Steps completed since the start of the training; for injected faults.
    pub step: u64,
}

/// The loss of a batch was NaN or infinite.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the loss is not finite; try a smaller train.lr, or train.precision = \"f32\"")]
pub struct LossNotFinite;

impl From<LossNotFinite> for Error {
    fn from(e: LossNotFinite) -> Self {
        Self::failed(e)
    }
}

impl Passes<'_> {
    /// Puts the gradient of the mean loss over the whole batch into the network's flat gradients,
    /// except for the other ranks' parts, whose sums are pending when this returns. `norms(i)` is
    /// how pass `i` normalises; `input` gives the samples of a pass by their positions in the
    /// share. Returns the logits of the share `[n, 28]`, flat, and its part of the loss.
    ///
    /// Losses over sets (`batch`, `class`) take the set of samples of one pass.
    pub fn backward<'k>(
        &self,
        network: &Network,
        gradients: &SyncedGradients,
        norms: impl Fn(usize) -> Norms,
        input: impl Fn(Range<usize>) -> Input<'k>,
    ) -> Result<(Vec<f32>, f64), LossNotFinite> {
        let injected = |what| fault::injected(what, gradients.world().rank(), self.step);
        network.zero_gradients();
        let passes = self.share.passes();
        let (last, mut logits, mut sum) = (passes.len() - 1, Vec::new(), 0.0);
        for (i, range) in passes.enumerate() {
            let weight = self.share.weight(range.len());
            let Input { images, targets, keys } = input(range);
            let norms = norms(i);
            let out = network.forward(&images, Mode::Train(keys, norms), self.precision);
            logits.extend(predictor::to_vec(&out));
            let loss = loss::total(&out, &targets, self.losses) * weight;
            let value = loss.double_value(&[]);
            if !value.is_finite() || injected("loss") {
                return Err(LossNotFinite);
            }
            sum += value;
            if i == last {
                let weight = self.share.weight(self.share.samples.len());
                let local = matches!(norms, Norms::Local);
                gradients.arm(local.then(|| (network.flat_buffers(), weight)));
            }
            let loss = if injected("gradient") { loss * f64::INFINITY } else { loss };
            loss.backward();
        }
        Ok((logits, sum))
    }
}

/// `[n, 28]` f32 of 0 and 1.
pub fn one_hot(labels: &[Labels]) -> Tensor {
    let flat: Vec<u8> = labels.iter().flat_map(|l| l.one_hot()).collect();
    Tensor::from_slice(&flat).view([labels.len() as i64, CLASSES as i64]).to_kind(Kind::Float)
}
