//! Functions of libtorch that the `tch` crate lacks, through a small shim in C++: hooks on finished
//! gradients, a sum over ranks with gradients, AdamW in one pass over memory, and convolutions with
//! kernels in oneDNN's own order.

use std::ffi::{CStr, c_char, c_void};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::{base::thrown, distributed::World};

type Ready = unsafe extern "C" fn(*mut c_void, usize);
type Reduce = unsafe extern "C" fn(*const c_void, *mut C_tensor);

type Ending = unsafe extern "C" fn(*const c_char);

unsafe extern "C" {
    fn atlas_error() -> *const c_char;
    fn atlas_on_terminate(ending: Ending);
    fn atlas_on_gradient(
        leaf: *const C_tensor,
        ready: Option<Ready>,
        context: *mut c_void,
        index: usize,
    ) -> bool;
    fn atlas_sum_over_ranks(
        x: *const C_tensor,
        reduce: Reduce,
        context: *const c_void,
    ) -> *mut C_tensor;
    fn atlas_adamw(
        tensors: *const *mut C_tensor,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        eps: f64,
        step: f64,
    ) -> bool;
    fn atlas_pack_kernels(
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        groups: i64,
        size: *const i64,
    ) -> *mut C_tensor;
    fn atlas_packed_convolution(
        x: *const C_tensor,
        packed: *const C_tensor,
        bias: *const C_tensor,
        stride: i64,
        padding: i64,
        groups: i64,
    ) -> *mut C_tensor;
}

/// Ends this thread as a function of `tch` would: with what the last call into the shim threw.
fn fail() -> ! {
    // SAFETY: a C string of this thread, which stays until its next call into the shim.
    let what = unsafe { CStr::from_ptr(atlas_error()) }.to_string_lossy();
    panic!("the shim: {:?}", TchError::Torch(what.into()))
}

/// From now on an exception of C++ that nothing catches, in any thread, calls `ending` with its
/// text before it ends the process.
pub fn on_terminate(ending: Ending) {
    // SAFETY: `ending` is a function, which lives as long as the program.
    unsafe { atlas_on_terminate(ending) }
}

/// Hooks on the leaves of a network: `ready(i)` is called each time a backward pass has added to
/// the gradient of leaf `i`, on the thread of that pass. Dropping it removes the hooks.
pub struct GradientHooks {
    leaves: Vec<Tensor>,
    /// Called by the hooks; boxed twice, so that its address is thin and does not move.
    _ready: Box<Box<dyn Fn(usize) + Send + Sync>>,
}

impl GradientHooks {
    /// Sets a hook on each of `leaves`, which replaces an earlier one.
    pub fn new(leaves: &[Tensor], ready: impl Fn(usize) + Send + Sync + 'static) -> Self {
        unsafe extern "C" fn call(context: *mut c_void, index: usize) {
            // SAFETY: `context` is the address of the box below, which lives until the hooks are
            // removed.
            let ready = unsafe { &*context.cast::<Box<dyn Fn(usize) + Send + Sync>>() };
            thrown::uncaught(|| ready(index));
        }
        let ready: Box<Box<dyn Fn(usize) + Send + Sync>> = Box::new(Box::new(ready));
        let context = std::ptr::from_ref(&*ready).cast_mut().cast::<c_void>();
        for (index, leaf) in leaves.iter().enumerate() {
            // SAFETY: `leaf` is a live tensor; `context` outlives the hook, see `drop`.
            let hooked = unsafe { atlas_on_gradient(leaf.as_ptr(), Some(call), context, index) };
            if !hooked {
                fail();
            }
        }
        Self { leaves: leaves.iter().map(Tensor::shallow_clone).collect(), _ready: ready }
    }
}

impl Drop for GradientHooks {
    fn drop(&mut self) {
        for leaf in &self.leaves {
            // SAFETY: `leaf` is a live tensor; no function is passed.
            unsafe { atlas_on_gradient(leaf.as_ptr(), None, std::ptr::null_mut(), 0) };
        }
    }
}

/// The sum of `x`, of any shape, over the ranks; its gradient is the sum of the gradients over the
/// ranks. All ranks must call it, and run its backward pass, in the same order. A failure of the
/// communicator ends the job.
pub fn sum_over_ranks(x: &Tensor, world: &'static World) -> Tensor {
    unsafe extern "C" fn reduce(context: *const c_void, values: *mut C_tensor) {
        // SAFETY: `context` is the static reference below; `values` is a live tensor, whose
        // reference count this increments.
        let (world, values) =
            unsafe { (&*context.cast::<World>(), Tensor::clone_from_ptr(values)) };
        thrown::uncaught(|| world.sum(&values.view([-1])));
    }
    // SAFETY: `x` is a live tensor, and `world` outlives every graph.
    let sum = unsafe { atlas_sum_over_ranks(x.as_ptr(), reduce, std::ptr::from_ref(world).cast()) };
    if sum.is_null() {
        fail();
    }
    // SAFETY: the shim has just created it, and nothing else owns it.
    unsafe { Tensor::from_ptr(sum) }
}

/// The hyperparameters of one step of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// Weight decay, multiplied by the learning rate (Loshchilov & Hutter 2019).
    pub decay: f64,
    pub eps: f64,
    /// Counted from 1; for the bias correction.
    pub step: u64,
}

/// Updates sets of four f32 tensors of one length in place: parameters, gradients, and the running
/// means of the gradients and of their squares. Bit-equal to `torch.optim.AdamW(fused=True)`.
pub fn adamw(tensors: &[[Tensor; 4]], AdamW { lr, beta1, beta2, decay, eps, step }: AdamW) {
    let pointers: Vec<*mut C_tensor> =
        tensors.iter().flatten().map(|t| t.as_ptr().cast_mut()).collect();
    // SAFETY: `pointers` has 4 live tensors for each of the `len` sets.
    let done = unsafe {
        atlas_adamw(pointers.as_ptr(), tensors.len(), lr, beta1, beta2, decay, eps, step as f64)
    };
    if !done {
        fail();
    }
}

/// Kernels in the order in which oneDNN computes with them; it would otherwise reorder them for
/// each convolution.
pub struct PackedKernels {
    kernels: Tensor,
    stride: i64,
    padding: i64,
    groups: i64,
}

impl PackedKernels {
    /// Packs `weight` `[to, from / groups, side, side]` for inputs of `size` `[n, from, h, w]`;
    /// inputs of other sizes work, but more slowly. `None` if oneDNN does not pack them: not on a
    /// CPU, or not in f32 or bf16.
    pub fn new(
        weight: &Tensor,
        stride: i64,
        padding: i64,
        groups: i64,
        size: [i64; 4],
    ) -> Option<Self> {
        // SAFETY: `weight` is a live tensor, and `size` holds four numbers.
        let kernels =
            unsafe { atlas_pack_kernels(weight.as_ptr(), stride, padding, groups, size.as_ptr()) };
        (!kernels.is_null()).then(|| Self {
            // SAFETY: the shim has just created it, and nothing else owns it.
            kernels: unsafe { Tensor::from_ptr(kernels) },
            stride,
            padding,
            groups,
        })
    }

    /// `x` `[n, from, h, w]` convolved, plus `bias` `[to]`.
    pub fn convolve(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        let Self { ref kernels, stride, padding, groups } = *self;
        let (x, kernels, bias) = (x.as_ptr(), kernels.as_ptr(), bias.as_ptr());
        // SAFETY: all three are live tensors.
        let out = unsafe { atlas_packed_convolution(x, kernels, bias, stride, padding, groups) };
        if out.is_null() {
            fail();
        }
        // SAFETY: the shim has just created it, and nothing else owns it.
        unsafe { Tensor::from_ptr(out) }
    }
}
