//! A network for prediction alone: each batch norm folded into the kernel before it, weights
//! converted once and, on a CPU, brought into the order in which oneDNN computes with them.

use std::{cell::RefCell, collections::HashMap};

use tch::{Device, Kind, Tensor};

use super::{
    Network, Precision,
    layers::Conv,
    pass::{EPS, Mode, Pass},
};
use crate::network::autograd::PackedKernels;

/// The weights of a network at one moment, ready to predict.
pub struct Folded<'a> {
    network: &'a Network,
    parameters: Vec<Tensor>,
    kind: Kind,
    packed: Packed,
}

/// The kernels of the convolutions, by the index of the parameter, as they were packed for their
/// last input.
#[derive(Default)]
pub(super) struct Packed(RefCell<HashMap<usize, ForInput>>);

/// The size of the input `[n, c, h, w]`, and the kernels if oneDNN packs them.
type ForInput = ([i64; 4], Option<PackedKernels>);

impl Packed {
    pub fn convolve(&self, conv: &Conv, weight: &Tensor, bias: &Tensor, x: &Tensor) -> Tensor {
        let (s, p) = (conv.stride, conv.padding);
        let plain = || x.conv2d(weight, Some(bias), [s, s], [p, p], [1, 1], conv.groups);
        let (Device::Cpu, Kind::Float | Kind::BFloat16, Ok(size)) =
            (x.device(), x.kind(), <[i64; 4]>::try_from(x.size()))
        else {
            return plain();
        };
        let mut all = self.0.borrow_mut();
        if all.get(&conv.weight).is_none_or(|(of, _)| *of != size) {
            all.insert(conv.weight, (size, PackedKernels::new(weight, s, p, conv.groups, size)));
        }
        all[&conv.weight].1.as_ref().map_or_else(plain, |kernels| kernels.convolve(x, bias))
    }
}

impl<'a> Folded<'a> {
    /// Of a kernel `w` and the batch norm behind it, `w * s` with `s = weight / sqrt(var + eps)`,
    /// and as the convolution's bias `bias - mean * s`.
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
            let stay: Vec<usize> =
                network.layers.other_norms().flat_map(|norm| [norm.weight, norm.bias]).collect();
            for (_, parameter) in
                parameters.iter_mut().enumerate().filter(|(i, _)| !stay.contains(i))
            {
                *parameter = parameter.to_kind(kind);
            }
            parameters
        });
        Self { network, parameters, kind, packed: Packed::default() }
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

    fn pass(&self) -> Pass<'_> {
        let buffers = &self.network.buffers;
        Pass {
            parameters: &self.parameters,
            buffers,
            kind: self.kind,
            mode: Mode::Eval,
            dropout: 0.0,
            folded: Some(&self.packed),
        }
    }
}
