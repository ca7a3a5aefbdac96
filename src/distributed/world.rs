//! The ranks of a job as one of them sees them, and how this process joins them.
//!
//! One process is one rank for as long as it lives: [`start`] makes the one [`World`] of the
//! process.

use std::{ops::Deref, sync::OnceLock};

use tch::{Device, Tensor};

use super::{
    Comm, Op,
    alone::Alone,
    device, launch, mpi, nccl,
    watchdog::{self, Limit, Watchdog},
};
use crate::{
    base::{Error, Result},
    config::{self, Backend},
};

/// The ranks of this job as one of them sees them; its communicator by `Deref`.
pub struct World {
    comm: Box<dyn Comm>,
    watchdog: Watchdog,
    /// Number of this rank on its machine.
    pub local_rank: usize,
    /// Cores that this rank may use.
    pub cores: usize,
    /// The device that holds this rank's network.
    pub device: Device,
}

impl Deref for World {
    type Target = dyn Comm;

    fn deref(&self) -> &Self::Target {
        &*self.comm
    }
}

impl World {
    /// A process without others.
    pub fn alone() -> Self {
        Self::new(Box::new(Alone), Watchdog::default())
    }

    /// Ranks of one machine, on its CPU, that communicate through `comm`.
    pub fn new(comm: Box<dyn Comm>, watchdog: Watchdog) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { local_rank: comm.rank(), comm, watchdog, cores, device: Device::Cpu }
    }

    /// Keeps it for the life of the process, and lets its watchdog check the communication.
    pub fn watched(self) -> &'static Self {
        let world = &*Box::leak(Box::new(self));
        world.watchdog.set_ranks(&*world.comm);
        world
    }

    /// Knows what this rank is doing and ends the job when it waits too long.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The sum of `values` (as a bucket of [`Comm::begin`]) over the ranks, in place. A failure
    /// ends the job.
    pub fn sum(&self, values: &Tensor) {
        let done = self.begin(values).and_then(|ticket| self.finish(ticket));
        done.unwrap_or_else(|e| self.fail(&e));
    }

    /// Reports the error of this rank and ends all of them.
    pub fn fail(&self, error: &Error) -> ! {
        let place = self.watchdog.place().map_or(String::new(), |place| format!("{place}: "));
        watchdog::write_message(&format!("{place}{error}"));
        self.abort(error.exit_code().into())
    }

    /// The last thing that the ranks do together: leaves them in order.
    pub fn leave(&self) {
        self.watchdog.closing();
        self.close();
    }
}

/// Number of tasks that a launcher started, by its environment; 1 without a launcher.
///
/// # Errors
/// Usage, where they cannot find each other.
pub fn launched() -> Result<usize> {
    launch::tasks(variable)
}

/// The number of this task by its environment, also where the tasks cannot find each other.
pub fn launched_rank() -> usize {
    launch::rank(variable)
}

/// Name and version of the MPI library.
pub fn library() -> String {
    mpi::library()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Joins the ranks that a launcher started, or makes this process the only one; and chooses the
/// device of its network. Once per process (a second call gives the same), on the main thread,
/// before any other call to libtorch.
///
/// # Errors
/// Usage, if there is a launcher and the tasks do not find each other, or what `comm.backend` needs
/// is missing.
pub fn start(keys: &config::Comm) -> Result<&'static World> {
    static WORLD: OnceLock<&'static World> = OnceLock::new();
    if let Some(world) = WORLD.get() {
        return Ok(world);
    }
    let tasks = launched()?;
    if tasks > 1 && keys.backend == Backend::None {
        return Err(Error::usage(format!(
            "comm.backend = \"none\", but a launcher started {tasks} tasks; unset the key or start \
                one task"
        )));
    }
    let watchdog = Watchdog::start(launch::rank(variable), tasks, keys)?;
    let world = match tasks {
        1 => World::new(Box::new(Alone), watchdog.clone()),
        _ => {
            let start = || mpi::start(tasks);
            let (comm, local_rank, cores) = watchdog.during("start of MPI", Limit::Start, start)?;
            World { local_rank, cores, ..World::new(comm, watchdog.clone()) }
        }
    };
    watchdog.set_rank(world.rank(), world.size());
    let device = world.agree(device::choose(keys.backend, world.local_rank))?;
    world.same(u64::from(device.is_cuda()), || {
        Error::usage(
            "some ranks have a GPU and others have none (see their messages above, if any); \
            comm.backend = \"mpi\" trains on the CPUs",
        )
    })?;
    // As many threads everywhere: equal results depend on them.
    let mut fewest = [-(world.cores as f64)];
    world.all_reduce(&mut fewest, Op::Max)?;
    let world = World { cores: -fewest[0] as usize, ..world };
    let world = watchdog
        .during("start of NCCL", Limit::Start, || with_device(world, keys.backend, device))?;
    Ok(*WORLD.get_or_init(|| world.watched()))
}

fn with_device(world: World, backend: Backend, device: Device) -> Result<World> {
    let World { comm, watchdog, local_rank, cores, .. } = world;
    let comm = match device {
        Device::Cuda(i) if backend == Backend::Nccl || comm.size() > 1 => nccl::over(comm, i)?,
        _ => comm,
    };
    Ok(World { comm, watchdog, local_rank, cores, device })
}
