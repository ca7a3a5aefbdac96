//! MPI, for control and for sums on the host. MPI makes progress only inside its calls, so one
//! thread makes all of them after the start: it starts the collectives that other threads send it,
//! in their order, and tests those that are pending.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mpi::{
    Threading,
    collective::SystemOperation,
    traits::{Communicator, CommunicatorCollectives},
};
use rustix::thread::CpuSet;
use tch::Tensor;

use super::{Comm, Op, Ticket, device, launch::mismatch};
use crate::base::{Error, Result};

mod pending_collective;
use pending_collective::{Call, PendingCollective};

/// The ranks of MPI_COMM_WORLD.
pub struct Mpi {
    rank: usize,
    size: usize,
    calls: Mutex<Calls>,
    done: Arc<Done>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Calls {
    next: u64,
    /// To the communication thread; `None` once closed.
    to: Option<Sender<(u64, Call)>>,
}

/// Where the communication thread puts what is complete.
#[derive(Default)]
struct Done {
    calls: Mutex<HashMap<u64, Call>>,
    changed: Condvar,
    /// Threads that wait for something.
    waiting: AtomicUsize,
}

/// Initialises MPI; `tasks` is the number of ranks according to the launcher. Also returns the
/// number of this rank on its machine, and the number of cores that it may use.
///
/// # Errors
/// Usage, if the launcher and the MPI library do not fit each other, or the library cannot be used
/// by several threads.
pub fn start(tasks: usize) -> Result<(Box<dyn Comm>, usize, usize)> {
    let (universe, threading) = mpi::initialize_with_threading(Threading::Multiple)
        .ok_or_else(|| Error::failed("MPI is initialised already"))?;
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    // Dropping it would finalize MPI, also while a panic unwinds, and hang there.
    std::mem::forget(universe);
    if size != tasks {
        return Err(Error::usage(mismatch(
            tasks,
            &format!("MPI counts {size}; the launcher is of another MPI library"),
        )));
    }
    if threading != Threading::Multiple {
        return Err(Error::usage(format!(
            "this MPI library offers threads only as {threading:?}; atlas needs MPI_THREAD_MULTIPLE"
        )));
    }
    let (local_rank, cores) = place_on_machine(&world);

    let (to, from) = channel();
    let done = Arc::new(Done::default());
    let in_thread = done.clone();
    let thread = thread::Builder::new()
        .name("mpi".into())
        .spawn(move || communicate(&from, &in_thread, size))
        .map_err(|e| Error::failed(format!("cannot start the communication thread: {e}")))?;
    let comm = Mpi {
        rank,
        size,
        calls: Mutex::new(Calls { next: 0, to: Some(to) }),
        done,
        thread: Mutex::new(Some(thread)),
    };
    Ok((Box::new(comm), local_rank, cores))
}

/// The number of this rank among those of its machine, and the cores that it may use.
fn place_on_machine(world: &impl Communicator) -> (usize, usize) {
    let local = world.split_shared(world.rank());
    let mut mine = vec![0; CpuSet::MAX_CPU];
    device::affinity().into_iter().for_each(|cpu| mine[cpu] = 1);
    let mut ranks_on = vec![0u32; mine.len()];
    local.all_reduce_into(&mine[..], &mut ranks_on[..], SystemOperation::sum());
    let available = thread::available_parallelism().map_or(1, usize::from);
    let cores = cores(&mine, &ranks_on, available, local.size() as usize);
    (local.rank() as usize, cores)
}

/// Name and version of the MPI library, which need not have been started.
pub fn library() -> String {
    let text = mpi::environment::library_version().unwrap_or_default();
    // Open MPI adds where it was built, MPICH how.
    text.lines()
        .next()
        .and_then(|line| line.split(", ").next())
        .unwrap_or("unknown MPI library")
        .replace('\t', " ")
        .trim()
        .into()
}

/// The cores of this rank: those that it may run on, shared evenly with the ranks that may run
/// there too. `mine` is 1 for each core that this rank may run on, `ranks_on` the number of ranks
/// that may run on each core. `available` includes a container's quota, which all `ranks` of the
/// machine share.
fn cores(mine: &[u32], ranks_on: &[u32], available: usize, ranks: usize) -> usize {
    let share: f64 =
        mine.iter().zip(ranks_on).filter(|(m, _)| **m > 0).map(|(_, &n)| 1.0 / f64::from(n)).sum();
    let allowed = mine.iter().sum::<u32>() as usize;
    let quota = if available < allowed { available as f64 / ranks as f64 } else { f64::INFINITY };
    (share.min(quota) + 1e-9).floor().max(1.0) as usize
}

/// How long the communication thread sleeps between two tests of what is pending.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(10);

/// How long it tests without a pause where a thread waits for a result.
const BUSY: Duration = Duration::from_millis(2);

/// The communication thread: until all senders are gone and nothing is pending.
fn communicate(calls: &Receiver<(u64, Call)>, done: &Done, size: usize) {
    // Ranks have to start the calls of one communicator in the same order, but a second half starts
    // when its first half happens to be complete: second halves have a communicator of their own,
    // and keep their order among themselves.
    let second_halves = pending_collective::duplicate_world();
    let mut pending: Vec<(u64, PendingCollective)> = Vec::new();
    let (mut idle_since, mut pause) = (Instant::now(), SHORTEST);
    loop {
        if pending.is_empty() {
            let Ok((id, call)) = calls.recv() else { return };
            pending.push((id, PendingCollective::begin(call, size)));
            idle_since = Instant::now();
        }
        while let Ok((id, call)) = calls.try_recv() {
            pending.push((id, PendingCollective::begin(call, size)));
        }
        let some_ended = test_all(&mut pending, done, second_halves);
        let waited_for = done.waiting.load(Relaxed) > 0;
        if some_ended {
            (idle_since, pause) = (Instant::now(), SHORTEST);
        } else if waited_for && idle_since.elapsed() < BUSY {
            thread::yield_now(); // the other ranks are nearly there
        } else {
            // Leave the cores to the network; a new call ends the pause.
            if let Ok((id, call)) = calls.recv_timeout(pause) {
                pending.push((id, PendingCollective::begin(call, size)));
                pause = SHORTEST;
            } else {
                pause = if waited_for { SHORTEST } else { (2 * pause).min(LONGEST) };
            }
        }
    }
}

/// Lets MPI work on each pending call, in order; whether any is complete, which moves to `done`.
fn test_all(
    pending: &mut Vec<(u64, PendingCollective)>,
    done: &Done,
    second_halves: mpi::ffi::MPI_Comm,
) -> bool {
    let before = pending.len();
    let (mut at, mut in_turn) = (0, true);
    while at < pending.len() {
        let complete = pending[at].1.test(in_turn.then_some(second_halves));
        in_turn &= !pending[at].1.in_first_half();
        if complete {
            let (id, call) = pending.remove(at);
            done.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(id, call.end());
            done.changed.notify_all();
        } else {
            at += 1;
        }
    }
    pending.len() < before
}

impl Mpi {
    fn send(&self, call: Call) -> Result<u64> {
        // The lock makes the order of the numbers that of the calls.
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.next += 1;
        let sent = calls.to.as_ref().is_some_and(|to| to.send((calls.next, call)).is_ok());
        if sent { Ok(calls.next) } else { Err(Error::failed("the communication thread has ended")) }
    }

    fn wait(&self, id: u64) -> Call {
        self.done.waiting.fetch_add(1, Relaxed);
        let mut done = self.done.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let call = loop {
            match done.remove(&id) {
                Some(call) => break call,
                None => done = self.done.changed.wait(done).unwrap_or_else(PoisonError::into_inner),
            }
        };
        self.done.waiting.fetch_sub(1, Relaxed);
        call
    }
}

impl Comm for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        let id = self.send(Call::Broadcast(bytes.to_vec()))?;
        if let Call::Broadcast(theirs) = self.wait(id) {
            bytes.copy_from_slice(&theirs);
        }
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        let id = self.send(Call::Barrier)?;
        self.wait(id);
        Ok(())
    }

    fn begin(&self, bucket: &Tensor) -> Result<Ticket> {
        self.send(Call::Sum(bucket.shallow_clone())).map(Ticket)
    }

    fn finish(&self, ticket: Ticket) -> Result<()> {
        self.wait(ticket.0);
        Ok(())
    }

    fn all_reduce(&self, values: &mut [f64], op: Op) -> Result<()> {
        let id = self.send(Call::Numbers(values.to_vec(), op))?;
        if let Call::Numbers(theirs, _) = self.wait(id) {
            values.copy_from_slice(&theirs);
        }
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        // Recent messages have to pass through the launcher before it ends the job.
        thread::sleep(Duration::from_millis(200));
        // The process ends even if the launcher does not answer.
        let last_resort = move || {
            thread::sleep(Duration::from_secs(5));
            // SAFETY: ends the process without running anything more.
            unsafe { libc::_exit(code) }
        };
        let _ = thread::Builder::new().spawn(last_resort); // there may be no more threads
        // SAFETY: may be called by any thread at any time between MPI_Init and MPI_Finalize.
        unsafe { mpi::ffi::MPI_Abort(mpi::ffi::RSMPI_COMM_WORLD, code) };
        std::process::exit(code)
    }

    fn close(&self) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).to = None;
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
        // SAFETY: the thread that initialised MPI calls this once; nothing is pending.
        unsafe { mpi::ffi::MPI_Finalize() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_the_cores_of_their_machine() {
        // Four cores: not bound; bound to one each; two ranks bound to the same two.
        assert_eq!(cores(&[1, 1, 1, 1], &[2, 2, 2, 2], 4, 2), 2);
        assert_eq!(cores(&[1, 0, 0, 0], &[1, 1, 1, 1], 1, 4), 1);
        assert_eq!(cores(&[1, 1, 0, 0], &[2, 2, 2, 2], 2, 4), 1);
        // More ranks than cores; a quota of two cores for two ranks on a machine of eight.
        assert_eq!(cores(&[1, 1], &[4, 4], 2, 4), 1);
        assert_eq!(cores(&[1; 8], &[2; 8], 2, 2), 1);
    }
}
