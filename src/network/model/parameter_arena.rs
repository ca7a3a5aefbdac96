//! One flat tensor that holds many: the optimiser, the gradient exchange, the average and the
//! checkpoint handle one tensor instead of two hundred.

use tch::{Device, Kind, Tensor};

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Init {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this.
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

    /// Whether weight decay acts on it by default: matrices and kernels yes; biases and batch norm
    /// no.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// Every slot starts on a cache line, as a tensor of its own would: kernels may choose by
/// alignment. The gaps stay zero.
const ALIGN: i64 = 16;

/// Lists the slots one after the other.
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

/// The part of `flat` that belongs to `slot`, shaped as torch would. With `nhwc` a kernel lies in
/// memory as `[o, kh, kw, i]` and is shown as `[o, i, kh, kw]`: that is what torch calls
/// channels-last.
pub(super) fn view(flat: &Tensor, slot: &Slot, nhwc: bool) -> Tensor {
    let part = flat.narrow(0, slot.offset, slot.len());
    match slot.shape[..] {
        [o, i, h, w] if nhwc => part.view([o, h, w, i]).permute([0, 3, 1, 2]),
        _ => part.view(&slot.shape[..]),
    }
}
