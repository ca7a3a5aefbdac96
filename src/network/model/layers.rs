//! The layers of SE-ResNeXt and their forward pass.

use tch::{Kind, Tensor};

use super::{
    arch::Arch,
    parameter_arena::Init,
    pass::ForwardPass,
    plan::{Conv, LayerPlan, Linear, Norm},
};
use crate::config::{Head, Stem};

/// Squeeze-and-excitation (Hu et al. 2018): average over the image, two layers, a gate per channel.
struct SqueezeExcitation {
    down: Linear,
    up: Linear,
}

impl SqueezeExcitation {
    fn new(plan: &mut LayerPlan, name: &str, channels: i64, reduction: i64) -> Self {
        let squeezed = channels / reduction;
        // 1x1 convolutions, as in timm: a matrix product would round differently.
        let layer = |plan: &mut LayerPlan, n: &str, from: i64, to: i64| {
            let weight = Init::Normal((2.0 / to as f64).sqrt());
            let bias = Init::Uniform(1.0 / (from as f64).sqrt());
            plan.linear(&format!("{name}.{n}"), &[to, from, 1, 1], weight, bias)
        };
        Self {
            down: layer(plan, "fc1", channels, squeezed),
            up: layer(plan, "fc2", squeezed, channels),
        }
    }

    /// Gate `[n, c, 1, 1]` of `x` `[n, c, h, w]`.
    fn gate(&self, pass: &ForwardPass, x: &Tensor) -> Tensor {
        let mean = x.mean_dim([2, 3].as_slice(), true, None::<Kind>);
        pass.linear(&self.up, &pass.linear(&self.down, &mean).relu_()).sigmoid()
    }
}

/// A residual block (Xie et al. 2017): 1x1, grouped 3x3 with the stride, 1x1, gate, plus the
/// shortcut.
struct Bottleneck {
    convs: [(Conv, Norm); 3],
    squeeze: SqueezeExcitation,
    downsample: Option<(Conv, Norm)>,
}

impl Bottleneck {
    fn new(
        plan: &mut LayerPlan,
        name: &str,
        arch: &Arch,
        stage: usize,
        from: i64,
        stride: i64,
    ) -> Self {
        let (width, to) = (arch.widths[stage], arch.outs[stage]);
        let mut conv = |n: usize, from, to, side, stride, groups| {
            let conv = plan.conv(&format!("{name}.conv{n}"), from, to, side, stride, groups);
            (conv, plan.norm(&format!("{name}.bn{n}"), to))
        };
        let convs = [
            conv(1, from, width, 1, 1, 1),
            conv(2, width, width, 3, stride, arch.groups),
            conv(3, width, to, 1, 1, 1),
        ];
        let squeeze =
            SqueezeExcitation::new(plan, &format!("{name}.se_module"), to, arch.reduction);
        let downsample = (stride != 1 || from != to).then(|| {
            let conv = plan.conv(&format!("{name}.downsample.0"), from, to, 1, stride, 1);
            (conv, plan.norm(&format!("{name}.downsample.1"), to))
        });
        Self { convs, squeeze, downsample }
    }

    fn forward(&self, pass: &ForwardPass, x: &Tensor) -> Tensor {
        let [first, second, third] = &self.convs;
        let out = pass.conv_norm(first, x).relu_();
        let out = pass.conv_norm(second, &out).relu_();
        let out = pass.conv_norm(third, &out);
        let gate = self.squeeze.gate(pass, &out);
        // Product and sum separately, not as one addcmul, so that it rounds exactly as timm.
        let mut gated = out * gate;
        let _ = match &self.downsample {
            Some(down) => gated.g_add_(&pass.conv_norm(down, x)),
            None => gated.g_add_(x),
        };
        gated.relu_()
    }
}

/// Pooling and classifier.
enum HeadLayers {
    Linear(Linear),
    Seed { norms: [Norm; 2], linears: [Linear; 2] },
}

/// All layers of one network.
pub struct Layers {
    stem: (Conv, Norm),
    blocks: Vec<Bottleneck>,
    head: HeadLayers,
}

/// Units of the hidden layer of the head `seed`.
const HIDDEN: i64 = 1024;

impl Layers {
    pub fn new(
        plan: &mut LayerPlan,
        arch: &Arch,
        stem: Stem,
        head: Head,
        channels: i64,
        classes: i64,
    ) -> Self {
        let stem = (
            plan.conv("layer0.conv1", channels, arch.stem, 7, stem.stride(), 1),
            plan.norm("layer0.bn1", arch.stem),
        );
        let (mut blocks, mut from) = (Vec::new(), arch.stem);
        for (stage, &count) in arch.blocks.iter().enumerate() {
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let name = format!("layer{}.{i}", stage + 1);
                blocks.push(Bottleneck::new(plan, &name, arch, stage, from, stride));
                from = arch.outs[stage];
            }
        }
        let head = match head {
            Head::Linear => {
                let init = Init::Uniform(1.0 / (from as f64).sqrt());
                HeadLayers::Linear(plan.linear("last_linear", &[classes, from], init, init))
            }
            Head::Seed => {
                let mut part = |n: usize, from: i64, to: i64| {
                    let norm = plan.norm(&format!("head.bn{n}"), from);
                    let (weight, bias) =
                        (Init::Normal((2.0 / from as f64).sqrt()), Init::Constant(0.01));
                    (norm, plan.linear(&format!("head.fc{n}"), &[to, from], weight, bias))
                };
                let ((norm1, linear1), (norm2, linear2)) =
                    (part(1, 2 * from, HIDDEN), part(2, HIDDEN, classes));
                HeadLayers::Seed { norms: [norm1, norm2], linears: [linear1, linear2] }
            }
        };
        Self { stem, blocks, head }
    }

    /// The convolutions, each with the batch norm that follows it.
    pub fn convs(&self) -> impl Iterator<Item = &(Conv, Norm)> {
        std::iter::once(&self.stem)
            .chain(self.blocks.iter().flat_map(|block| block.convs.iter().chain(&block.downsample)))
    }

    /// The batch norms that do not follow a convolution.
    pub fn other_norms(&self) -> impl Iterator<Item = &Norm> {
        match &self.head {
            HeadLayers::Linear(_) => [].iter(),
            HeadLayers::Seed { norms, .. } => norms.iter(),
        }
    }

    /// Logits `[n, classes]` of `x` `[n, channels, h, w]`, in the kind of `x`.
    pub fn forward(&self, pass: &ForwardPass, x: &Tensor) -> Tensor {
        self.head(pass, &self.features(pass, x))
    }

    /// The last feature maps, `[n, features, h, w]`, each side about a 32nd of the image's (a 48th
    /// with the stem `seed`).
    pub fn features(&self, pass: &ForwardPass, x: &Tensor) -> Tensor {
        let x = pass.conv_norm(&self.stem, x).relu_();
        // Ceil mode without padding, as the original Caffe weights require.
        let mut x = x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], true);
        for block in &self.blocks {
            x = block.forward(pass, &x);
        }
        x
    }

    /// Logits `[n, classes]` of the last feature maps.
    pub fn head(&self, pass: &ForwardPass, x: &Tensor) -> Tensor {
        let average = x.mean_dim([2, 3].as_slice(), false, None::<Kind>);
        match &self.head {
            HeadLayers::Linear(linear) => pass.linear(linear, &pass.dropout(0, average)),
            HeadLayers::Seed { norms, linears } => {
                let most = x.adaptive_max_pool2d([1, 1]).0.flatten(1, -1);
                let x = pass.norm(&norms[0], &Tensor::cat(&[average, most], 1));
                let x = pass.linear(&linears[0], &pass.dropout(0, x)).relu_();
                pass.linear(&linears[1], &pass.dropout(1, pass.norm(&norms[1], &x)))
            }
        }
    }
}
