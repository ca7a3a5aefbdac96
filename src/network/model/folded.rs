//! A network for prediction only: each batch norm is folded into the kernel before it, weights are
//! converted once and, on a CPU, packed in the order in which oneDNN computes with them.

use tch::{Kind, Tensor};

use super::{
    compute_mode::Precision,
    network::Network,
    packed::PackedConvolutions,
    pass::{EPS, ForwardPass, Mode},
};

/// A copy of a network's present weights, ready to predict.
pub struct Folded<'a> {
    network: &'a Network,
    parameters: Vec<Tensor>,
    kind: Kind,
    packed: PackedConvolutions,
}

impl<'a> Folded<'a> {
    /// A kernel `w` and the batch norm after it become the kernel `w * s`, where
    /// `s = weight / sqrt(var + eps)`, and the bias `bias - mean * s`.
    pub fn new(network: &'a Network, precision: Precision) -> Self {
        let kind = network.kind(precision);
        let parameters = tch::no_grad(|| {
            let mut parameters: Vec<Tensor> =
                network.parameters.iter().map(Tensor::detach).collect();
            for (conv, norm) in network.layers.convs() {
                let (weight, bias) =
                    (&network.parameters[norm.weight], &network.parameters[norm.bias]);
                let scale = weight * (&network.buffers[norm.var] + EPS).rsqrt();
                parameters[norm.bias] = bias - &network.buffers[norm.mean] * &scale;
                parameters[conv.weight] =
                    &network.parameters[conv.weight] * scale.view([-1, 1, 1, 1]);
            }
            let unfolded: Vec<usize> =
                network.layers.other_norms().flat_map(|norm| [norm.weight, norm.bias]).collect();
            for (_, parameter) in
                parameters.iter_mut().enumerate().filter(|(i, _)| !unfolded.contains(i))
            {
                *parameter = parameter.to_kind(kind);
            }
            parameters
        });
        Self { network, parameters, kind, packed: PackedConvolutions::default() }
    }

    /// Logits `[n, classes]` f32 of `x` `[n, channels, h, w]`, normalised, on the network's device;
    /// as [`Network::forward`] in [`Mode::Eval`], up to rounding.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let network = self.network;
        tch::no_grad(|| {
            network.layers.forward(&self.pass(), &network.input(x, self.kind)).to_kind(Kind::Float)
        })
    }

    /// The last feature maps `[n, features, h, w]` of `x` `[n, channels, h, w]`.
    pub fn features(&self, x: &Tensor) -> Tensor {
        let network = self.network;
        tch::no_grad(|| network.layers.features(&self.pass(), &network.input(x, self.kind)))
    }

    /// Logits `[n, classes]` of feature maps; gradients flow to them.
    pub fn head(&self, features: &Tensor) -> Tensor {
        self.network.layers.head(&self.pass(), features)
    }

    fn pass(&self) -> ForwardPass<'_> {
        let buffers = &self.network.buffers;
        ForwardPass {
            parameters: &self.parameters,
            buffers,
            kind: self.kind,
            mode: Mode::Eval,
            dropout: 0.0,
            folded: Some(&self.packed),
        }
    }
}
