//! A worker process: runs the executions that the supervisor asks for on standard input, a batch
//! per line (target, first input, number of inputs), and tells what it finds on standard output.
//!
//! Before each execution it writes the number of the input to the file `current`, so that the
//! supervisor knows the input that a worker died of.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    panic,
    path::Path,
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use atlas::{
    base::{caught, thrown},
    scoring::foreign_predictions,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{corpus::Corpus, mutate, scratch, targets};

/// What one input may take.
const MAX_SECONDS: f64 = 5.0;
const MAX_BYTES: u64 = 1 << 30;

/// A waiting process may only be waiting for a processor: it hangs after this time.
const MAX_IDLE_SECONDS: f64 = 30.0;

/// An execution, as the watchdog sees it: milliseconds since the start of the process, 0 between
/// executions, and the number of the input.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static INPUT: AtomicU64 = AtomicU64::new(0);

/// Place and message of the last panic that is a fault of this program.
static PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);

/// Serves batches until standard input ends.
pub fn run(folder: &Path, seed: u64) -> ! {
    scratch::set(folder);
    // SAFETY: the other threads, of the watchdog and the explorer, wait while a file is read.
    unsafe { foreign_predictions::read_in_forks() };
    panic::set_hook(Box::new(|info| {
        // Panics of decoders and exceptions of C++ become errors, but our own code must not panic.
        let is_ours = info.location().is_some_and(|at| at.file().starts_with("src/"));
        let is_thrown = || info.payload_as_str().and_then(thrown::error_of).is_some();
        if (caught::is_caught() && !is_ours) || (thrown::is_caught() && is_thrown()) {
            return;
        }
        let place = info.location().map_or(String::new(), |at| {
            let file = at.file().rsplit_once("/registry/src/").map_or(at.file(), |(_, f)| f);
            format!(
                "{}:{}",
                file.split_once('/').filter(|_| file != at.file()).map_or(file, |(_, f)| f),
                at.line()
            )
        });
        let message = info.payload_as_str().unwrap_or_default().to_string();
        *panicked() = Some((place, message));
    }));
    let current = File::create(folder.join("current")).expect("a file in the scratch folder");
    limit_memory();
    watch();
    for line in io::stdin().lines() {
        let line = line.expect("text of the supervisor");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| -> u64 { words[i].parse().expect("a number of the supervisor") };
        let (target, first, count) = (targets::find(words[0]), number(1), number(2));
        let corpus = Corpus::of(target);
        // What a target makes at its first call must not count for an input.
        let _ = panic::catch_unwind(|| (target.read)(&[]));
        *panicked() = None;
        let most = memory("VmHWM:").max(memory("VmRSS:") + MAX_BYTES);
        for index in first..first + count {
            let input = mutate::input(target, &corpus, seed, index);
            current.write_all_at(&index.to_le_bytes(), 0).expect("the number of the input");
            INPUT.store(index, SeqCst);
            BEGAN.store(millis().max(1), SeqCst);
            let begin = Instant::now();
            let end = panic::catch_unwind(|| (target.read)(&input));
            BEGAN.store(0, SeqCst);
            let panic = panicked().take();
            if let Some((place, message)) = panic.or(end.is_err().then(Default::default)) {
                tell("finding", index, &place, &message);
            }
            // Memory takes time to be written to.
            if begin.elapsed() > Duration::from_millis(20) {
                let used = memory("VmHWM:");
                if used > most {
                    let what = format!("{} MiB for {} bytes", used >> 20, input.len());
                    tell("fatal", index, "memory", &what);
                    process::exit(1);
                }
            }
        }
        say("done");
        // What libraries keep must not count for a later input.
        if memory("VmRSS:") > MAX_BYTES {
            break;
        }
    }
    process::exit(0)
}

fn panicked() -> MutexGuard<'static, Option<(String, String)>> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process where an execution hangs.
fn watch() {
    thread::spawn(|| {
        let (mut seen, mut cpu) = (0, 0.0);
        loop {
            thread::sleep(Duration::from_millis(100));
            let began = BEGAN.load(SeqCst);
            if began != seen {
                (seen, cpu) = (began, cpu_seconds());
            }
            let seconds = (millis() - began) as f64 / 1e3;
            let works = cpu_seconds() - cpu > 0.8 * MAX_SECONDS;
            if began > 0 && seconds > MAX_SECONDS && (works || seconds > MAX_IDLE_SECONDS) {
                tell("fatal", INPUT.load(SeqCst), "hang", &format!("over {MAX_SECONDS} seconds"));
                process::abort();
            }
        }
    });
}

/// An allocation far above what is allowed fails here as on a machine without so much memory.
fn limit_memory() {
    let most = memory("VmData:") + 2 * MAX_BYTES;
    let maximum = getrlimit(Resource::Data).maximum;
    setrlimit(Resource::Data, Rlimit { current: Some(most), maximum }).expect("a lower limit");
}

/// A field of `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Processor time of all threads of this process.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold blanks. Fields 14 and 15 count hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn millis() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

fn tell(kind: &str, index: u64, place: &str, message: &str) {
    let line = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    say(&format!("{kind}\t{index}\t{}\t{}", line(place), line(message)));
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
