//! The program `atlas`: one subcommand per batch job, each in the file of its name.
//!
//! A job takes its command line and the configuration, calls the library, and prints a summary, for
//! a person or, with `--json`, for a program. `run` does the whole pipeline by calling the
//! functions of the other jobs. Read `common` first: the options that all jobs share, logging,
//! signals and exit codes.

#![warn(clippy::unwrap_used)]

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
mod verify;
mod weights;

use std::process::ExitCode;

use clap::Parser;

/// The version and the commit of the source, as in `0.1.0 (ebe0f4f0852f)`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ATLAS_GIT_COMMIT"), ")");

/// Batch jobs that turn the Human Protein Atlas into a trained, scored classifier.
///
/// Exit codes: 0 done; 1 failed; 2 usage or configuration; 65 bad data; 70 a bug; 75 stopped at a
/// checkpoint, run again.
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

impl Job {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Synth(args) => synth::run(args),
            Self::Fetch(args) => fetch::run(args),
            Self::Plan(args) => plan::run(args),
            Self::Preprocess(args) => preprocess::run(args),
            Self::Dedup(args) => dedup::run(args),
            Self::Split(args) => split::run(args),
            Self::Train(args) => train::run(args),
            Self::Predict(args) => predict::run(args),
            Self::Submit(args) => submit::run(args),
            Self::Report(args) => report::run(args),
            Self::Run(args) => run::run(args),
            Self::Status(args) => status::run(args),
            Self::Explore(args) => explore::run(args),
            Self::Evaluate(args) => evaluate::run(args),
            Self::Hash(args) => hash::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Weights(args) => weights::run(args),
            Self::Forward(args) => forward::run(args),
            Self::Config(args) => config::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
        }
    }
}

fn main() -> ExitCode {
    common::set_up_logging();
    common::set_up_panics();
    match Cli::parse().job.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let (code, message) = common::exit_code_and_message(&e);
            if let Some(message) = message {
                eprintln!("atlas: {message}");
            }
            ExitCode::from(code)
        }
    }
}
