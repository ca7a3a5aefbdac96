//! A parameter arena: one flat tensor that holds all parameters (another one all gradients, a third
//! all buffers), so that the optimiser, the gradient sync, the average and the checkpoint handle
//! one tensor instead of two hundred.

use rand_distr::{Distribution, StandardNormal, Uniform};
use tch::{Device, Kind, Tensor};

use crate::base::rng::{self, Use};

/// The initial values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Init {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform from minus to plus this.
    Uniform(f64),
    Constant(f64),
}

/// One named tensor in an arena.
#[derive(Clone, Debug)]
pub struct Slot {
    /// timm's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// The shape that torch would give it.
    pub shape: Vec<i64>,
    /// First element in the flat tensor.
    pub offset: i64,
    pub(super) init: Init,
}

impl Slot {
    /// Number of elements.
    pub fn len(&self) -> i64 {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether weight decay applies to it by default: to matrices and kernels, not to biases and
    /// batch norm.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }

    /// Initial values. Each slot, by its index, has its own random stream, so that slots can be
    /// drawn in parallel.
    pub(super) fn draw(&self, seed: u64, index: u64) -> Vec<f32> {
        let mut rng = rng::stream(Use::Init, seed, 0, index);
        let n = self.len() as usize;
        match self.init {
            Init::Constant(c) => vec![c as f32; n],
            Init::Normal(std) => (0..n)
                .map(|_| (std * Distribution::<f64>::sample(&StandardNormal, &mut rng)) as f32)
                .collect(),
            Init::Uniform(limit) => {
                let uniform =
                    Uniform::new_inclusive(-limit, limit).expect("a finite, ordered range");
                (0..n).map(|_| uniform.sample(&mut rng) as f32).collect()
            }
        }
    }
}

/// Every slot starts on a cache line (in f32 elements), as a separate tensor would, since kernels
/// may depend on the alignment. The gaps stay zero.
const ALIGN: i64 = 16;

/// The slots of an arena, one after the other.
#[derive(Default)]
pub(super) struct Slots {
    pub list: Vec<Slot>,
    pub len: i64,
}

impl Slots {
    /// Appends a slot and returns its index.
    pub fn add(&mut self, name: String, shape: &[i64], init: Init) -> usize {
        let slot = Slot { name, shape: shape.to_vec(), offset: self.len, init };
        self.len += (slot.len() + ALIGN - 1) / ALIGN * ALIGN;
        self.list.push(slot);
        self.list.len() - 1
    }

    /// A flat tensor of zeros for all slots.
    pub fn zeros(&self, kind: Kind, device: Device) -> Tensor {
        Tensor::zeros([self.len], (kind, device))
    }
}

/// The part of `flat` that belongs to `slot`, in torch's shape. With `nhwc` a kernel is stored as
/// `[o, kh, kw, i]` and viewed as `[o, i, kh, kw]`, which torch calls channels-last.
pub(super) fn view(flat: &Tensor, slot: &Slot, nhwc: bool) -> Tensor {
    let part = flat.narrow(0, slot.offset, slot.len());
    match slot.shape[..] {
        [o, i, h, w] if nhwc => part.view([o, h, w, i]).permute([0, 3, 1, 2]),
        _ => part.view(&slot.shape[..]),
    }
}
