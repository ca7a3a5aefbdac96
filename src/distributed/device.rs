//! Which device a network lives on. CUDA is opened at run time, so that one program serves machines
//! with and without.

use std::{ffi::CStr, sync::OnceLock};

use tch::Device;

use crate::{
    base::{Error, Result},
    config::Backend,
};

/// The version that `containers/setup.sh` fetches and this program is built with.
pub const LIBTORCH: &str = "2.11.0";

/// The device of a rank whose number on its machine is `local_rank`: its GPU, if there are any and
/// gradients are not to be summed on the host.
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

/// Before work with tensors on the CPU: so many threads, and [`keep_memory`].
pub fn set_up_cpu(threads: usize) {
    tch::set_num_threads(threads as i32);
    keep_memory();
}

/// Freed memory stays with the process. libtorch allocates every result anew, and so do the
/// decoders of pictures; giving pages back and faulting them in again took a fifth of a training
/// step.
pub fn keep_memory() {
    // SAFETY: both set a number that malloc looks at. The first is the largest that glibc takes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// What libtorch can do with the GPUs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuda {
    /// No driver: nothing to say on a machine without a GPU.
    NoDriver,
    /// There is a driver, but libtorch's part for it cannot be opened.
    Unusable(String),
    /// So many that it can use.
    Gpus(usize),
}

/// The first call opens libtorch's CUDA library and has to come before any other call to libtorch,
/// which remembers the answer for good.
pub fn cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(|| {
        if open(c"libcuda.so.1", libc::RTLD_LAZY | libc::RTLD_GLOBAL).is_err() {
            return Cuda::NoDriver;
        }
        match open(c"libtorch_cuda.so", libc::RTLD_NOW | libc::RTLD_GLOBAL) {
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

/// Opens a library of NVIDIA's or libtorch's, for good.
pub(crate) fn open(library: &CStr, flags: libc::c_int) -> std::result::Result<(), String> {
    // SAFETY: a constant name; these libraries may be opened at any time, and stay open.
    let handle = unsafe { libc::dlopen(library.as_ptr(), flags) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror gives a C string or null.
    let error = unsafe { libc::dlerror() };
    Err(if error.is_null() {
        "no reason given".into()
    } else {
        // SAFETY: as above.
        unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
    })
}

/// Until a GPU has done what it was asked to: its work is then counted where it belongs. Nothing on
/// the CPU.
pub fn wait(device: Device) {
    if let Device::Cuda(i) = device {
        tch::Cuda::synchronize(i as i64);
    }
}

/// Memory in use on a GPU, by all processes, in MiB; `None` for the CPU.
pub fn memory_mib(device: Device) -> Option<u64> {
    let Device::Cuda(_) = device else { return None };
    // SAFETY: the driver, which `cuda` has opened, documents this signature.
    let info: extern "C" fn(*mut usize, *mut usize) -> libc::c_int =
        unsafe { function(c"cuMemGetInfo_v2") }?;
    let (mut free, mut total) = (0usize, 0usize);
    (info(&raw mut free, &raw mut total) == 0).then(|| (total.saturating_sub(free) as u64) >> 20)
}

/// A function of a library that [`open`] opened with `RTLD_GLOBAL`.
///
/// # Safety
/// `F` is a pointer to a function of its signature.
pub(crate) unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut libc::c_void>()) };
    // SAFETY: a constant name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: of the same size; the caller vouches for the signature.
    (!address.is_null()).then(|| unsafe { std::mem::transmute_copy(&address) })
}

/// The numbers of the processors that this process may run on.
pub fn affinity() -> Vec<usize> {
    // SAFETY: `set` is a plain bit set that the call fills.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let unknown = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0;
        (0..libc::CPU_SETSIZE as usize)
            .filter(|&cpu| unknown || libc::CPU_ISSET(cpu, &set))
            .collect()
    }
}
