//! `atlas preprocess`
use std::time::Instant;

use anyhow::Context;
use atlas::{
    Error,
    manifest::{Manifest, Plan},
    progress::{Progress, duration},
    shard::{self, Builder, Settings},
};
use serde_json::json;

use crate::common::Common;

/// Decode, resize and hash the pictures and pack them into shards
///
/// Reads manifest.csv and plan.json of paths.work and the pictures that they name.
///
/// Writes shards/{train,test}-NNNNN.h5, and for each of them shards/quarantine-NNNNN.csv (id,file,reason), the files that
/// could not be used; these count through the train shards first, then the test shards. Task i of N does shards i, i+N,
/// and so on; a shard that is there and verifies is left alone. Where more than preprocess.max_bad_fraction of a task's
/// samples are bad, the job fails with exit code 65.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas preprocess --set preprocess.size=512 --task 3 --tasks 16")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Do only the shards of this task, counted from 0; by default SLURM_ARRAY_TASK_ID, else all shards
    #[arg(long, value_name = "I")]
    task: Option<usize>,
    /// Number of tasks; by default as `plan` wrote it
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let work = &config.paths.work;
    let manifest = Manifest::read(work)?;
    let plan = Plan::read(work, &manifest)?;
    let units: Vec<_> = manifest.shards().into_iter().enumerate().collect();
    let units = match task(&args)? {
        None => units,
        Some(task) => {
            let tasks = args.tasks.unwrap_or(plan.tasks);
            if task >= tasks {
                return Err(Error::usage(format!("task {task} of {tasks}: tasks count from 0; the plan has {} tasks", plan.tasks)).into());
            }
            units.into_iter().skip(task).step_by(tasks).collect()
        }
    };
    let total: usize = units.iter().map(|(_, s)| s.samples.len()).sum();
    let allowed = (config.preprocess.max_bad_fraction * total as f64).floor() as usize;
    let settings = Settings { size: config.preprocess.size as usize, max_side: config.preprocess.max_pixels_side };
    let builder = Builder::new(work, &manifest, settings);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads()).build().context("cannot start worker threads")?;

    let (start, progress) = (Instant::now(), Progress::new("preprocess", "samples", total as u64));
    let (mut built, mut samples, mut bad) = (0, 0, 0);
    for (unit, shard) in &units {
        let outcome = pool.install(|| builder.build(*unit, shard, allowed - bad, &progress))?;
        built += usize::from(outcome.built);
        samples += outcome.samples;
        bad += outcome.bad_samples();
        for b in &outcome.bad {
            log::warn!("{}: {} (left out)", b.file, b.reason);
        }
    }
    drop(progress);
    let quarantined = match bad {
        0 => String::new(),
        n => format!("\n{n} samples left out; their files are in {}", shard::quarantine_path(work, 0).with_file_name("quarantine-*.csv").display()),
    };
    let text = format!(
        "{} shards with {samples} samples, {built} of them made now, in {}{quarantined}\nwrote {}\nnext: atlas dedup",
        units.len(),
        duration(start.elapsed().as_secs_f64()),
        work.join("shards").display(),
    );
    args.common.print(text, json!({ "shards": units.len(), "built": built, "samples": samples, "bad": bad, "folder": work.join("shards") }));
    Ok(())
}

/// The task to do; `None` means all of them.
fn task(args: &Args) -> anyhow::Result<Option<usize>> {
    if args.task.is_some() {
        return Ok(args.task);
    }
    match std::env::var("SLURM_ARRAY_TASK_ID") {
        Err(_) if args.tasks.is_some() => Err(Error::usage("--tasks without --task: say which of them to do").into()),
        Err(_) => Ok(None),
        Ok(text) => match text.parse() {
            Ok(task) => Ok(Some(task)),
            Err(_) => Err(Error::usage(format!("SLURM_ARRAY_TASK_ID is `{text}`, expected a number; pass --task")).into()),
        },
    }
}
