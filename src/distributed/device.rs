//! Which device a network lives on. CUDA is opened at run time, so that one program serves machines
//! with and without it.

use std::{
    error::Error as _,
    ffi::{CStr, c_int},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_NOW};
use rustix::thread::{CpuSet, sched_getaffinity};
use tch::Device;

use crate::{
    base::{Error, Result, thread_pool},
    config::Backend,
};

/// The version that `containers/setup.sh` fetches and this program is built with.
pub const LIBTORCH: &str = "2.11.0";

/// The device of a rank whose number on its machine is `local_rank`: its GPU, if there are any and
/// gradients are not to be summed on the host.
///
/// # Errors
/// Usage, if NCCL is requested without a GPU, or there are more ranks than GPUs.
pub fn choose(backend: Backend, local_rank: usize) -> Result<Device> {
    if backend == Backend::Mpi {
        return Ok(Device::Cpu);
    }
    let gpus = gpus();
    match gpus {
        0 if backend == Backend::Nccl => Err(Error::usage(
            "comm.backend = \"nccl\", but no GPU can be used here (see above); unset the key, or \
                ask Slurm for GPUs with --gres",
        )),
        0 => Ok(Device::Cpu),
        1 => Ok(Device::Cuda(0)), // bound by the launcher, or the only one
        _ if local_rank < gpus => Ok(Device::Cuda(local_rank)),
        _ => Err(Error::usage(format!(
            "rank {local_rank} of this machine has no GPU: there are {gpus}; start one task per GPU"
        ))),
    }
}

/// Before work with tensors on the CPU: sets the number of threads, and calls [`keep_memory`].
///
/// # Errors
/// Failed where the system refuses these threads; OpenMP would end the process.
pub fn set_up_cpu(threads: usize) -> Result<()> {
    thread_pool::check(threads)?;
    tch::set_num_threads(threads as i32);
    keep_memory();
    Ok(())
}

/// Makes freed memory stay with the process. libtorch allocates memory for every result, and so do
/// the image decoders; returning pages to the system and faulting them in again took a fifth of a
/// training step.
pub fn keep_memory() {
    // SAFETY: both set a parameter of malloc. The first is the largest that glibc accepts.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// What libtorch can do with the GPUs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuda {
    /// No driver: a machine without a GPU.
    NoDriver,
    /// There is a driver, but libtorch's CUDA library cannot be opened, for this reason.
    Unusable(String),
    /// The number that it can use.
    Gpus(usize),
}

/// The first call opens libtorch's CUDA library and has to come before any other call to libtorch,
/// which keeps its first answer.
pub fn cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(|| {
        if open("libcuda.so.1", RTLD_LAZY | RTLD_GLOBAL).is_err() {
            return Cuda::NoDriver;
        }
        match open("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) {
            Ok(()) => Cuda::Gpus(tch::Cuda::device_count().max(0) as usize),
            Err(why) => Cuda::Unusable(why),
        }
    })
}

/// Number of GPUs that libtorch can use.
fn gpus() -> usize {
    match cuda() {
        Cuda::NoDriver => 0,
        Cuda::Unusable(why) => {
            log::warn!(
                "there is a CUDA driver, but libtorch cannot use it ({why}); `containers/setup.sh \
                    --cuda` fetches what is missing. Going on with the CPU"
            );
            0
        }
        Cuda::Gpus(n) => *n,
    }
}

/// Opens a library of NVIDIA's or libtorch's for the life of the process.
pub(crate) fn open(library: &str, flags: c_int) -> std::result::Result<(), String> {
    // SAFETY: the initialisers of these libraries may run at any time.
    let opened = unsafe { Library::open(Some(library), flags) };
    // The loader's own message is the source of the crate's.
    let message = |e: libloading::Error| e.source().map_or(e.to_string(), ToString::to_string);
    opened.map(std::mem::forget).map_err(message)
}

/// Waits until a GPU has done its queued work, so that the time is counted where it belongs. Does
/// nothing on the CPU.
pub fn wait(device: Device) {
    if let Device::Cuda(i) = device {
        tch::Cuda::synchronize(i as i64);
    }
}

/// Memory in use on a GPU, by all processes, in MiB; `None` for the CPU.
pub fn memory_mib(device: Device) -> Option<u64> {
    let Device::Cuda(_) = device else { return None };
    // SAFETY: the driver, which `cuda` has opened, documents this signature.
    let info: extern "C" fn(*mut usize, *mut usize) -> c_int =
        unsafe { function(c"cuMemGetInfo_v2") }?;
    let (mut free, mut total) = (0usize, 0usize);
    (info(&raw mut free, &raw mut total) == 0).then(|| (total.saturating_sub(free) as u64) >> 20)
}

/// A function of a library that [`open`] opened with `RTLD_GLOBAL`.
///
/// # Safety
/// `F` is a pointer to a function of its signature.
pub(crate) unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: the caller guarantees the signature; the library stays open.
    unsafe { Library::this().get::<F>(name).ok().map(|function| *function) }
}

/// The numbers of the processors that this process may run on; all, where the kernel does not
/// answer.
pub fn affinity() -> Vec<usize> {
    let set = sched_getaffinity(None).ok();
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_none_or(|set| set.is_set(cpu))).collect()
}
