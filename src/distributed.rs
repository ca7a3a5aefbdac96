//! Several processes that train one network together. In: the environment that a launcher (`srun`,
//! `mpirun`) sets, and the `comm` section of the configuration. Out: a [`World`], through which the
//! ranks exchange values, and the device that each rank computes on.
//!
//! Read `communicator` first: what ranks can do together; then `world`: how a process joins them;
//! then `gradient_sync`: where gradients meet those of the other ranks, while the backward pass
//! still runs. `watchdog` ends a job in which a rank hangs, after the time limits of the `comm`
//! section; `heartbeat` is the file that it keeps. `batch_share` splits a batch over the ranks,
//! `device` chooses a GPU or the CPU. `mpi`, `nccl` and `alone` implement [`Comm`]; `launch` reads
//! what launchers set.

mod alone;
pub mod batch_share;
mod communicator;
pub mod device;
pub mod gradient_sync;
mod heartbeat;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
#[doc(hidden)] // public for its test
pub mod nccl;
pub mod watchdog;
#[cfg(not(feature = "mpi"))]
mod without_mpi;
mod world;

pub use self::{
    communicator::{Comm, Op, Ticket},
    heartbeat::Heartbeat,
    watchdog::abort,
    world::{World, launched, launched_rank, library, start},
};
#[cfg(not(feature = "mpi"))]
use self::{without_mpi as mpi, without_mpi as nccl};
