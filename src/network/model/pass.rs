//! What the layers share in one forward pass: the tensors, the precision, batch norm and dropout.

use rand::RngExt;
use tch::{Kind, Tensor};

use super::{
    packed::PackedConvolutions,
    plan::{Conv, Linear, Norm},
};
use crate::{
    base::rng::{self, Use},
    distributed::World,
    network::autograd::sum_over_ranks,
};

/// The samples whose dropout masks a training pass draws. A mask is a pure function of (seed,
/// epoch, key of the sample, layer, unit): it does not depend on the batch, the rank or restarts.
#[derive(Clone, Copy, Debug)]
pub struct DropKeys<'a> {
    pub seed: u64,
    pub epoch: u64,
    /// One per sample of the batch, such as its position in the epoch.
    pub keys: &'a [u64],
}

/// What a forward pass is for.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// Running statistics in batch norm, no dropout.
    Eval,
    /// Gradients are recorded; dropout.
    Train(DropKeys<'a>, Norms),
}

/// The samples over which batch norm takes its statistics in training.
#[derive(Clone, Copy)]
pub enum Norms {
    /// Those of this forward pass; they also update the running statistics.
    Local,
    /// Those of this forward pass on all ranks, `samples` in total; if `counts` is false, this
    /// rank's are left out.
    Together { world: &'static World, samples: usize, counts: bool },
    /// None: the running statistics are used and do not change.
    Frozen,
}

/// Weight of a new value in a running statistic.
const MOMENTUM: f64 = 0.1;
/// Added to a variance by batch norm.
pub const EPS: f64 = 1e-5;

/// One forward pass over parameters and buffers, which the layers address by index.
pub struct ForwardPass<'a> {
    pub parameters: &'a [Tensor],
    pub buffers: &'a [Tensor],
    pub kind: Kind,
    pub mode: Mode<'a>,
    pub dropout: f64,
    /// Set if batch norms are folded into the kernels before them; their biases are then those of
    /// the convolutions.
    pub folded: Option<&'a PackedConvolutions>,
}

impl ForwardPass<'_> {
    /// A weight in the precision of the pass; its gradient is f32.
    fn weight(&self, index: usize) -> Tensor {
        self.parameters[index].to_kind(self.kind)
    }

    pub fn conv_norm(&self, (conv, norm): &(Conv, Norm), x: &Tensor) -> Tensor {
        let weight = self.weight(conv.weight);
        if let Some(packed) = self.folded {
            return packed.convolve(conv, &weight, &self.weight(norm.bias), x);
        }
        let (s, p) = (conv.stride, conv.padding);
        self.norm(norm, &x.conv2d(&weight, None::<Tensor>, [s, s], [p, p], [1, 1], conv.groups))
    }

    /// Batch norm with f32 parameters and statistics in both precisions, as PyTorch's autocast.
    pub fn norm(&self, norm: &Norm, x: &Tensor) -> Tensor {
        let (p, b) = (self.parameters, self.buffers);
        let train = match self.mode {
            Mode::Train(_, Norms::Together { world, samples, counts }) => {
                return self.norm_together(norm, x, world, samples, counts);
            }
            Mode::Train(_, norms) => matches!(norms, Norms::Local),
            Mode::Eval => false,
        };
        x.batch_norm(
            Some(&p[norm.weight]),
            Some(&p[norm.bias]),
            Some(&b[norm.mean]),
            Some(&b[norm.var]),
            train,
            MOMENTUM,
            EPS,
            true,
        )
    }

    /// Batch norm over all ranks, from its definition: mean, then variance, each summed over the
    /// ranks, as is its gradient. Sums within a sample are in f32, those over samples in f64, so
    /// that the result does not depend on how the samples are distributed over the ranks, up to the
    /// last bit of an f64.
    fn norm_together(
        &self,
        norm: &Norm,
        x: &Tensor,
        world: &'static World,
        samples: usize,
        counts: bool,
    ) -> Tensor {
        let (p, b) = (self.parameters, self.buffers);
        let (weight, bias) = (&p[norm.weight], &p[norm.bias]);
        let (n, c, kind) = (x.size()[0], x.size()[1], weight.kind());
        let is_image = x.dim() == 4;
        let total = (samples as i64 * x.size()[2..].iter().product::<i64>()) as f64;
        // [c] over all samples of [n, c, (h, w)], and back.
        let mean_of = |values: &Tensor| {
            let each = if is_image {
                values.sum_dim_intlist(&[2i64, 3][..], false, None::<Kind>)
            } else {
                values.shallow_clone()
            };
            let mine = each.to_kind(Kind::Double).sum_dim_intlist(0, false, None::<Kind>)
                * f64::from(u8::from(counts));
            sum_over_ranks(&mine, world) / total
        };
        let for_each = |values: &Tensor| {
            let each = values.to_kind(Kind::Double).expand([n, c], false).to_kind(kind);
            if is_image { each.view([n, c, 1, 1]) } else { each }
        };
        let wide = x.to_kind(kind);
        let mean = mean_of(&wide);
        let centred = wide - for_each(&mean);
        let var = mean_of(&centred.square());
        tch::no_grad(|| {
            let (mut running_mean, mut running_var) =
                (b[norm.mean].shallow_clone(), b[norm.var].shallow_clone());
            let _ = running_mean.lerp_(&mean.to_kind(kind), MOMENTUM);
            let _ = running_var.lerp_(&(&var * (total / (total - 1.0))).to_kind(kind), MOMENTUM);
        });
        let scale = (var + EPS).rsqrt() * weight;
        (centred * for_each(&scale) + for_each(bias)).to_kind(self.kind)
    }

    /// `x` `[n, from]`, or `[n, from, 1, 1]` where the weight is a 1x1 convolution's.
    pub fn linear(&self, linear: &Linear, x: &Tensor) -> Tensor {
        let (weight, bias) = (self.weight(linear.weight), Some(self.weight(linear.bias)));
        if weight.dim() == 4 {
            x.conv2d(&weight, bias, [1, 1], [0, 0], [1, 1], 1)
        } else {
            x.linear(&weight, bias)
        }
    }

    /// Zeroes units of `x` `[n, units]` with the network's probability and scales the rest up.
    /// `layer` is the index of the dropout layer in the network.
    pub fn dropout(&self, layer: u64, x: Tensor) -> Tensor {
        let Mode::Train(keys, _) = self.mode else { return x };
        if self.dropout == 0.0 {
            return x;
        }
        let mask = mask(&keys, layer, x.size()[1] as usize, self.dropout);
        let mask = Tensor::from_slice(&mask)
            .view([keys.keys.len() as i64, -1])
            .to_device(x.device())
            .to_kind(self.kind);
        x * mask
    }
}

/// 0 or 1 / (1 - p) per sample and unit, `[n, units]` in row order.
fn mask(keys: &DropKeys, layer: u64, units: usize, p: f64) -> Vec<f32> {
    let scale = (1.0 / (1.0 - p)) as f32;
    let mut mask = Vec::with_capacity(keys.keys.len() * units);
    for &key in keys.keys {
        // Twice the key plus the layer: each layer of each sample has its own stream.
        let mut rng = rng::stream(Use::Dropout, keys.seed, keys.epoch, 2 * key + layer);
        mask.extend((0..units).map(|_| if rng.random::<f64>() < p { 0.0 } else { scale }));
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_depends_on_the_sample_alone() {
        let keys = |keys| DropKeys { seed: 7, epoch: 3, keys };
        let together = mask(&keys(&[5, 6]), 0, 1000, 0.25);
        assert_eq!(together[1000..], mask(&keys(&[6]), 0, 1000, 0.25));
        assert_ne!(together[..1000], together[1000..]);
        assert_ne!(mask(&keys(&[6]), 1, 1000, 0.25), mask(&keys(&[6]), 0, 1000, 0.25));
        let dropped = together.iter().filter(|&&x| x == 0.0).count();
        assert!((420..580).contains(&dropped), "{dropped} of 2000 at p = 0.25"); // 500 +- 4 sigma
        assert!(together.iter().all(|&x| x == 0.0 || x == 4.0 / 3.0));
    }
}
