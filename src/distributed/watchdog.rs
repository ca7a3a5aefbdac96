//! A thread that ends the job when this rank waits too long for the others, and where this rank is
//! in the training, for every message about it.
//!
//! A rank that is dead or stopped cannot report it, so the others do: each knows in which operation
//! it waits. `comm.timeout_seconds` and `comm.start_timeout_seconds` are the limits.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{Comm, Heartbeat};
use crate::{
    base::{Error, Result, advice, host, progress::duration, stop_request::Stop},
    config,
};

/// How long an operation may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// No limit: it does not wait for another rank.
    #[default]
    None,
    /// `comm.start_timeout_seconds`.
    Start,
    /// `comm.timeout_seconds`; before the end of the first step, `comm.start_timeout_seconds`.
    Usual,
}

/// Where in the training a rank is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    /// From 1; 0 before the training.
    pub epoch: usize,
    /// Steps completed in the epoch.
    pub step: usize,
    /// Share of all steps of the training that is done, from 0 to 1.
    pub share: f64,
}

/// How long the ranks have to agree after SIGTERM: Slurm kills 30 s after it.
const AFTER_SIGTERM: Duration = Duration::from_secs(10);

/// How often the watchdog checks.
const TICK: Duration = Duration::from_millis(50);

/// How often the heartbeat is written.
const BEAT: Duration = Duration::from_secs(1);

/// The watchdog of a rank; clones share it. The [default](Self::default) one, of a process without
/// other ranks, has no thread and no limits.
#[derive(Clone, Default)]
pub struct Watchdog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<WatchdogState>,
    /// The heartbeat file during a training. Locked while the file is written or removed, so that
    /// it is not written again after it was removed.
    heartbeat: Mutex<Option<PathBuf>>,
}

struct WatchdogState {
    rank: usize,
    size: usize,
    position: Position,
    /// When this process began with the steps of this training, and the share that was done then.
    first: Option<(Instant, f64)>,
    operation: &'static str,
    /// For how long the operation has lasted, by the watchdog's clock, which stands still while the
    /// process is suspended.
    elapsed: Duration,
    limit: Limit,
    start_timeout: Duration,
    timeout: Duration,
    first_step_done: bool,
    /// Once the ranks have found each other.
    ranks: Option<&'static dyn Comm>,
    stop: Option<&'static Stop>,
}

impl Default for WatchdogState {
    fn default() -> Self {
        Self {
            rank: 0,
            size: 1,
            position: Position::default(),
            first: None,
            operation: "start",
            elapsed: Duration::ZERO,
            limit: Limit::None,
            start_timeout: Duration::MAX,
            timeout: Duration::MAX,
            first_step_done: false,
            ranks: None,
            stop: None,
        }
    }
}

/// The watchdog of this process, for what has no handle: log lines, the panic hook, and [`abort`].
static PROCESS: OnceLock<Watchdog> = OnceLock::new();

/// `[1/2 node7] `, for the lines of a log that several ranks write; `None` for a process alone.
pub fn tag() -> Option<String> {
    let state = PROCESS.get()?.state();
    (state.size > 1).then(|| format!("[{}/{} {}] ", state.rank, state.size, host::name()))
}

/// [`Watchdog::place`] of this process.
pub fn place() -> Option<String> {
    PROCESS.get()?.place()
}

/// Ends this process, and the other ranks if there are any. For a panic or an error that the others
/// do not know of.
pub fn abort(code: i32) -> ! {
    let ranks = PROCESS.get().and_then(|watchdog| watchdog.state().ranks);
    ranks.map_or_else(|| std::process::exit(code), |ranks| ranks.abort(code))
}

impl Watchdog {
    /// Starts the watchdog of this process, a rank among `size`, before the ranks find each other.
    pub(super) fn start(rank: usize, size: usize, keys: &config::Comm) -> Result<Self> {
        let watchdog = Self::default();
        {
            let mut state = watchdog.state();
            (state.rank, state.size, state.limit) = (rank, size, Limit::Start);
            state.start_timeout = Duration::from_secs_f64(keys.start_timeout_seconds);
            state.timeout = Duration::from_secs_f64(keys.timeout_seconds);
        }
        let _ = PROCESS.set(watchdog.clone());
        let in_thread = watchdog.clone();
        thread::Builder::new()
            .name("watch".into())
            .spawn(move || in_thread.watch())
            .map_err(|e| Error::failed(format!("cannot start the watchdog's thread: {e}")))?;
        Ok(watchdog)
    }

    /// From now on messages name this rank.
    pub(super) fn set_rank(&self, rank: usize, size: usize) {
        let mut state = self.state();
        (state.rank, state.size) = (rank, size);
    }

    /// From now on the watchdog also checks the health of the communication, and ends all ranks.
    pub(super) fn set_ranks(&self, ranks: &'static dyn Comm) {
        self.set_rank(ranks.rank(), ranks.size());
        self.state().ranks = Some(ranks);
    }

    /// From now on the ranks have to agree soon after `stop` is set, and rank 0 keeps the file
    /// `heartbeat`; until [`end_training`](Self::end_training).
    pub fn begin_training(&self, stop: &'static Stop, heartbeat: PathBuf) {
        let is_first = {
            let mut state = self.state();
            (state.stop, state.operation, state.limit) = (Some(stop), "training", Limit::None);
            // `atlas run` trains several folds in one process.
            (state.position, state.first) = (Position::default(), None);
            state.rank == 0
        };
        *self.heartbeat_file() = Some(heartbeat);
        if is_first {
            // A thread of its own: a file system that hangs must not stop the watchdog.
            let watchdog = self.clone();
            let beat = move || {
                while watchdog.beat() {
                    thread::sleep(BEAT);
                }
            };
            let _ = thread::Builder::new().name("heartbeat".into()).spawn(beat);
        }
    }

    /// The training is over, and its ranks no longer depend on each other.
    pub fn end_training(&self) {
        let rank = {
            let mut state = self.state();
            state.stop = None;
            state.rank
        };
        let mut heartbeat = self.heartbeat_file();
        if let (Some(path), 0) = (heartbeat.take(), rank) {
            Heartbeat::remove(&path);
        }
    }

    /// The ranks are about to close their communication together.
    pub(super) fn closing(&self) {
        let mut state = self.state();
        (state.operation, state.limit) = ("end of the job", Limit::Usual);
        state.elapsed = Duration::ZERO;
    }

    /// The ranks have agreed to stop, in time.
    pub fn stop_agreed(&self) {
        self.state().stop = None;
    }

    /// Where in the training this rank is now.
    pub fn set_position(&self, position: Position) {
        let mut state = self.state();
        state.position = position;
        state.first.get_or_insert_with(|| (Instant::now(), position.share));
    }

    /// From now on [`Limit::Usual`] is `comm.timeout_seconds`.
    pub fn first_step_done(&self) {
        self.state().first_step_done = true;
    }

    /// Does `work` under the name `operation`. After an error the name stays, so that the message
    /// about the error gives it.
    pub fn during<T, E>(
        &self,
        operation: &'static str,
        limit: Limit,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let set = |operation, limit| {
            let mut state = self.state();
            state.elapsed = Duration::ZERO;
            let operation = std::mem::replace(&mut state.operation, operation);
            (operation, std::mem::replace(&mut state.limit, limit))
        };
        let (before, limit_before) = set(operation, limit);
        let result = work();
        set(if result.is_ok() { before } else { operation }, limit_before);
        result
    }

    /// `rank 1 of 2 on node7, epoch 2, step 13, sum of the gradients`; `None` for a process alone.
    pub fn place(&self) -> Option<String> {
        let state = self.state();
        (state.size > 1).then(|| state.place())
    }

    fn state(&self) -> MutexGuard<'_, WatchdogState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heartbeat_file(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.heartbeat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the heartbeat; whether the training still runs.
    fn beat(&self) -> bool {
        let file = self.heartbeat_file();
        let Some(path) = &*file else { return false };
        let heartbeat = self.state().heartbeat();
        heartbeat.write(path);
        true
    }

    /// What rank 0 wrote last, for another rank's message; empty where the file system does not
    /// answer.
    fn last_heartbeat(&self) -> String {
        if self.state().rank == 0 {
            return String::new(); // it may hold the lock while its file system hangs
        }
        let Some(path) = self.heartbeat_file().clone() else { return String::new() };
        let (to, from) = mpsc::channel();
        let read = move || to.send(Heartbeat::read(&path));
        thread::Builder::new().spawn(read).ok();
        let heartbeat = from.recv_timeout(Duration::from_secs(2)).ok().flatten();
        heartbeat.map_or(String::new(), |h| format!("; the last heartbeat: {h}"))
    }

    /// The thread: checks for as long as the process lives.
    fn watch(&self) {
        let (mut stopping, mut last) = (None, Instant::now());
        loop {
            thread::sleep(TICK);
            // A process that was suspended sees a large step of the clock; the other ranks were
            // suspended for as long.
            let tick = last.elapsed().min(20 * TICK);
            last = Instant::now();
            let (alert, ranks) = {
                let mut state = self.state();
                state.elapsed += tick;
                (state.check(&mut stopping, tick), state.ranks)
            };
            let health = || {
                let error = ranks?.health().err()?;
                Some(Alert::End(format!("{}: {error}", self.state().place())))
            };
            match alert.or_else(health) {
                None => {}
                Some(Alert::Warn(text)) => log::warn!("{text}"), // not under the lock: it tags
                Some(Alert::End(text)) => self.end(&text, ranks),
            }
        }
    }

    fn end(&self, text: &str, ranks: Option<&dyn Comm>) -> ! {
        write_message(&format!("{text}{}", self.last_heartbeat()));
        match ranks {
            Some(ranks) => ranks.abort(1),
            // SAFETY: ends the process without running anything more; MPI_Init hangs and cannot be
            // left otherwise.
            None => unsafe { libc::_exit(1) },
        }
    }
}

/// A message of this program, in one write: mpirun may mix what arrives in parts.
pub(super) fn write_message(text: &str) {
    let _ = std::io::stderr().write_all(format!("atlas: {}\n", advice::complete(text)).as_bytes());
}

/// What a check of the watchdog leads to.
enum Alert {
    Warn(String),
    End(String),
}

/// A request to stop that the ranks have not agreed on yet.
struct Stopping {
    waited: Duration,
    urgent: bool,
}

impl WatchdogState {
    fn place(&self) -> String {
        let at = match self.position {
            Position { epoch: 0, .. } => String::new(),
            Position { epoch, step, .. } => format!("epoch {epoch}, step {step}, "),
        };
        format!("rank {} of {} on {}, {at}{}", self.rank, self.size, host::name(), self.operation)
    }

    /// How long the current operation may take, and the key that sets it.
    fn allowed(&self) -> Option<(Duration, &'static str)> {
        match self.limit {
            Limit::None => None,
            Limit::Usual if self.first_step_done => Some((self.timeout, "comm.timeout_seconds")),
            _ => Some((self.start_timeout, "comm.start_timeout_seconds")),
        }
    }

    /// Whether the job has to end, and why.
    fn check(&self, stopping: &mut Option<Stopping>, tick: Duration) -> Option<Alert> {
        if self.size == 1 {
            return None; // there is no other rank to wait for
        }
        if let Some((_, key)) = self.allowed().filter(|(limit, _)| self.elapsed > *limit) {
            return Some(Alert::End(format!(
                "{}: no end after {} ({key}); another rank is dead, stopped or slow. The job ends \
                    here; run it again to go on",
                self.place(),
                duration(self.elapsed.as_secs_f64())
            )));
        }
        let urgent = self.stop.filter(|stop| stop.asked())?.urgent();
        let limit = if urgent { self.timeout.min(AFTER_SIGTERM) } else { self.timeout };
        let seconds = duration(limit.as_secs_f64());
        match stopping {
            Some(request) if request.urgent == urgent => {
                request.waited += tick;
                (request.waited > limit).then(|| {
                    Alert::End(format!(
                        "{}: asked to stop, and the other ranks did not agree within {seconds}; \
                            the job ends here, run it again to go on",
                        self.place()
                    ))
                })
            }
            // For the first time, or now urgently.
            _ => {
                *stopping = Some(Stopping { waited: Duration::ZERO, urgent });
                Some(Alert::Warn(format!(
                    "{}: asked to stop; the ranks have {seconds} to agree",
                    self.place()
                )))
            }
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let Position { epoch, step, share } = self.position;
        let remaining = self.first.map(|(since, before)| {
            since.elapsed().as_secs_f64() / (share - before) * (1.0 - share)
        });
        Heartbeat {
            epoch,
            step,
            operation: self.operation.into(),
            ranks: self.size,
            host: host::name(),
            pid: std::process::id(),
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            remaining: remaining.filter(|seconds| seconds.is_finite()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_training_in_one_process_estimates_its_own_time() {
        static STOP: Stop = Stop::new();
        let dir = tempfile::tempdir().unwrap();
        let watchdog = Watchdog::default();
        watchdog.set_position(Position { epoch: 9, step: 1, share: 0.9 });
        watchdog.begin_training(&STOP, dir.path().join("heartbeat.json"));
        for (step, share) in [(0, 0.0), (5, 0.5)] {
            watchdog.set_position(Position { epoch: 1, step, share });
        }
        let remaining = watchdog.state().heartbeat().remaining;
        watchdog.end_training();
        assert!(remaining.is_some_and(|seconds| seconds >= 0.0), "{remaining:?}");
    }
}
