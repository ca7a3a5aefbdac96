//! What ranks say to each other: one small trait, and three ways to do it. [`Alone`] is one process
//! without a launcher, and makes no call to MPI; `mpi` sums on the host; `nccl` sums on the GPUs
//! and leaves the rest to MPI.
//!
//! One process is one rank for as long as it lives: [`start`] makes the one [`World`] of the
//! process.

use tch::{Device, Tensor};

use super::{
    Alone, device, launch, mpi, nccl,
    watchdog::{self, Limit},
};
use crate::{
    base::{Error, Result},
    config::{self, Backend},
};

/// How values of several ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Their sum.
    Sum,
    /// The largest of them.
    Max,
}

/// A sum that has been begun.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a sum that was begun has to be finished"]
pub struct Ticket(pub u64);

/// What a training needs of the other ranks. Every call but `abort` is collective: all ranks make
/// the same calls in the same order.
pub trait Comm: Send + Sync {
    /// From 0.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// Rank 0's `bytes` go to all ranks, each of which passes as many.
    fn broadcast(&self, bytes: &mut [u8]) -> Result<()>;
    /// Waits until all ranks are here.
    fn barrier(&self) -> Result<()>;
    /// Begins to sum `bucket` (one dimension, contiguous; f32, f64 or bf16) over the ranks, in
    /// place. Nobody may touch it until [`finish`](Self::finish). Of bf16, MPI rounds the sum once,
    /// NCCL wherever it passes on a part of it.
    fn begin(&self, bucket: &Tensor) -> Result<Ticket>;
    /// What is computed from the bucket after this call sees the sum.
    fn finish(&self, ticket: Ticket) -> Result<()>;
    /// A few numbers at once.
    fn all_reduce(&self, values: &mut [f64], op: Op) -> Result<()>;
    /// Ends all ranks at once, from any thread.
    fn abort(&self, code: i32) -> !;
    /// After the last call: leaves in order.
    fn close(&self);
    /// Whether the communication itself is still whole; any thread may ask.
    fn health(&self) -> Result<()> {
        Ok(())
    }
}

/// The ranks of this job as one of them sees them.
pub struct World {
    pub(super) comm: Box<dyn Comm>,
    /// Number of this rank on its machine.
    pub local_rank: usize,
    /// Cores that this rank may use.
    pub cores: usize,
    /// Where its network lives.
    pub device: Device,
}

impl std::ops::Deref for World {
    type Target = dyn Comm;

    fn deref(&self) -> &Self::Target {
        &*self.comm
    }
}

impl World {
    /// A process without others.
    pub fn alone() -> Self {
        Self::of(Box::new(Alone))
    }

    /// Ranks of one machine, on its CPU, that speak through `comm`.
    pub fn of(comm: Box<dyn Comm>) -> Self {
        Self {
            local_rank: comm.rank(),
            comm,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            device: Device::Cpu,
        }
    }

    /// The sum of `values` (as a bucket of [`Comm::begin`]) over the ranks, in place. A failure
    /// ends the job.
    pub fn sum(&self, values: &Tensor) {
        let done = self.begin(values).and_then(|ticket| self.finish(ticket));
        done.unwrap_or_else(|e| self.fail(&e));
    }

    /// Says what is wrong with this rank and ends all of them.
    pub fn fail(&self, error: &Error) -> ! {
        watchdog::say(
            &watchdog::place()
                .map_or_else(|| error.to_string(), |place| format!("{place}: {error}")),
        );
        self.abort(error.exit_code().into())
    }

    /// What all ranks do alike: if it failed on one, it failed on all. Only the first that failed
    /// says so; the others return [`Error::Elsewhere`].
    pub fn agree<T>(&self, result: Result<T>) -> Result<T> {
        let failed = result.is_err();
        // The lowest rank wins; its code goes along.
        let code = result.as_ref().err().map_or(0.0, |e| f64::from(e.exit_code()));
        let mut first =
            [if failed { (self.size() - self.rank()) as f64 * 256.0 + code } else { 0.0 }];
        self.all_reduce(&mut first, Op::Max)?;
        let first = first[0] as usize;
        match result {
            Err(e) if self.size() - first / 256 == self.rank() => Err(e),
            _ if first > 0 => Err(Error::Elsewhere((first % 256) as u8)),
            result => result,
        }
    }

    /// Whether any rank says so.
    pub fn any(&self, here: bool) -> Result<bool> {
        let mut anywhere = [f64::from(u8::from(here))];
        self.all_reduce(&mut anywhere, Op::Max)?;
        Ok(anywhere[0] > 0.0)
    }

    /// What must be the same on all ranks; where it is not, the first one says `otherwise`.
    pub fn same(&self, value: u64, otherwise: impl FnOnce() -> Error) -> Result<()> {
        let (high, low) = ((value >> 32) as f64, (value & 0xffff_ffff) as f64);
        let mut most = [high, low, -high, -low];
        self.all_reduce(&mut most, Op::Max)?;
        let is_same = most[0] == -most[2] && most[1] == -most[3];
        self.agree(if is_same { Ok(()) } else { Err(otherwise()) })
    }

    /// A text of rank 0.
    pub fn broadcast_text(&self, text: &str) -> Result<String> {
        let mut length = (text.len() as u64).to_le_bytes();
        self.broadcast(&mut length)?;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(u64::from_le_bytes(length) as usize, 0);
        self.broadcast(&mut bytes)?;
        String::from_utf8(bytes).map_err(Error::failed)
    }

    /// The texts of all ranks, on all of them.
    pub fn gather_text(&self, text: &str) -> Result<Vec<String>> {
        let mut longest = [text.len() as f64];
        self.all_reduce(&mut longest, Op::Max)?;
        // Each rank's place is 0 on the others; a number that is no byte of the text marks its end.
        let place = longest[0] as usize + 1;
        let mut bytes = vec![0.0; place * self.size()];
        let mine = bytes[place * self.rank()..].iter_mut();
        mine.zip(text.bytes().map(f64::from).chain([-1.0])).for_each(|(to, byte)| *to = byte);
        self.all_reduce(&mut bytes, Op::Sum)?;
        let text = |place: &[f64]| {
            String::from_utf8(place.iter().take_while(|b| **b >= 0.0).map(|b| *b as u8).collect())
        };
        bytes.chunks_exact(place).map(text).collect::<Result<_, _>>().map_err(Error::failed)
    }
}

static WORLD: std::sync::OnceLock<&'static World> = std::sync::OnceLock::new();

/// Number of tasks that a launcher started, by its environment; 1 without a launcher.
///
/// # Errors
/// Usage, where they cannot find each other.
pub fn launched() -> Result<usize> {
    launch::tasks(variable)
}

/// The number of this task, as its environment says, also where the tasks cannot find each other.
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

/// The ranks that a launcher started this process among, or this process alone; and where its
/// network shall live. Once per process (a second call gives the same), on the main thread, before
/// any other call to libtorch.
///
/// # Errors
/// Usage, if there is a launcher and the tasks do not find each other, or `comm.backend` asks for
/// what is not there.
pub fn start(keys: &config::Comm) -> Result<&'static World> {
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
    watchdog::start(launch::rank(variable), tasks, keys);
    let world = match tasks {
        1 => World::alone(),
        _ => watchdog::during("start of MPI", Limit::Start, || mpi::start(tasks))?,
    };
    watchdog::known(&world);
    let device = world.agree(device::choose(keys.backend, world.local_rank))?;
    world.same(u64::from(device.is_cuda()), || {
        Error::usage(
            "some ranks have a GPU and others have none (they may have said why above); \
            comm.backend = \"mpi\" trains on the CPUs",
        )
    })?;
    // As many threads everywhere: they are part of what makes results equal.
    let mut fewest = [-(world.cores as f64)];
    world.all_reduce(&mut fewest, Op::Max)?;
    let world = World { cores: -fewest[0] as usize, ..world };
    let world = watchdog::during("start of NCCL", Limit::Start, || {
        with_device(world, keys.backend, device)
    })?;
    let world = &*Box::leak(Box::new(world));
    watchdog::joined(world);
    let _ = WORLD.set(world);
    Ok(world)
}

fn with_device(world: World, backend: Backend, device: Device) -> Result<World> {
    let World { comm, local_rank, cores, .. } = world;
    let comm = match device {
        Device::Cuda(i) if backend == Backend::Nccl || comm.size() > 1 => nccl::over(comm, i)?,
        _ => comm,
    };
    Ok(World { comm, local_rank, cores, device })
}

/// Ends this process, and the other ranks if there are any. For a panic or an error that the others
/// do not know of.
pub fn abort(code: i32) -> ! {
    match WORLD.get() {
        Some(world) => world.abort(code),
        None => std::process::exit(code),
    }
}
