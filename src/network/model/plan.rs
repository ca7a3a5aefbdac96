//! The simple layers, as indices into the arenas, and the plan that lists their tensors.

use super::parameter_arena::{Init, Slots};

/// The tensors of all layers, in the order in which the layers are added.
#[derive(Default)]
pub struct LayerPlan {
    pub parameters: Slots,
    pub buffers: Slots,
}

/// A convolution without bias.
pub struct Conv {
    pub weight: usize,
    pub stride: i64,
    pub padding: i64,
    pub groups: i64,
}

/// Batch norm (Ioffe & Szegedy 2015).
pub struct Norm {
    pub weight: usize,
    pub bias: usize,
    pub mean: usize,
    pub var: usize,
}

/// A matrix product with bias.
pub struct Linear {
    pub weight: usize,
    pub bias: usize,
}

impl LayerPlan {
    /// `side` is that of the kernel. Kaiming normal over the outputs (He et al. 2015), as timm.
    pub fn conv(
        &mut self,
        name: &str,
        from: i64,
        to: i64,
        side: i64,
        stride: i64,
        groups: i64,
    ) -> Conv {
        // torch counts all outputs for the fan-out, for any number of groups.
        let std = (2.0 / (to * side * side) as f64).sqrt();
        let (name, shape) = (format!("{name}.weight"), [to, from / groups, side, side]);
        let weight = self.parameters.add(name, &shape, Init::Normal(std));
        Conv { weight, stride, padding: side / 2, groups }
    }

    pub fn norm(&mut self, name: &str, channels: i64) -> Norm {
        let (zeros, ones) = (Init::Constant(0.0), Init::Constant(1.0));
        Norm {
            weight: self.parameters.add(format!("{name}.weight"), &[channels], ones),
            bias: self.parameters.add(format!("{name}.bias"), &[channels], zeros),
            mean: self.buffers.add(format!("{name}.running_mean"), &[channels], zeros),
            var: self.buffers.add(format!("{name}.running_var"), &[channels], ones),
        }
    }

    pub fn linear(&mut self, name: &str, shape: &[i64], weight: Init, bias: Init) -> Linear {
        Linear {
            weight: self.parameters.add(format!("{name}.weight"), shape, weight),
            bias: self.parameters.add(format!("{name}.bias"), &shape[..1], bias),
        }
    }
}
