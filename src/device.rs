//! Which device a network lives on. CUDA is opened at run time, so that one program serves machines with and without.

use std::{ffi::CStr, sync::OnceLock};

use tch::{Cuda, Device};

use crate::{
    config::Backend,
    error::{Error, Result},
};

/// The device of a rank whose number on its machine is `local_rank`: its GPU, if there are any and gradients are not to be
/// summed on the host.
///
/// # Errors
/// Usage, if NCCL is asked for without a GPU, or there are more ranks than GPUs.
pub fn choose(backend: Backend, local_rank: usize) -> Result<Device> {
    if backend == Backend::Mpi {
        return Ok(Device::Cpu);
    }
    let gpus = gpus();
    match gpus {
        0 if backend == Backend::Nccl => Err(Error::usage(
            "comm.backend = \"nccl\", but no GPU can be used here (see above); unset the key, or ask Slurm for GPUs with --gres",
        )),
        0 => Ok(Device::Cpu),
        1 => Ok(Device::Cuda(0)), // bound by the launcher, or the only one
        _ if local_rank < gpus => Ok(Device::Cuda(local_rank)),
        _ => Err(Error::usage(format!("rank {local_rank} of this machine has no GPU: there are {gpus}; start one task per GPU"))),
    }
}

/// Before work with tensors on the CPU: so many threads, and freed memory stays with the process. libtorch allocates every
/// result anew; giving its pages back and faulting them in again took a fifth of a training step.
pub fn set_up_cpu(threads: usize) {
    tch::set_num_threads(threads as i32);
    // SAFETY: both set a number that malloc looks at. The first is the largest that glibc takes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// Number of GPUs that libtorch can use. The first call opens its CUDA library and has to come before any other call to
/// libtorch, which remembers the answer for good.
fn gpus() -> usize {
    static GPUS: OnceLock<usize> = OnceLock::new();
    *GPUS.get_or_init(|| {
        if open(c"libcuda.so.1", libc::RTLD_LAZY | libc::RTLD_GLOBAL).is_err() {
            return 0; // no driver: nothing to say on a machine without a GPU
        }
        match open(c"libtorch_cuda.so", libc::RTLD_NOW | libc::RTLD_GLOBAL) {
            Ok(()) => Cuda::device_count().max(0) as usize,
            Err(why) => {
                log::warn!("there is a CUDA driver, but libtorch cannot use it ({why}); `containers/setup.sh --cuda` fetches what is missing. Going on with the CPU");
                0
            }
        }
    })
}

fn open(library: &CStr, flags: libc::c_int) -> std::result::Result<(), String> {
    // SAFETY: a constant name; these libraries may be opened at any time, and stay open.
    let handle = unsafe { libc::dlopen(library.as_ptr(), flags) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror gives a C string or null.
    let error = unsafe { libc::dlerror() };
    // SAFETY: as above.
    Err(if error.is_null() { "no reason given".into() } else { unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned() })
}

/// Until a GPU has done what it was asked to: its work is then counted where it belongs. Nothing on the CPU.
pub fn wait(device: Device) {
    if let Device::Cuda(i) = device {
        Cuda::synchronize(i as i64);
    }
}

/// Memory in use on a GPU, by all processes, in MiB; `None` for the CPU.
pub fn memory_mib(device: Device) -> Option<u64> {
    let Device::Cuda(_) = device else { return None };
    // SAFETY: looks up a function in the driver, which `gpus` has opened.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"cuMemGetInfo_v2".as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: the driver documents this signature.
    let info = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(*mut usize, *mut usize) -> libc::c_int>(address) };
    let (mut free, mut total) = (0usize, 0usize);
    (info(&raw mut free, &raw mut total) == 0).then(|| (total.saturating_sub(free) as u64) >> 20)
}
