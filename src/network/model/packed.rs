//! Convolutions with kernels that oneDNN has packed for the size of their input.

use std::{cell::RefCell, collections::HashMap};

use tch::{Device, Kind, Tensor};

use super::plan::Conv;
use crate::network::autograd::PackedKernels;

/// The packed kernels by the index of the parameter, each for its last input.
#[derive(Default)]
pub struct PackedConvolutions(RefCell<HashMap<usize, PackedFor>>);

/// The size of the input `[n, c, h, w]`, and the kernels if oneDNN packs them.
type PackedFor = ([i64; 4], Option<PackedKernels>);

impl PackedConvolutions {
    /// `x` `[n, c, h, w]` convolved with `weight`, plus `bias` `[to]`.
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
