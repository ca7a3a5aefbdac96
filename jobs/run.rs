//! `atlas run`

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use atlas::{
    progress::duration,
    results::Run,
    train::{Standing, standing},
};
use clap::Parser;
use serde_json::json;

use crate::{
    Cli,
    common::{Common, NESTED},
    dispatch,
};

/// The whole pipeline on this machine, from images to scored submissions
///
/// Runs plan, preprocess, dedup, split, train (every fold), predict and submit in order. Each step does only what is
/// missing or stale, so that an interrupted run goes on where it was: run the same command again.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas run --config configs/demo.toml")]
pub struct Args {
    /// Name of the run (default: the newest one of the same configuration and data, else the time, UTC)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let config = args.common.config()?;
    let folds = config.split.folds;
    NESTED.store(true, Relaxed);
    for (at, job) in ["plan", "preprocess", "dedup", "split"].into_iter().enumerate() {
        log::info!("step {} of {}: {job}", at + 1, folds + 6);
        step(&args.common, &[job])?;
    }
    let name = run_name(&args, &config)?;
    let training = Instant::now();
    for fold in 0..folds {
        let left = match fold {
            0 => String::new(),
            done => format!(", about {} of training left", duration(training.elapsed().as_secs_f64() / done as f64 * (folds - fold) as f64)),
        };
        log::info!("step {} of {}: train fold {fold}{left}", fold + 5, folds + 6);
        let run = Run { folder: config.paths.results.join(&name) };
        if run.folder.exists() && standing(&config, &run, fold)? == Standing::Done {
            log::info!("  fold {fold} is finished already");
            continue;
        }
        step(&args.common, &["train", "--run", &name, "--fold", &fold.to_string()])?;
    }
    for (at, job) in ["predict", "submit"].into_iter().enumerate() {
        log::info!("step {} of {}: {job}", folds + 5 + at, folds + 6);
        step(&args.common, &[job, "--run", &name])?;
    }
    NESTED.store(false, Relaxed);
    let (seconds, folder) = (start.elapsed().as_secs_f64(), config.paths.results.join(&name));
    args.common.print(format!("done in {}; the results lie in {}", duration(seconds), folder.display()), json!({ "run": folder, "seconds": seconds }));
    Ok(())
}

/// One job as if typed, with the options that all jobs share.
fn step(common: &Common, words: &[&str]) -> anyhow::Result<()> {
    let mut line: Vec<String> = ["atlas"].iter().chain(words).map(ToString::to_string).collect();
    if let Some(config) = &common.config {
        line.extend(["--config".into(), config.display().to_string()]);
    }
    line.extend(common.sets.iter().map(|s| format!("--set={s}")));
    dispatch(Cli::try_parse_from(line)?.job)
}

/// The run to go on with: the one named, else the newest of this configuration unless the data changed since.
fn run_name(args: &Args, config: &atlas::config::Config) -> anyhow::Result<String> {
    if let Some(name) = &args.run {
        return Ok(name.clone());
    }
    let Some(run) = Run::same(config)? else { return Ok(Run::stamp()) };
    for fold in 0..config.split.folds {
        if standing(config, &run, fold)? == Standing::Stale {
            log::info!("the data changed since the run {}; a new run starts", run.name());
            return Ok(Run::stamp());
        }
    }
    Ok(run.name())
}
