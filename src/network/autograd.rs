//! What the `tch` crate lacks, from a small shim in C++: a hook on finished gradients, a sum over
//! ranks that gradients flow through, AdamW in one pass over its numbers, and convolutions with
//! kernels in oneDNN's own order.

use std::ffi::c_void;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::distributed::World;

type Ready = unsafe extern "C" fn(*mut c_void, usize);
type Reduce = unsafe extern "C" fn(*const c_void, *mut C_tensor);

unsafe extern "C" {
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

/// Hooks on the leaves of a network: `ready(i)` is called each time a backward pass has added its
/// part to the gradient of leaf `i`, on the thread of that pass. Dropping it takes the hooks off.
pub struct GradientHooks {
    leaves: Vec<Tensor>,
    /// Where the hooks find what to call; boxed twice, so that the address is thin and stays.
    _ready: Box<Box<dyn Fn(usize) + Send + Sync>>,
}

impl GradientHooks {
    /// Puts a hook on each of `leaves`, in the place of one that is there.
    pub fn new(leaves: &[Tensor], ready: impl Fn(usize) + Send + Sync + 'static) -> Self {
        unsafe extern "C" fn call(context: *mut c_void, index: usize) {
            // SAFETY: `context` is the address of the box below, which lives until the hooks are
            // taken off.
            let ready = unsafe { &*context.cast::<Box<dyn Fn(usize) + Send + Sync>>() };
            ready(index);
        }
        let ready: Box<Box<dyn Fn(usize) + Send + Sync>> = Box::new(Box::new(ready));
        let context = std::ptr::from_ref(&*ready).cast_mut().cast::<c_void>();
        for (index, leaf) in leaves.iter().enumerate() {
            // SAFETY: `leaf` is a live tensor; `context` outlives the hook, see `drop`.
            let hooked = unsafe { atlas_on_gradient(leaf.as_ptr(), Some(call), context, index) };
            assert!(hooked, "leaf {index} takes a hook");
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

/// The sum of `x` over the ranks, of any shape; the gradient of `x` is the sum of the ranks'
/// gradients. All ranks call it, and run its backward pass, in the same order. A failure of the
/// communicator ends the job.
pub fn sum_over_ranks(x: &Tensor, world: &'static World) -> Tensor {
    unsafe extern "C" fn reduce(context: *const c_void, values: *mut C_tensor) {
        // SAFETY: `context` is the static reference below; `values` is a live tensor, of which this
        // takes a handle.
        let (world, values) =
            unsafe { (&*context.cast::<World>(), Tensor::clone_from_ptr(values)) };
        world.sum(&values.view([-1]));
    }
    // SAFETY: `x` is a live tensor, and `world` outlives every graph.
    let sum = unsafe { atlas_sum_over_ranks(x.as_ptr(), reduce, std::ptr::from_ref(world).cast()) };
    assert!(!sum.is_null(), "libtorch records the sum over ranks");
    // SAFETY: the shim has just made it, and nobody else owns it.
    unsafe { Tensor::from_ptr(sum) }
}

/// The numbers of one step of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// Weight decay, times the learning rate, as in Loshchilov & Hutter 2019.
    pub decay: f64,
    pub eps: f64,
    /// From 1; for the correction of the bias.
    pub step: u64,
}

/// Moves parameters by their gradients, and the running means of the gradients and of their
/// squares, in place: four f32 tensors of one length each. The numbers are those of
/// `torch.optim.AdamW(fused=True)`.
pub fn adamw(tensors: &[[Tensor; 4]], AdamW { lr, beta1, beta2, decay, eps, step }: AdamW) {
    let pointers: Vec<*mut C_tensor> =
        tensors.iter().flatten().map(|t| t.as_ptr().cast_mut()).collect();
    // SAFETY: `pointers` names 4 live tensors for each of the `len` sets.
    let done = unsafe {
        atlas_adamw(pointers.as_ptr(), tensors.len(), lr, beta1, beta2, decay, eps, step as f64)
    };
    assert!(done, "libtorch has AdamW for these tensors");
}

/// Kernels in the order in which oneDNN computes with them; plain ones it puts into that order each
/// time.
pub struct PackedKernels {
    kernels: Tensor,
    stride: i64,
    padding: i64,
    groups: i64,
}

impl PackedKernels {
    /// Of `weight` `[to, from / groups, side, side]` for inputs of `size` `[n, from, h, w]`; others
    /// are taken, too, but more slowly. `None` where oneDNN has no order of its own for them: not
    /// on a CPU, not in f32 or bf16.
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
            // SAFETY: the shim has just made it, and nobody else owns it.
            kernels: unsafe { Tensor::from_ptr(kernels) },
            stride,
            padding,
            groups,
        })
    }

    /// `x` `[n, from, h, w]` convolved, plus `bias` `[to]`.
    pub fn convolve(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        let Self { kernels, stride, padding, groups } = self;
        // SAFETY: all three are live tensors.
        let out = unsafe {
            atlas_packed_convolution(
                x.as_ptr(),
                kernels.as_ptr(),
                bias.as_ptr(),
                *stride,
                *padding,
                *groups,
            )
        };
        assert!(!out.is_null(), "oneDNN convolves with what it has packed");
        // SAFETY: the shim has just made it, and nobody else owns it.
        unsafe { Tensor::from_ptr(out) }
    }
}
