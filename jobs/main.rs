//! The program `atlas`: one sub-command per batch job, each in a file of its name.

#![warn(clippy::unwrap_used)]

mod common;
mod config;
mod dedup;
mod doctor;
mod evaluate;
mod explore;
mod fetch;
mod forward;
mod hash;
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

/// Batch jobs that turn the Human Protein Atlas into a trained, scored classifier.
///
/// Exit codes: 0 done; 1 failed; 2 usage or configuration; 65 bad data; 70 a bug; 75 stopped at a
/// checkpoint, run again.
#[derive(Parser)]
#[command(name = "atlas", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

macro_rules! jobs {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(clap::Subcommand)]
        #[allow(non_camel_case_types)]
        enum Job {
            $($(#[$doc])* $name($name::Args)),*
        }

        fn dispatch(job: Job) -> anyhow::Result<()> {
            match job {
                $(Job::$name(args) => $name::run(args)),*
            }
        }
    };
}

// In the order of the pipeline; then the tools.
jobs! {
    synth,
    fetch,
    plan,
    preprocess,
    dedup,
    split,
    train,
    predict,
    submit,
    report,
    run,
    status,
    explore,
    evaluate,
    hash,
    verify,
    weights,
    forward,
    config,
    doctor,
}

fn main() -> ExitCode {
    common::set_up_logging();
    common::set_up_panics();
    match dispatch(Cli::parse().job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let (code, text) = common::told(&e);
            if let Some(text) = text {
                eprintln!("atlas: {text}");
            }
            ExitCode::from(code)
        }
    }
}
