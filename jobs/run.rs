//! `atlas run`

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use atlas::{
    base::{Error, host, progress::duration},
    config::Config,
    data::work_folder::WorkFolder,
    distributed::{self, Heartbeat, device},
    inference::finished_run,
    training::{
        run_folder::Run,
        train::{self, FoldStatus, fold_statuses},
    },
};
use clap::Parser;
use serde_json::json;

use crate::{
    Cli,
    common::{Common, NESTED, stop_on_signals, stopped},
    dispatch,
};

/// The whole pipeline on this machine, from images to scored submissions
///
/// Runs plan, preprocess, dedup, split, train (every fold), predict, submit and report in order.
/// Each step does only what is missing or stale, so that an interrupted run goes on where it was:
/// run the same command again. With train.ranks above 1 it trains through `mpirun` (ATLAS_MPIRUN
/// names another launcher).
#[derive(clap::Args)]
#[command(after_help = "Example: atlas run --config configs/demo.toml")]
pub struct Args {
    /// Name of the run (default: the newest one of the same configuration and data, else the time,
    /// UTC)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let tasks = distributed::launched()?;
    if tasks > 1 {
        let what = format!(
            "a launcher started {tasks} tasks, and each would do everything; start `atlas run` \
                once and set train.ranks"
        );
        return Err(Error::usage(what).into());
    }
    let config = args.common.config()?;
    device::choose(config.comm.backend, 0)?; // before any step calls libtorch
    let folds = config.split.folds;
    // What is wrong with the training's keys is said now, not after hours of preprocessing.
    let named = Run::named(&config, args.run.as_deref())?;
    match &named {
        Some(run) if run.folder.exists() => run.must_be_of(&config)?,
        None if Run::newest(&config)?.is_some() => {}
        _ => train::check(&config.model)?,
    }
    NESTED.store(true, Relaxed);
    for (at, job) in ["plan", "preprocess", "dedup", "split"].into_iter().enumerate() {
        log::info!("step {} of {}: {job}", at + 1, folds + 7);
        step(&args.common, &[job])?;
    }
    let (run, fold_statuses) = which_run(named, &config)?;
    let name = run.name();
    let (training, mut trained) = (Instant::now(), 0);
    for (fold, fold_status) in fold_statuses.into_iter().enumerate() {
        log::info!(
            "step {} of {}: train fold {fold}{}",
            fold + 5,
            folds + 7,
            left(training, trained, folds - fold)
        );
        if fold_status == FoldStatus::Done {
            log::info!("  fold {fold} is finished already");
            continue;
        }
        let words = ["train", "--run", &name, "--fold", &fold.to_string()];
        match config.train.ranks {
            1 => step(&args.common, &words)?,
            ranks => launch(&args.common, &words, ranks, &run.heartbeat(fold))?,
        }
        trained += 1;
    }
    for (at, job) in ["predict", "submit", "report"].into_iter().enumerate() {
        log::info!("step {} of {}: {job}", folds + 5 + at, folds + 7);
        step(&args.common, &[job, "--run", &name])?;
    }
    NESTED.store(false, Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let (fits, used) = finished_run::thresholds(&run, config.submit.thresholds)?;
    let finished_run::FittedThresholds { method, cross_fitted, .. } = &fits[used];
    let text = format!(
        "done in {}: macro F1 {cross_fitted:.3} out of fold ({method} thresholds, \
            cross-fitted)\nwrote {}\nopen report.html there",
        duration(seconds),
        run.folder.display()
    );
    args.common.print(text, json!({ "run": run.folder, "seconds": seconds, "method": method, "cross_fitted_macro_f1": cross_fitted }));
    Ok(())
}

/// One job as if typed, with the options that all jobs share.
fn step(common: &Common, words: &[&str]) -> anyhow::Result<()> {
    must_go_on()?;
    let program = std::iter::once("atlas".to_string());
    dispatch(Cli::try_parse_from(program.chain(line(common, words)))?.job)
}

/// # Errors
/// Stopped, after a signal.
fn must_go_on() -> Result<(), Error> {
    if stopped() {
        return Err(Error::Stopped(
            "stopped between two steps; run the same command again to go on".into(),
        ));
    }
    Ok(())
}

fn line(common: &Common, words: &[&str]) -> Vec<String> {
    let mut line: Vec<String> = words.iter().map(ToString::to_string).collect();
    if let Some(config) = &common.config {
        line.extend(["--config".into(), config.display().to_string()]);
    }
    line.extend(common.sets.iter().map(|s| format!("--set={s}")));
    line
}

/// One job on several ranks of this machine. Asked to stop, this process asks the first rank, which
/// the heartbeat names: launchers kill their ranks at once, or do not hand signals on.
fn launch(common: &Common, words: &[&str], ranks: usize, heartbeat: &Path) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    must_go_on()?;
    let old = Heartbeat::read(heartbeat);
    let mpirun = std::env::var("ATLAS_MPIRUN").unwrap_or_else(|_| "mpirun".into());
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let mut command = Command::new(&mpirun);
    command
        .args(["-n", &ranks.to_string(), "--bind-to", "none"])
        .arg(program)
        .args(line(common, words));
    // A group of its own: Ctrl-C comes to us alone, and the terminal's input is not its own.
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let end_with_us = || {
        // SAFETY: asks the kernel for a signal when this process dies; a plain system call.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
        Ok(())
    };
    // SAFETY: between fork and exec only that system call is made.
    unsafe { command.pre_exec(end_with_us) };
    if fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
        // Open MPI wants to hear twice that root means it; whoever runs this as root does.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    let missing = |e| {
        Error::usage(format!(
            "train.ranks = {ranks}: cannot start `{mpirun}` ({e}); ATLAS_MPIRUN names another \
                launcher"
        ))
    };
    let mut child = command.spawn().map_err(missing)?;
    let is_of_now = |h: &Heartbeat| Some(h) != old.as_ref() && h.host == host::name();
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(Error::io("wait for", &mpirun))? {
            break status;
        }
        if let (true, false, Some(first)) =
            (stop.asked(), told, Heartbeat::read(heartbeat).filter(is_of_now))
        {
            // SAFETY: a signal to a rank of ours; it has just said that it lives.
            unsafe { libc::kill(first.pid as i32, libc::SIGUSR2) };
            told = true;
        }
        thread::sleep(Duration::from_millis(50));
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(75) => Err(Error::Stopped(
            "the ranks stopped at a checkpoint; run the same command again to go on".into(),
        )
        .into()),
        // The rank concerned has said why.
        Some(code) => Err(Error::Elsewhere(u8::try_from(code).unwrap_or(1)).into()),
        None => Err(Error::failed(format!(
            "{mpirun} was killed ({status}); run the same command again to go on"
        ))
        .into()),
    }
}

/// How long the folds to go will take, once one has been trained.
fn left(since: Instant, trained: usize, to_go: usize) -> String {
    if trained == 0 {
        return String::new();
    }
    let each = since.elapsed().as_secs_f64() / trained as f64;
    format!(", about {} of training left", duration(each * to_go as f64))
}

/// The run to go on with, and where its folds stand: the one named, else the newest of this
/// configuration unless the data changed since.
fn which_run(named: Option<Run>, config: &Config) -> anyhow::Result<(Run, Vec<FoldStatus>)> {
    let is_named = named.is_some();
    let run = match named {
        Some(run) => Some(run),
        None => Run::newest(config)?,
    };
    let Some(run) = run else {
        return Ok((Run::new(config), vec![FoldStatus::ToDo; config.split.folds]));
    };
    let fold_statuses = fold_statuses(config, &WorkFolder::open(&config.paths.work), &run)?;
    if !is_named && fold_statuses.contains(&FoldStatus::Stale) {
        log::info!("the data changed since the run {}; a new run starts", run.name());
        return Ok((Run::new(config), vec![FoldStatus::ToDo; config.split.folds]));
    }
    Ok((run, fold_statuses))
}
