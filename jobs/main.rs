//! The program `atlas`: one subcommand per batch job, each in the file of its name.
//!
//! A job takes its command line and the configuration, calls the library, and prints a summary, for
//! a person or, with `--json`, for a program. `run` does the whole pipeline by calling the
//! functions of the other jobs. Read `common` first: the options that all jobs share, logging,
//! signals and exit codes.

#![warn(clippy::unwrap_used)]

mod advice;
mod common;
mod completions;
mod config;
mod dedup;
mod doctor;
mod evaluate;
mod explore;
mod fetch;
mod forward;
mod hash;
mod man;
mod plan;
mod predict;
mod preprocess;
mod report;
mod run;
mod split;
mod status;
mod submit;
mod synth;
mod train;
mod unexpected;
mod verify;
mod weights;

use std::process::ExitCode;

use atlas::{base::hdf5_file, scoring::foreign_predictions};
use clap::{CommandFactory, FromArgMatches, Parser};

/// The version and the commit of the source, as in `0.1.0 (ebe0f4f0852f)`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ATLAS_GIT_COMMIT"), ")");

/// Batch jobs that turn the Human Protein Atlas into a trained, scored classifier.
///
/// Exit codes: 0 done; 1 failed; 2 usage or configuration; 65 bad data; 70 a bug; 75 stopped at a
/// checkpoint, run again; 141 the reader of the output went away.
#[derive(Parser)]
#[command(name = "atlas", version = VERSION)]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

/// In the order of the pipeline; then the tools.
#[derive(clap::Subcommand)]
enum Job {
    Synth(synth::Args),
    Fetch(fetch::Args),
    Plan(plan::Args),
    Preprocess(preprocess::Args),
    Dedup(dedup::Args),
    Split(split::Args),
    Train(train::Args),
    Predict(predict::Args),
    Submit(submit::Args),
    Report(report::Args),
    Run(run::Args),
    Status(status::Args),
    Explore(explore::Args),
    Evaluate(evaluate::Args),
    Hash(hash::Args),
    Verify(verify::Args),
    Weights(weights::Args),
    Forward(forward::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

#[global_allocator]
static ALLOCATOR: unexpected::Allocator = unexpected::Allocator;

fn run(job: Job) -> anyhow::Result<()> {
    match job {
        Job::Synth(args) => synth::run(args),
        Job::Fetch(args) => fetch::run(args),
        Job::Plan(args) => plan::run(args),
        Job::Preprocess(args) => preprocess::run(args),
        Job::Dedup(args) => dedup::run(args),
        Job::Split(args) => split::run(args),
        Job::Train(args) => train::run(args),
        Job::Predict(args) => predict::run(args),
        Job::Submit(args) => submit::run(args),
        Job::Report(args) => report::run(args),
        Job::Run(args) => run::run(args),
        Job::Status(args) => status::run(args),
        Job::Explore(args) => explore::run(args),
        Job::Evaluate(args) => evaluate::run(args),
        Job::Hash(args) => hash::run(args),
        Job::Verify(args) => verify::run(args),
        Job::Weights(args) => weights::run(args),
        Job::Forward(args) => forward::run(args),
        Job::Config(args) => config::run(args),
        Job::Doctor(args) => doctor::run(args),
        Job::Completions(args) => completions::run(args),
        Job::Man(args) => man::run(args),
    }
}

fn main() -> ExitCode {
    let (variable, value) = hdf5_file::NO_LOCKS;
    // SAFETY: the program has no other thread yet that could read the environment.
    unsafe { std::env::set_var(variable, value) };
    foreign_predictions::answer_if_asked();
    common::set_up_logging();
    if let Err(e) = unexpected::set_up() {
        common::complain(format!("cannot handle signals: {e}"));
        return ExitCode::FAILURE;
    }
    let mut program = Cli::command();
    let parsed = program.try_get_matches_from_mut(std::env::args_os());
    if let Ok(parsed) = &parsed {
        advice::repeat(&program, parsed);
    }
    let cli = match parsed.and_then(|parsed| Cli::from_arg_matches(&parsed)) {
        Ok(cli) => cli,
        Err(e) => return ExitCode::from(common::answer(&e.format(&mut program))),
    };
    match run(cli.job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let (code, message) = common::exit_code_and_message(&e);
            if let Some(message) = message {
                common::complain(message);
            }
            ExitCode::from(code)
        }
    }
}
