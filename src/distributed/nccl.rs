//! NCCL, for sums on the GPUs; everything else goes to the communicator below it, on the host. The
//! sums run on a stream of their own, which events synchronise with libtorch's: no call here waits
//! for the GPU. NCCL rounds a sum in bf16 each time that it passes on a part of it.

use std::{
    collections::HashMap,
    ffi::{CStr, c_char},
    sync::{Mutex, PoisonError, RwLock},
};

use cudarc::{
    driver::sys::{self as driver, CUevent},
    nccl::sys::{self as nccl, ncclResult_t},
};
use tch::{Kind, Tensor};

use super::{Comm, Op, Ticket};
use crate::base::{Error, Result, host};

mod gpu;
use gpu::{Gpu, LIBTORCH};

/// The ranks of `control`, each with a GPU.
struct Nccl {
    control: Box<dyn Comm>,
    gpu: Gpu,
    /// NCCL's communicator; `None` once closed. Not behind the lock of the sums: the watchdog reads
    /// it while a sum hangs.
    ranks: RwLock<Option<nccl::ncclComm_t>>,
    sums: Mutex<PendingSums>,
}

#[derive(Default)]
struct PendingSums {
    begun: u64,
    /// By ticket: the bucket, whose memory must stay, and the event of its sum.
    pending: HashMap<u64, (Tensor, CUevent)>,
    /// To be used again.
    idle: Vec<CUevent>,
}

// SAFETY: CUDA's and NCCL's handles may be used by any thread. PendingSums are begun and finished
// under a lock; the communicator is destroyed only after it was taken out of its own.
unsafe impl Send for Nccl {}
// SAFETY: as above.
unsafe impl Sync for Nccl {}

/// Puts NCCL on top of `control`; GPU `device` is this rank's. Buckets must lie on it.
///
/// # Errors
/// On all ranks if on one. Usage, if a library is missing.
pub fn over(control: Box<dyn Comm>, device: usize) -> Result<Box<dyn Comm>> {
    let (rank, size) = (control.rank(), control.size());
    let gpu = control.agree(find_libraries().and_then(|()| Gpu::open(device)))?;
    log::info!("rank {rank} of {size} on {}: sums by NCCL on {}", host::name(), gpu.name);
    let mut id = control.agree(if rank == 0 { draw_id() } else { Ok([0; 128]) })?;
    control.broadcast(&mut id)?;
    // Some MPI libraries complete a broadcast only in the next call, and the next call here waits
    // for the other ranks without MPI.
    control.barrier()?;
    let joined = join(id, rank, size);
    if let Err(e) = &joined {
        // often only one of many messages gives the cause
        log::error!("rank {rank} of {size} on {}: {e}", host::name());
    }
    let ranks = RwLock::new(Some(control.agree(joined)?));
    Ok(Box::new(Nccl { control, gpu, ranks, sums: Mutex::default() }))
}

/// Checks that both libraries are there, as the binding panics in its first call otherwise.
fn find_libraries() -> Result<()> {
    // SAFETY: opens a library of NVIDIA's, which may be opened at any time.
    if !unsafe { driver::is_culib_present() } {
        return Err(Error::usage(
            "NCCL needs libcuda.so, which cannot be opened: it comes with the GPU's driver",
        ));
    }
    // SAFETY: as above.
    if !unsafe { nccl::is_culib_present() } {
        let what = "libnccl.so cannot be opened (libnccl.so.2 alone is not enough); \
            `containers/setup.sh --cuda` fetches it";
        return Err(Error::usage(format!("{what}, and comm.backend = \"mpi\" does without it")));
    }
    Ok(())
}

fn draw_id() -> Result<[u8; 128]> {
    let mut id = nccl::ncclUniqueId { internal: [0; 128] };
    // SAFETY: fills `id`.
    check("ncclGetUniqueId", unsafe { nccl::ncclGetUniqueId(&raw mut id) })?;
    Ok(id.internal.map(|c| c as u8))
}

fn join(id: [u8; 128], rank: usize, size: usize) -> Result<nccl::ncclComm_t> {
    let id = nccl::ncclUniqueId { internal: id.map(|b| b as c_char) };
    let mut ranks = std::ptr::null_mut();
    // SAFETY: sets `ranks`; `Gpu::open` has made this rank's GPU current on this thread.
    check("ncclCommInitRank", unsafe {
        nccl::ncclCommInitRank(&raw mut ranks, size as i32, id, rank as i32)
    })?;
    Ok(ranks)
}

/// Turns what NCCL returned from `operation` into an error.
fn check(operation: &str, code: ncclResult_t) -> Result<()> {
    if code == ncclResult_t::ncclSuccess {
        return Ok(());
    }
    // SAFETY: both return C strings that stay where they are; the second one takes any
    // communicator, and null.
    let (what, detail) = unsafe {
        (
            CStr::from_ptr(nccl::ncclGetErrorString(code)),
            CStr::from_ptr(nccl::ncclGetLastError(std::ptr::null_mut())),
        )
    };
    let detail = match detail.to_string_lossy().trim() {
        "" => String::new(),
        detail => format!(" ({detail})"),
    };
    let hint = match code {
        ncclResult_t::ncclSystemError => {
            ": /dev/shm may be too small (see `df -h /dev/shm`; NCCL should have 1 GiB)"
        }
        _ => "",
    };
    Err(Error::failed(format!("NCCL: {operation}: {}{detail}{hint}", what.to_string_lossy())))
}

impl Nccl {
    /// Calls NCCL with its communicator; does nothing once closed.
    fn call(
        &self,
        operation: &str,
        work: impl FnOnce(nccl::ncclComm_t) -> ncclResult_t,
    ) -> Result<()> {
        let ranks = self.ranks.read().unwrap_or_else(PoisonError::into_inner);
        ranks.map_or(Ok(()), |ranks| check(operation, work(ranks)))
    }

    fn leave(&self) -> Result<()> {
        let ranks = self.ranks.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ranks) = ranks else { return Ok(()) };
        self.gpu.enter()?;
        // SAFETY: nothing else has the communicator any more. This completes what is pending.
        check("ncclCommDestroy", unsafe { nccl::ncclCommDestroy(ranks) })?;
        let sums = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        self.gpu.close(sums.pending.into_values().map(|(_, event)| event).chain(sums.idle))
    }
}

impl Comm for Nccl {
    fn rank(&self) -> usize {
        self.control.rank()
    }

    fn size(&self) -> usize {
        self.control.size()
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        self.control.broadcast(bytes)
    }

    fn barrier(&self) -> Result<()> {
        self.control.barrier()
    }

    fn begin(&self, bucket: &Tensor) -> Result<Ticket> {
        assert!(bucket.is_contiguous() && bucket.dim() == 1);
        let kind = match bucket.kind() {
            Kind::Float => nccl::ncclDataType_t::ncclFloat32,
            Kind::Double => nccl::ncclDataType_t::ncclFloat64,
            Kind::BFloat16 => nccl::ncclDataType_t::ncclBfloat16,
            other => unreachable!("no bucket is {other:?}"),
        };
        // The lock makes the order on the stream that of the calls.
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        self.gpu.enter()?;
        let event = sums.idle.pop().map_or_else(|| self.gpu.event(), Ok)?;
        self.gpu.record(event, LIBTORCH)?;
        self.gpu.wait(self.gpu.stream, event)?;
        let (at, n, stream) = (bucket.data_ptr(), bucket.numel(), self.gpu.stream.cast());
        // SAFETY: the bucket holds `n` values of that kind and stays in `pending` until libtorch's
        // stream waits for the sum.
        self.call("ncclAllReduce", |ranks| unsafe {
            nccl::ncclAllReduce(at, at, n, kind, nccl::ncclRedOp_t::ncclSum, ranks, stream)
        })?;
        // The stream waits for what was recorded then: the event can be recorded again.
        self.gpu.record(event, self.gpu.stream)?;
        sums.begun += 1;
        let ticket = sums.begun;
        sums.pending.insert(ticket, (bucket.shallow_clone(), event));
        Ok(Ticket(ticket))
    }

    fn finish(&self, ticket: Ticket) -> Result<()> {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let (_bucket, event) =
            sums.pending.remove(&ticket.0).expect("a ticket of this communicator");
        self.gpu.enter()?;
        self.gpu.wait(LIBTORCH, event)?;
        sums.idle.push(event);
        Ok(())
    }

    fn all_reduce(&self, values: &mut [f64], op: Op) -> Result<()> {
        self.control.all_reduce(values, op)
    }

    /// Without a call to NCCL, which could hang.
    fn abort(&self, code: i32) -> ! {
        self.control.abort(code)
    }

    fn close(&self) {
        if let Err(e) = self.leave() {
            log::warn!("at the end: {e}");
        }
        self.control.close();
    }

    fn health(&self) -> Result<()> {
        let mut state = ncclResult_t::ncclSuccess;
        // SAFETY: sets `state`.
        self.call("ncclCommGetAsyncError", |ranks| unsafe {
            nccl::ncclCommGetAsyncError(ranks, &raw mut state)
        })?;
        if state != ncclResult_t::ncclInProgress {
            check("a pending sum", state)?;
        }
        self.control.health()
    }
}
