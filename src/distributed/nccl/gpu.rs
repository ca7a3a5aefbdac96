//! The calls of CUDA's driver that the sums need.

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};

use crate::base::{Error, Result};

/// The stream that libtorch works on: CUDA's default.
pub const LIBTORCH: sys::CUstream = std::ptr::null_mut();

/// A GPU as libtorch uses it, and one more stream on it.
pub struct Gpu {
    /// As nvidia-smi calls it, with its UUID.
    pub name: String,
    /// Independent of libtorch's stream: neither waits for the other by itself.
    pub stream: sys::CUstream,
    device: sys::CUdevice,
    context: sys::CUcontext,
}

fn check<T>(operation: &str, result: Result<T, DriverError>) -> Result<T> {
    result.map_err(|e| {
        let what = e.error_string().map_or_else(
            |_| format!("error {}", e.0 as u32),
            |text| text.to_string_lossy().into_owned(),
        );
        Error::failed(format!("CUDA: {operation}: {what}"))
    })
}

impl Gpu {
    /// Makes GPU `index` current on this thread.
    pub fn open(index: usize) -> Result<Self> {
        check("cuInit", result::init())?;
        let device = check("cuDeviceGet", result::device::get(index as i32))?;
        let uuid = check("cuDeviceGetUuid", result::device::get_uuid(device))?;
        let hex: String = uuid.bytes.iter().map(|&b| format!("{:02x}", b as u8)).collect();
        let uuid = format!(
            "GPU-{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        );
        let name =
            format!("{} ({uuid})", check("cuDeviceGetName", result::device::get_name(device))?);
        // SAFETY: `device` exists. Its primary context is also libtorch's.
        let context =
            check("cuDevicePrimaryCtxRetain", unsafe { result::primary_ctx::retain(device) })?;
        let gpu = Self { name, stream: LIBTORCH, device, context };
        gpu.enter()?;
        let stream = check(
            "cuStreamCreate",
            result::stream::create(result::stream::StreamKind::NonBlocking),
        )?;
        Ok(Self { stream, ..gpu })
    }

    /// Makes it current on this thread, which need not be the one that opened it: autograd has its
    /// own threads.
    pub fn enter(&self) -> Result<()> {
        // SAFETY: the context is retained until `close`.
        check("cuCtxSetCurrent", unsafe { result::ctx::set_current(self.context) })
    }

    /// A new event, which has to be passed to [`close`](Self::close) at the end.
    pub fn event(&self) -> Result<sys::CUevent> {
        check("cuEventCreate", result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING))
    }

    /// Makes `event` stand for all work that was queued on `stream` so far.
    pub fn record(&self, event: sys::CUevent, stream: sys::CUstream) -> Result<()> {
        // SAFETY: an event of `event` on a stream that exists.
        check("cuEventRecord", unsafe { result::event::record(event, stream) })
    }

    /// Makes later work on `stream` wait for the work that `event` stands for now.
    pub fn wait(&self, stream: sys::CUstream, event: sys::CUevent) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: as above.
        check("cuStreamWaitEvent", unsafe { result::stream::wait_event(stream, event, flags) })
    }

    /// After the last call.
    pub fn close(&self, events: impl Iterator<Item = sys::CUevent>) -> Result<()> {
        for event in events {
            // SAFETY: an event of `event` that is no longer used.
            check("cuEventDestroy", unsafe { result::event::destroy(event) })?;
        }
        // SAFETY: the stream is no longer used.
        check("cuStreamDestroy", unsafe { result::stream::destroy(self.stream) })?;
        // SAFETY: retained in `open`; libtorch has retained it, too.
        check("cuDevicePrimaryCtxRelease", unsafe { result::primary_ctx::release(self.device) })
    }
}
