//! Starts the workers, gives them batches, starts those that die again, and keeps the findings.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use atlas::base::checksum;

use crate::{corpus::Corpus, mutate, targets::Target};

/// How long a batch should take.
const BATCH_SECONDS: f64 = 0.5;

/// When all is done.
pub enum End {
    /// And how many executions each target should have by then, if that is possible.
    Time(Instant, u64),
    /// Of each target.
    Executions(u64),
}

pub struct Supervisor {
    targets: Vec<&'static Target>,
    end: End,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tallies: Vec<Tally>,
    /// What a worker that died left undone.
    undone: Vec<Batch>,
    /// By target and place.
    findings: BTreeMap<(usize, String), Finding>,
}

/// Of one target.
#[derive(Clone, Default)]
struct Tally {
    /// Number of the next input.
    next: u64,
    executions: u64,
    seconds: f64,
}

#[derive(Clone, Copy)]
struct Batch {
    target: usize,
    first: u64,
    count: u64,
}

struct Finding {
    message: String,
    times: u64,
    /// The smallest input.
    bytes: usize,
    file: PathBuf,
}

impl Supervisor {
    pub fn new(targets: Vec<&'static Target>, end: End, seed: u64) -> Self {
        targets.iter().for_each(|target| drop(Corpus::of(target))); // before a worker misses one
        let state = State { tallies: vec![Tally::default(); targets.len()], ..State::default() };
        Self { targets, end, seed, state: Mutex::new(state) }
    }

    /// Runs until the end and prints what was done and found. Returns the places of the findings.
    pub fn run(self, workers: usize) -> Vec<String> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("atlas-fuzz-").tempdir_in(base).unwrap();
        let begin = Instant::now();
        thread::scope(|scope| {
            for number in 0..workers {
                let scratch = folder.path().join(number.to_string());
                let all = &self;
                scope.spawn(move || all.serve(&scratch));
            }
        });
        self.report(begin.elapsed());
        self.lock().findings.keys().map(|(_, place)| place.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Gives batches to one worker process after the other until nothing is left.
    fn serve(&self, scratch: &Path) {
        let mut worker = None;
        while let Some(batch) = self.next() {
            let worker_now = worker.get_or_insert_with(|| Worker::start(scratch, self.seed));
            let begin = Instant::now();
            let alive = self.watch(worker_now, batch);
            self.lock().tallies[batch.target].seconds += begin.elapsed().as_secs_f64();
            if !alive {
                worker = None;
            }
        }
    }

    /// The next batch: of the targets that have had too few executions, else of all, the one that
    /// has had the least time.
    fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        if matches!(self.end, End::Time(end, _) if Instant::now() >= end) {
            return None;
        }
        if let Some(batch) = state.undone.pop() {
            return Some(batch);
        }
        let (least, most) = match self.end {
            End::Time(_, least) => (least, u64::MAX),
            End::Executions(n) => (n, n),
        };
        let order = |i: &usize| (state.tallies[*i].next >= least, state.tallies[*i].seconds);
        let target = (0..state.tallies.len())
            .filter(|&i| state.tallies[i].next < most)
            .min_by(|a, b| order(a).partial_cmp(&order(b)).expect("seconds are numbers"))?;
        let tally = &mut state.tallies[target];
        let each = (tally.seconds + 0.01) / (tally.executions + 1) as f64;
        let count = ((BATCH_SECONDS / each) as u64).clamp(10, 10_000).min(most - tally.next);
        let batch = Batch { target, first: tally.next, count };
        tally.next += count;
        Some(batch)
    }

    /// Has a worker run a batch. Returns whether the worker can go on.
    fn watch(&self, worker: &mut Worker, batch: Batch) -> bool {
        let Batch { target, first, count } = batch;
        let name = self.targets[target].name;
        let asked = writeln!(worker.child.stdin.as_ref().unwrap(), "{name} {first} {count}");
        let mut line = String::new();
        while asked.is_ok() && worker.answers.read_line(&mut line).is_ok_and(|n| n > 0) {
            let words: Vec<&str> = line.trim_end().splitn(4, '\t').collect();
            match words[..] {
                ["done"] => {
                    self.lock().tallies[target].executions += count;
                    return true;
                }
                ["finding", index, place, message] => {
                    self.add(target, index.parse().unwrap(), place, message);
                }
                ["fatal", index, place, message] => {
                    let index = index.parse().unwrap();
                    self.add(target, index, place, message);
                    worker.end();
                    self.resume(batch, index);
                    return false;
                }
                _ => {} // a library that prints
            }
            line.clear();
        }
        let (how, index) = worker.end();
        // A worker that ended between two batches, as it may, has not begun this one.
        match index.filter(|i| (first..first + count).contains(i)) {
            Some(index) if how != "exit code 0" => {
                let words = worker.last_words();
                let kind = words.replace(|c: char| c.is_ascii_digit(), "");
                self.add(target, index, &format!("{how} {kind}"), &words);
                self.resume(batch, index);
            }
            _ if how == "exit code 0" => self.lock().undone.push(batch),
            _ => panic!("a worker ended before its first input: {how} {}", worker.last_words()),
        }
        false
    }

    /// What comes after the input `index` of `batch`, which a worker died of.
    fn resume(&self, batch: Batch, index: u64) {
        let mut state = self.lock();
        let done = index - batch.first + 1;
        state.tallies[batch.target].executions += done;
        if done < batch.count {
            let rest = Batch { first: index + 1, count: batch.count - done, ..batch };
            state.undone.push(rest);
        }
    }

    /// Counts a finding and keeps its input where it is the smallest.
    fn add(&self, number: usize, index: u64, place: &str, message: &str) {
        let target = self.targets[number];
        let input = mutate::input(target, &Corpus::of(target), self.seed, index);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/findings");
        let hash = checksum::of(place.as_bytes()) as u32;
        let file = folder.join(format!("{}-{hash:08x}", target.name));
        let mut state = self.lock();
        let finding = state.findings.entry((number, place.into())).or_insert_with(|| {
            println!("fuzz: {}: {place}: {message} (input {index})", target.name);
            Finding { message: message.into(), times: 0, bytes: usize::MAX, file: file.clone() }
        });
        finding.times += 1;
        if input.len() < finding.bytes {
            finding.bytes = input.len();
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, input).unwrap();
        }
    }

    fn report(&self, time: Duration) {
        let state = self.lock();
        println!("\n{:24} {:>12} {:>10} {:>9}", "reader", "executions", "per second", "findings");
        let mut total = 0;
        for (i, (target, tally)) in self.targets.iter().zip(&state.tallies).enumerate() {
            let found = state.findings.keys().filter(|(of, _)| *of == i).count();
            let rate = tally.executions as f64 / tally.seconds.max(1e-9);
            println!("{:24} {:>12} {rate:>10.0} {found:>9}", target.name, tally.executions);
            total += tally.executions;
        }
        let (found, seconds) = (state.findings.len(), time.as_secs());
        println!("{:24} {total:>12} {:>10} {found:>9}", "all", "");
        println!("seed {}, {seconds} seconds", self.seed);
        for ((i, place), finding) in &state.findings {
            let Finding { message, times, bytes, file } = finding;
            let name = self.targets[*i].name;
            println!("\n{name}: {place}: {message}\n    {times} times; the smallest input has");
            println!("    {bytes} bytes: {}", file.display());
            println!("    cargo test --release --test fuzz -- replay {name} {}", file.display());
        }
    }
}

/// A worker process.
struct Worker {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    scratch: PathBuf,
}

impl Worker {
    fn start(scratch: &Path, seed: u64) -> Self {
        let _ = fs::remove_dir_all(scratch);
        fs::create_dir_all(scratch.join("kaggle")).unwrap();
        let errors = fs::File::create(scratch.join("errors")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("worker").arg(scratch).arg(seed.to_string());
        for name in ["KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "ATLAS_RUN"] {
            command.env_remove(name);
        }
        command.env("KAGGLE_CONFIG_DIR", scratch.join("kaggle")).env("TMPDIR", scratch);
        command.env("RAYON_NUM_THREADS", "1").env("OMP_NUM_THREADS", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers, scratch: scratch.into() }
    }

    /// Waits for its end; how it ended, and the number of its last input.
    fn end(&mut self) -> (String, Option<u64>) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or(0)),
        };
        let current = fs::read(self.scratch.join("current")).unwrap_or_default();
        (how, current.try_into().ok().map(u64::from_le_bytes))
    }

    /// The last line that it wrote to standard error.
    fn last_words(&self) -> String {
        let text = fs::read(self.scratch.join("errors")).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().last().unwrap_or_default().into()
    }
}
