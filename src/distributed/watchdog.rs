//! Where this rank is, for every message about it; and a watchdog that ends the job when a rank
//! waits too long.
//!
//! A rank that is dead or stopped cannot speak, so the others do: each knows which operation it
//! waits in. Rank 0 also keeps a heartbeat file, which the next start and the survivors quote.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::World;
use crate::{
    base::{Result, host, progress::duration, stop::Stop},
    config,
};

/// How long an operation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As long as it likes: it waits for no other rank.
    None,
    /// `comm.start_timeout_seconds`.
    Start,
    /// `comm.timeout_seconds`; before the first step is done, `comm.start_timeout_seconds`.
    Usual,
}

/// Seconds that remain after SIGTERM: Slurm kills 30 s after it.
const AFTER_SIGTERM: Duration = Duration::from_secs(10);

/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(50);

/// How often the heartbeat is written.
const BEAT: Duration = Duration::from_secs(1);

struct State {
    rank: usize,
    size: usize,
    epoch: usize,
    step: usize,
    /// Steps since the start of the training.
    total: u64,
    /// Share of the training that is done.
    share: f64,
    /// When this process began with steps, and the share that was done then.
    first: Option<(Instant, f64)>,
    operation: &'static str,
    /// How long the operation lasts, by the watchdog's clock: a process that is suspended does not
    /// age.
    lasts: Duration,
    limit: Limit,
    start: Duration,
    usual: Duration,
    /// The first step is done.
    warm: bool,
    world: Option<&'static World>,
    stop: Option<&'static Stop>,
    heartbeat: Option<PathBuf>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// What rank 0 writes about a training under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// From 1.
    pub epoch: usize,
    /// Steps completed in the epoch.
    pub step: usize,
    /// What rank 0 was doing.
    pub operation: String,
    /// How many there were.
    pub ranks: usize,
    /// Rank 0's machine.
    pub host: String,
    /// Rank 0's process there.
    pub pid: u32,
    /// Of writing, UTC.
    pub time: String,
    /// Seconds until the end of the training at the pace of this process.
    #[serde(default)]
    pub left: Option<f64>,
}

impl Heartbeat {
    /// The one that a training left; `None` after an orderly end.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

impl std::fmt::Display for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { epoch, step, operation, ranks, host, pid, time, .. } = self;
        write!(
            f,
            "epoch {epoch}, step {step}, {operation}, {ranks} ranks, rank 0 was process {pid} on \
                {host}, at {time}"
        )
    }
}

fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    let mut state: MutexGuard<'_, Option<State>> =
        STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(state.get_or_insert_with(|| State {
        rank: 0,
        size: 1,
        epoch: 0,
        step: 0,
        total: 0,
        share: 0.0,
        first: None,
        operation: "start",
        lasts: Duration::ZERO,
        limit: Limit::None,
        start: Duration::MAX,
        usual: Duration::MAX,
        warm: false,
        world: None,
        stop: None,
        heartbeat: None,
    }))
}

/// Before the other ranks are known: starts the watchdog of a rank among `size`.
pub(super) fn start(rank: usize, size: usize, keys: &config::Comm) {
    with(|s| {
        (s.rank, s.size, s.limit) = (rank, size, Limit::Start);
        s.start = Duration::from_secs_f64(keys.start_timeout_seconds);
        s.usual = Duration::from_secs_f64(keys.timeout_seconds);
    });
    thread::Builder::new()
        .name("watch".into())
        .spawn(watch)
        .expect("a thread more than the machine allows is a bug");
}

/// From now on messages name this rank.
pub(super) fn known(world: &World) {
    with(|s| (s.rank, s.size) = (world.rank(), world.size()));
}

/// From now on the watchdog ends all ranks.
pub fn joined(world: &'static World) {
    known(world);
    with(|s| s.world = Some(world));
}

/// A message of this program, written at once: mpirun may cut what comes in pieces.
pub(super) fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("atlas: {text}\n").as_bytes());
}

/// A signal sets `stop`; `heartbeat` is the file that rank 0 keeps, until [`left`].
pub fn training(stop: &'static Stop, heartbeat: PathBuf) {
    let leads = with(|s| {
        (s.stop, s.heartbeat, s.operation, s.limit) =
            (Some(stop), Some(heartbeat), "training", Limit::None);
        s.rank == 0
    });
    if leads {
        // A thread of its own: a file system that hangs must not stop the watchdog.
        let beat = || {
            while beat() {
                thread::sleep(BEAT);
            }
        };
        let _ = thread::Builder::new().name("heartbeat".into()).spawn(beat);
    }
}

/// Held while the heartbeat is written or removed, so that it is not written once more after its
/// end.
static FILE: Mutex<()> = Mutex::new(());

/// Writes the heartbeat; whether there is still one to write.
fn beat() -> bool {
    let _held = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((path, heartbeat)) = with(|s| Some((s.heartbeat.clone()?, s.heartbeat()))) else {
        return false;
    };
    // Not synced: it is about the process, not about the machine. A failure here must not end a
    // training.
    let temporary = path.with_extension("tmp");
    let text = serde_json::to_string(&heartbeat).expect("plain data");
    let _ = fs::write(&temporary, text + "\n").and_then(|()| fs::rename(&temporary, path));
    true
}

/// The training is over, and what its ranks do next is their own affair: no heartbeat is left.
pub fn left() {
    let (path, rank) = with(|s| {
        s.stop = None;
        (s.heartbeat.take(), s.rank)
    });
    let _held = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(path), 0) = (path, rank) {
        let _ = fs::remove_file(path.with_extension("tmp"));
        let _ = fs::remove_file(path);
    }
}

/// The last thing that the ranks do together.
pub fn leaving() {
    with(|s| (s.operation, s.limit, s.lasts) = ("end of the job", Limit::Usual, Duration::ZERO));
}

/// The ranks agreed to stop: the deadline of the signal is met.
pub fn agreed() {
    with(|s| s.stop = None);
}

/// Where in the training this rank is: epoch from 1, steps completed in it and since the start,
/// share of all that is done.
pub fn at(epoch: usize, step: usize, total: u64, share: f64) {
    with(|s| {
        (s.epoch, s.step, s.total, s.share) = (epoch, step, total, share);
        s.first.get_or_insert_with(|| (Instant::now(), share));
    });
}

/// The first step is done: from now on all is quick.
pub fn warm() {
    with(|s| s.warm = true);
}

/// Does `work` under the name `operation`, which stays after an error: the message shall name it.
pub fn during<T>(
    operation: &'static str,
    limit: Limit,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let set = |operation, limit| {
        with(|s| {
            s.lasts = Duration::ZERO;
            (std::mem::replace(&mut s.operation, operation), std::mem::replace(&mut s.limit, limit))
        })
    };
    let (before, limit_before) = set(operation, limit);
    let result = work();
    set(if result.is_ok() { before } else { operation }, limit_before);
    result
}

/// `[1/2 node7] `, for the lines of a log that several ranks write; nothing for a process alone.
pub fn tag() -> Option<String> {
    with(|s| (s.size > 1).then(|| format!("[{}/{} {}] ", s.rank, s.size, host::name())))
}

/// `rank 1 of 2 on node7, epoch 2, step 13, sum of the gradients`; nothing for a process alone.
pub fn place() -> Option<String> {
    with(|s| (s.size > 1).then(|| s.place()))
}

impl State {
    fn place(&self) -> String {
        let at = if self.epoch > 0 {
            format!("epoch {}, step {}, ", self.epoch, self.step)
        } else {
            String::new()
        };
        format!("rank {} of {} on {}, {at}{}", self.rank, self.size, host::name(), self.operation)
    }

    /// What the current operation may take, and the key that says so.
    fn allowed(&self) -> Option<(Duration, &'static str)> {
        match self.limit {
            Limit::None => None,
            Limit::Usual if self.warm => Some((self.usual, "comm.timeout_seconds")),
            _ => Some((self.start, "comm.start_timeout_seconds")),
        }
    }

    /// Whether the job has to end, and why. `asked` is for how long the ranks have been asked to
    /// stop, and whether urgently.
    fn judge(&self, asked: &mut Option<(Duration, bool)>, tick: Duration) -> Option<Verdict> {
        if self.size == 1 {
            return None; // it waits for nobody
        }
        if let Some((_, key)) = self.allowed().filter(|(limit, _)| self.lasts > *limit) {
            return Some(Verdict::End(format!(
                "{}: no end after {} ({key}); another rank is dead, stopped or slow. The job ends \
                    here; run it again to go on",
                self.place(),
                duration(self.lasts.as_secs_f64())
            )));
        }
        let stop = self.stop.filter(|stop| stop.asked())?;
        let limit = if stop.urgent() { self.usual.min(AFTER_SIGTERM) } else { self.usual };
        let seconds = duration(limit.as_secs_f64());
        match asked {
            Some((since, urgent)) if *urgent == stop.urgent() => {
                *since += tick;
                (*since > limit).then(|| {
                    Verdict::End(format!(
                        "{}: asked to stop, and the other ranks did not agree within {seconds}; \
                            the job ends here, run it again to go on",
                        self.place()
                    ))
                })
            }
            // For the first time, or now urgently.
            _ => {
                *asked = Some((Duration::ZERO, stop.urgent()));
                Some(Verdict::Warn(format!(
                    "{}: asked to stop; the ranks have {seconds} to agree",
                    self.place()
                )))
            }
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let pace =
            |(since, share): (Instant, f64)| since.elapsed().as_secs_f64() / (self.share - share);
        Heartbeat {
            epoch: self.epoch,
            step: self.step,
            operation: self.operation.into(),
            ranks: self.size,
            host: host::name(),
            pid: std::process::id(),
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            left: self
                .first
                .map(|first| pace(first) * (1.0 - self.share))
                .filter(|s| s.is_finite()),
        }
    }
}

/// What rank 0 last wrote, for another rank's message; nothing where the file system does not
/// answer.
fn quoted() -> String {
    let Some(path) = with(|s| s.heartbeat.clone().filter(|_| s.rank > 0)) else {
        return String::new();
    };
    let (to, from) = mpsc::channel();
    thread::spawn(move || to.send(Heartbeat::read(&path)));
    let heartbeat = from.recv_timeout(Duration::from_secs(2)).ok().flatten();
    heartbeat.map_or(String::new(), |h| format!("; the last heartbeat: {h}"))
}

/// What the watchdog comes to.
enum Verdict {
    Warn(String),
    End(String),
}

/// The watchdog.
fn watch() {
    let (mut asked, mut last) = (None, Instant::now());
    loop {
        thread::sleep(TICK);
        // A suspended process finds much time gone at once, in which the others were suspended,
        // too.
        let tick = last.elapsed().min(20 * TICK);
        last = Instant::now();
        let (verdict, world) = with(|s| {
            s.lasts += tick;
            (s.judge(&mut asked, tick), s.world)
        });
        let unwell = || {
            world
                .and_then(|w| w.health().err())
                .map(|e| Verdict::End(format!("{}: {e}", with(|s| s.place()))))
        };
        match verdict.or_else(unwell) {
            None => {}
            // the log asks for the tag: not under the lock
            Some(Verdict::Warn(text)) => log::warn!("{text}"),
            Some(Verdict::End(text)) => {
                say(&format!("{text}{}", quoted()));
                match world {
                    Some(world) => world.abort(1),
                    // SAFETY: ends the process without running anything more; MPI_Init hangs and
                    // cannot be left otherwise.
                    None => unsafe { libc::_exit(1) },
                }
            }
        }
    }
}
