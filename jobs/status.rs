//! `atlas status`

mod queue;

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    io::{IsTerminal, Read, Seek, SeekFrom, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use atlas::{
    base::{host, progress::duration, task_log::Attempt},
    config::Config,
    data::work_folder::WorkFolder,
    operations::status::{self, Step, Task},
    training::run_folder::Run,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::{Common, end_with_the_reader};
use queue::Queue;

/// How far a pipeline is: tasks done, running, waiting, failed and missing, with what went wrong
///
/// Reads paths.work and the run's folder and, where there is a Slurm, asks squeue and sacct. A task
/// counts as done by what it left; `failed` are those that ended with an error or were killed,
/// `missing` those that nobody is at.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  atlas status --config configs/atlas.toml --watch\n  atlas status \
        --missing        what is to be done, as sbatch's --array takes it"
)]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Show it again every few seconds until all is done
    #[arg(long, conflicts_with_all = ["json", "missing"])]
    watch: bool,
    /// Print what is not done yet, a line `step tasks` each, for scripts
    #[arg(long, conflicts_with = "json")]
    missing: bool,
    #[command(flatten)]
    common: Common,
}

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Lines of what went wrong.
const MOST: usize = 20;

pub fn run(args: Args) -> anyhow::Result<()> {
    end_with_the_reader();
    let config = args.common.config()?;
    loop {
        let run = match Run::named(&config, args.run.as_deref())? {
            Some(run) => run.must_be_of(&config).map(|()| Some(run))?,
            None => Run::newest(&config)?,
        };
        let steps = status::steps(&config, &WorkFolder::open(&config.paths.work), run.as_ref());
        if args.missing {
            for step in &steps {
                let tasks =
                    status::as_array((0..step.tasks.len()).filter(|&i| !step.tasks[i].done));
                if !tasks.is_empty() {
                    println!("{} {tasks}", step.name);
                }
            }
            return Ok(());
        }
        let view = View::new(&config, run.as_ref(), &steps);
        if args.watch && std::io::stdout().is_terminal() {
            print!("\x1b[H\x1b[2J"); // to the top of an empty screen
        }
        args.common.print(view.text().trim_end(), view.json());
        if !args.watch || view.finished() {
            return Ok(());
        }
        std::io::stdout().flush()?;
        thread::sleep(EVERY);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Running,
    Waiting,
    Failed,
    Missing,
}

/// A task that did not go well, or not yet.
struct Trouble {
    step: &'static str,
    task: usize,
    what: String,
    /// When and where the attempt began.
    attempt: Option<Attempt>,
    /// Whether the task is done in spite of it.
    mended: bool,
}

struct Line {
    name: &'static str,
    states: Vec<State>,
    /// Seconds until the step is done.
    left: Option<f64>,
    /// Why its tasks wait.
    reason: String,
}

struct View {
    run: Option<String>,
    work: String,
    lines: Vec<Line>,
    troubles: Vec<Trouble>,
}

impl View {
    fn new(config: &Config, run: Option<&Run>, steps: &[Step]) -> Self {
        let begun = |t: &Task| {
            t.attempts
                .iter()
                .filter(|a| a.ended.is_none())
                .filter_map(|a| a.began.slurm.clone())
                .collect::<Vec<_>>()
        };
        let ids: HashSet<String> =
            steps.iter().flat_map(|s| s.tasks.iter().flat_map(begun)).collect();
        let name = run.map(Run::name);
        let jobs = config
            .paths
            .work
            .join("pipeline")
            .join(name.as_deref().unwrap_or("-"))
            .join("jobs.csv");
        let queue = Queue::ask(&jobs, &ids);
        let (mut lines, mut troubles) = (Vec::new(), Vec::new());
        for step in steps {
            let mut line =
                Line { name: step.name, states: Vec::new(), left: None, reason: String::new() };
            for (i, task) in step.tasks.iter().enumerate() {
                let (state, reason) = judge(step.name, i, task, &queue, &mut troubles);
                line.states.push(state);
                if !reason.is_empty() {
                    line.reason = reason;
                }
            }
            line.left = left(step, &line.states);
            lines.push(line);
        }
        Self { run: name, work: config.paths.work.display().to_string(), lines, troubles }
    }

    fn finished(&self) -> bool {
        self.lines.iter().all(|l| l.states.iter().all(|s| *s == State::Done))
    }

    fn text(&self) -> String {
        let run = self.run.as_deref().unwrap_or("none yet");
        let mut text = format!("run {run}, work folder {}\n", self.work);
        text += "step            tasks   done  running  waiting  failed  missing  left\n";
        for l in &self.lines {
            let n = |state: State| match l.count(state) {
                0 => "-".to_string(),
                n => n.to_string(),
            };
            let left = l.left.map_or(String::new(), duration);
            let _ = writeln!(
                text,
                "{:<14}{:>7}{:>7}{:>9}{:>9}{:>8}{:>9}  {left}{}",
                l.name,
                l.states.len(),
                n(State::Done),
                n(State::Running),
                n(State::Waiting),
                n(State::Failed),
                n(State::Missing),
                l.reason
            );
        }
        let more = self.troubles.len().saturating_sub(MOST);
        if more > 0 {
            let _ = writeln!(text, "{more} earlier lines are left out; --json has them");
        }
        for t in self.troubles.iter().skip(more) {
            let _ = writeln!(text, "{}", t.text());
        }
        text
    }

    fn json(&self) -> Value {
        let steps = self.lines.iter().map(|l| {
            json!({
                "name": l.name,
                "tasks": l.states.len(),
                "done": l.count(State::Done),
                "running": l.count(State::Running),
                "waiting": l.count(State::Waiting),
                "failed": l.count(State::Failed),
                "missing": l.count(State::Missing),
                "left_seconds": l.left,
            })
        });
        let troubles = self.troubles.iter().map(|t| {
            let began = t.attempt.as_ref().map(|a| &a.began);
            json!({ "step": t.step, "task": t.task, "what": t.what, "done_since": t.mended, "began": began })
        });
        json!({
            "run": self.run,
            "finished": self.finished(),
            "steps": steps.collect::<Vec<_>>(),
            "troubles": troubles.collect::<Vec<_>>(),
        })
    }
}

impl Line {
    fn count(&self, state: State) -> usize {
        self.states.iter().filter(|s| **s == state).count()
    }
}

impl Trouble {
    fn text(&self) -> String {
        let place = self.attempt.as_ref().map_or(String::new(), |a| {
            let log =
                a.began.log.as_ref().map_or(String::new(), |l| format!("; log: {}", l.display()));
            format!(", began {} on {}{log}", a.began.time, a.began.host)
        });
        let mended = if self.mended { "; done since" } else { "" };
        format!("{} task {}: {}{place}{mended}", self.step, self.task, self.what)
    }
}

/// The state of a task, why it waits, and what went wrong with it.
fn judge(
    step: &'static str,
    i: usize,
    task: &Task,
    queue: &Queue,
    troubles: &mut Vec<Trouble>,
) -> (State, String) {
    let mut tell = |what: String, attempt: Option<&Attempt>| {
        troubles.push(Trouble {
            step,
            task: i,
            what,
            attempt: attempt.cloned(),
            mended: task.done,
        });
    };
    let mut state = State::Missing;
    for (n, attempt) in task.attempts.iter().enumerate() {
        let last = n + 1 == task.attempts.len();
        let known =
            attempt.began.slurm.as_deref().and_then(|id| queue.of(id)).map(|(state, _)| state);
        match &attempt.ended {
            Some(end) if end.code == 0 => state = State::Missing,
            Some(end) if end.code == 75 => {
                tell("stopped at a checkpoint (75)".into(), Some(attempt))
            }
            Some(end) => {
                tell(
                    format!(
                        "failed ({}): {}",
                        end.code,
                        end.error.as_deref().unwrap_or("its log says why")
                    ),
                    Some(attempt),
                );
                state = State::Failed;
            }
            None if last && runs(attempt, known, queue) => state = State::Running,
            None => {
                let why = known
                    .filter(|s| last && !["RUNNING", "PENDING", "COMPLETED"].contains(s))
                    .map_or(String::new(), |s| format!(" ({s})"));
                let said = attempt
                    .began
                    .log
                    .as_deref()
                    .filter(|_| last)
                    .and_then(last_words)
                    .map_or(String::new(), |l| format!(": {l}"));
                tell(format!("killed{why}{said}"), Some(attempt));
                state = State::Failed;
            }
        }
    }
    if task.done {
        return (State::Done, String::new());
    }
    // In the queue, perhaps again.
    let again = task
        .attempts
        .last()
        .and_then(|a| queue.of(a.began.slurm.as_deref()?))
        .filter(|q| q.0 == "PENDING");
    match again.or_else(|| queue.of_step(step, i)) {
        Some(("PENDING", "DependencyNeverSatisfied")) => {}
        Some(("PENDING" | "REQUEUED" | "CONFIGURING", reason)) => {
            return (State::Waiting, reason.into());
        }
        Some(("RUNNING" | "COMPLETING", _)) => return (State::Running, String::new()),
        // What waited for a job that failed is cancelled.
        Some((ended, _))
            if task.attempts.is_empty() && !["COMPLETED", "CANCELLED"].contains(&ended) =>
        {
            tell(format!("its job ended before it began ({ended})"), None);
            state = State::Failed;
        }
        _ => {}
    }
    if task.stale {
        tell("what is there was made from other data or with other keys".into(), None);
    }
    (state, String::new())
}

/// Whether an attempt that has not ended goes on, as far as can be told from here.
fn runs(attempt: &Attempt, known: Option<&str>, queue: &Queue) -> bool {
    match (known, &attempt.began.slurm) {
        (Some(state), _) => ["RUNNING", "COMPLETING", "SUSPENDED"].contains(&state),
        (None, Some(_)) if queue.there => false, // Slurm has forgotten it: it ended
        _ if attempt.began.host == host::name() => {
            Path::new(&format!("/proc/{}", attempt.began.pid)).exists()
        }
        _ => true,
    }
}

/// Why a process was killed, by the end of its log: the last line that tells of memory or of
/// Slurm's doing, else the last one.
fn last_words(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let tells = |line: &&str| {
        ["memory limit", "oom-kill", "oom_kill", "out of memory", "Out Of Memory", "DUE TO"]
            .iter()
            .any(|w| line.contains(w))
    };
    lines.clone().find(tells).or_else(|| lines.next()).map(String::from)
}

/// Seconds until a step under way is done: of trainings by their heartbeats, else by the pace of
/// its tasks so far.
fn left(step: &Step, states: &[State]) -> Option<f64> {
    let running = states.iter().filter(|s| **s == State::Running).count();
    if running == 0 {
        return None;
    }
    let beating = step.tasks.iter().zip(states).filter(|(_, s)| **s == State::Running);
    let longest = beating.filter_map(|(t, _)| t.heartbeat.as_ref()?.remaining).reduce(f64::max);
    let seconds = |t: &str| t.parse::<Timestamp>().ok().map(|t| t.as_second() as f64);
    let took = |a: &Attempt| {
        Some(seconds(&a.ended.as_ref().filter(|e| e.code == 0)?.time)? - seconds(&a.began.time)?)
    };
    let each: Vec<f64> =
        step.tasks.iter().filter(|t| t.done).filter_map(|t| took(t.attempts.last()?)).collect();
    let to_do = states.iter().filter(|s| **s != State::Done).count();
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    match longest {
        // Those under way say it themselves; those after them take as long as those before.
        Some(longest) if to_do == running => Some(longest),
        Some(longest) => Some(longest + mean * ((to_do - running) as f64 / running as f64).ceil())
            .filter(|s| s.is_finite()),
        None => Some(mean * to_do as f64 / running as f64).filter(|s| s.is_finite()),
    }
}
