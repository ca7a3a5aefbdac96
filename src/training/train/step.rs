//! What the ranks do together in one training step: each the gradient of its share, then the sum of
//! all.

use std::ops::Range;

use tch::Tensor;

use crate::{
    base::{Error, Result, fault},
    config::Losses,
    distributed::{batch_share::Share, gradient_sync::GradientSync},
    network::{
        loss,
        model::{DropKeys, Mode, Network, Norms, Precision},
        predictor,
    },
};

/// What [`Passes::backward`] says of a loss that is not finite.
pub const NOT_FINITE: &str =
    "the loss is not finite; try a smaller train.lr, or train.precision = \"f32\"";

/// What one forward pass takes.
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
    /// Rank and completed steps, for faults on purpose.
    pub position: (usize, u64),
}

impl Passes<'_> {
    /// Puts the gradient of the mean loss over the whole batch into the network's flat gradients,
    /// up to the other ranks' parts, whose sums are under way when this returns. `norms(i)` is how
    /// pass `i` normalises, `input` gives the samples of a pass by their positions in the share.
    /// Returns the logits of the share `[n, 28]`, flat, and its part of the loss.
    ///
    /// Losses over sets (`batch`, `class`) take the sets of a pass.
    ///
    /// # Errors
    /// Failed, if the loss is not finite.
    pub fn backward<'k>(
        &self,
        network: &Network,
        gradient_sync: &GradientSync,
        norms: impl Fn(usize) -> Norms,
        input: impl Fn(Range<usize>) -> Input<'k>,
    ) -> Result<(Vec<f32>, f64)> {
        network.zero_gradients();
        let injected = |what| fault::injected(what, self.position.0, self.position.1);
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
                return Err(Error::failed(NOT_FINITE));
            }
            sum += value;
            if i == last {
                let local = matches!(norms, Norms::Local);
                gradient_sync
                    .arm(network, local.then(|| self.share.weight(self.share.samples.len())));
            }
            let loss = if injected("gradient") { loss * f64::INFINITY } else { loss };
            loss.backward();
        }
        Ok((logits, sum))
    }
}
