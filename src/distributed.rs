//! TODO

mod alone;
pub mod batch_share;
mod communicator;
pub mod device;
pub mod gradient_sync;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
#[doc(hidden)] // public for its test
pub mod nccl;
pub mod watchdog;
#[cfg(not(feature = "mpi"))]
mod without_mpi;

pub use self::{
    alone::Alone,
    communicator::{Comm, Op, Ticket, World, abort, launched, launched_rank, library, start},
};
#[cfg(not(feature = "mpi"))]
use self::{without_mpi as mpi, without_mpi as nccl};
