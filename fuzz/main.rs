//! Hostile and damaged input for every reader of the program, in-process, by worker processes that
//! may die: `make fuzz MINUTES=60`. CONTRIBUTING.md says how to run it and what to do with a
//! finding.
//!
//! A target (`targets/`) is a function of some bytes, as for cargo-fuzz: it gives them to a reader
//! and must return, whatever they are. Inputs are the files of `corpus/`, then mutations of them
//! (`mutate`, `repair`). Input number `i` of a target depends on the seed and `i` alone. Findings
//! are panics, ends of the process, more than 5 seconds or 1 GiB for one input, and damaged files
//! that a reader accepts; the smallest input of each is kept in `findings/`.

mod corpus;
mod mutate;
mod repair;
mod scratch;
mod supervisor;
mod targets;
mod worker;

#[path = "../tests/explore/synthetic.rs"]
mod synthetic;
#[path = "../tests/common/training_state.rs"]
mod training_state;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use atlas::scoring::foreign_predictions;
use clap::Parser;
use supervisor::{End, Supervisor};
use targets::Target;

/// Executions that each target should have in an hour.
const PER_HOUR: f64 = 20_000.0;

#[derive(Parser)]
#[command(name = "fuzz")]
enum Command {
    /// Runs all targets on all cores; exit code 1 where something is found.
    Run {
        /// Minutes to run, shared by all targets.
        #[arg(long, conflicts_with = "executions", required_unless_present = "executions")]
        minutes: Option<f64>,
        /// Executions of each target.
        #[arg(long)]
        executions: Option<u64>,
        /// Seed of the mutations; by default the time.
        #[arg(long)]
        seed: Option<u64>,
        /// Worker processes; by default one per core.
        #[arg(long)]
        workers: Option<usize>,
        /// Only these targets.
        #[arg(long = "target")]
        targets: Vec<String>,
    },
    /// Gives one file to one target, in this process.
    Replay { target: String, file: PathBuf },
    /// Writes the files of the corpus that this program makes; `corpus.py` makes the others.
    Corpus,
    /// Whether faults of all kinds would be found.
    Check,
    /// A worker of `run`.
    #[command(hide = true)]
    Worker { scratch: PathBuf, seed: u64 },
}

fn main() -> ExitCode {
    // As the program does: HDF5 files of others are read by a second process of this one.
    foreign_predictions::answer_if_asked();
    match Command::parse() {
        Command::Run { minutes, executions, seed, workers, targets } => {
            let minutes = minutes.unwrap_or(1.0);
            let end = match executions {
                Some(executions) => End::Executions(executions),
                None => End::Time(
                    Instant::now() + Duration::from_secs_f64(60.0 * minutes),
                    (minutes / 60.0 * PER_HOUR) as u64,
                ),
            };
            let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let seed = seed.unwrap_or_else(now);
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let chosen: Vec<&'static Target> = match targets.is_empty() {
                true => targets::ALL.iter().collect(),
                false => targets.iter().map(|name| targets::find(name)).collect(),
            };
            let workers = workers.unwrap_or(cores);
            println!("fuzz: {} targets, {workers} workers, seed {seed}", chosen.len());
            let found = Supervisor::new(chosen, end, seed).run(workers);
            ExitCode::from(u8::from(!found.is_empty()))
        }
        Command::Replay { target, file } => {
            let folder = tempfile::tempdir().unwrap();
            scratch::set(folder.path());
            let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            (targets::find(&target).read)(&bytes);
            println!("{target} returned");
            ExitCode::SUCCESS
        }
        Command::Corpus => {
            corpus::make();
            ExitCode::SUCCESS
        }
        Command::Check => {
            let count = corpus::files(targets::FAULTY.corpus).len() as u64;
            let supervisor = Supervisor::new(vec![&targets::FAULTY], End::Executions(count), 0);
            let places = supervisor.run(1);
            println!("{places:?}");
            let found = |place: &str| places.iter().any(|p| p.contains(place));
            let kinds = ["faults.rs:", "signal 6", "hang", "memory"];
            ExitCode::from(u8::from(!kinds.into_iter().all(found)))
        }
        Command::Worker { scratch, seed } => worker::run(&scratch, seed),
    }
}
