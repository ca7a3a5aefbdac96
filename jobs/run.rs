//! `atlas run`

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use atlas::{
    Error,
    config::Config,
    progress::duration,
    results::Run,
    train::{self, Standing, standings},
};
use clap::Parser;
use serde_json::json;

use crate::{
    Cli,
    common::{Common, NESTED, stopped},
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
    // What is wrong with the training's keys is said now, not after hours of preprocessing.
    let named = Run::named(&config, args.run.as_deref())?;
    match &named {
        Some(run) if run.folder.exists() => run.must_be_of(&config)?,
        None if Run::newest(&config)?.is_some() => {}
        _ => train::check(&config)?,
    }
    NESTED.store(true, Relaxed);
    for (at, job) in ["plan", "preprocess", "dedup", "split"].into_iter().enumerate() {
        log::info!("step {} of {}: {job}", at + 1, folds + 6);
        step(&args.common, &[job])?;
    }
    let (run, standings) = which_run(named, &config)?;
    let name = run.name();
    let (training, mut trained) = (Instant::now(), 0);
    for (fold, standing) in standings.into_iter().enumerate() {
        log::info!("step {} of {}: train fold {fold}{}", fold + 5, folds + 6, left(training, trained, folds - fold));
        if standing == Standing::Done {
            log::info!("  fold {fold} is finished already");
            continue;
        }
        step(&args.common, &["train", "--run", &name, "--fold", &fold.to_string()])?;
        trained += 1;
    }
    for (at, job) in ["predict", "submit"].into_iter().enumerate() {
        log::info!("step {} of {}: {job}", folds + 5 + at, folds + 6);
        step(&args.common, &[job, "--run", &name])?;
    }
    NESTED.store(false, Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let text = format!("done in {}; the results lie in {}", duration(seconds), run.folder.display());
    args.common.print(text, json!({ "run": run.folder, "seconds": seconds }));
    Ok(())
}

/// One job as if typed, with the options that all jobs share.
fn step(common: &Common, words: &[&str]) -> anyhow::Result<()> {
    if stopped() {
        return Err(Error::Stopped("stopped between two steps; run the same command again to go on".into()).into());
    }
    let mut line: Vec<String> = ["atlas"].iter().chain(words).map(ToString::to_string).collect();
    if let Some(config) = &common.config {
        line.extend(["--config".into(), config.display().to_string()]);
    }
    line.extend(common.sets.iter().map(|s| format!("--set={s}")));
    dispatch(Cli::try_parse_from(line)?.job)
}

/// How long the folds to go will take, once one has been trained.
fn left(since: Instant, trained: usize, to_go: usize) -> String {
    if trained == 0 {
        return String::new();
    }
    let each = since.elapsed().as_secs_f64() / trained as f64;
    format!(", about {} of training left", duration(each * to_go as f64))
}

/// The run to go on with, and where its folds stand: the one named, else the newest of this configuration unless the data
/// changed since.
fn which_run(named: Option<Run>, config: &Config) -> anyhow::Result<(Run, Vec<Standing>)> {
    let is_named = named.is_some();
    let run = match named {
        Some(run) => Some(run),
        None => Run::newest(config)?,
    };
    let Some(run) = run else { return Ok((Run::new(config), vec![Standing::ToDo; config.split.folds])) };
    let standings = standings(config, &run)?;
    if !is_named && standings.contains(&Standing::Stale) {
        log::info!("the data changed since the run {}; a new run starts", run.name());
        return Ok((Run::new(config), vec![Standing::ToDo; config.split.folds]));
    }
    Ok((run, standings))
}
