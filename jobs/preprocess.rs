//! `atlas preprocess`
use std::time::Instant;

use anyhow::Context;
use atlas::{
    base::{
        progress::{Progress, duration},
        task_log::Log,
    },
    config::Config,
    data::{
        shard::{self, Builder, Settings},
        work_folder::WorkFolder,
    },
    distributed::device,
};
use serde_json::json;

use crate::common::{Common, Tasks, planned, recorded, stop_on_signals};

/// Decode, resize and hash the pictures and pack them into shards
///
/// Reads manifest.csv and plan.json of paths.work and the pictures that they name.
///
/// Writes shards/{train,test}-NNNNN.h5, and for each of them shards/quarantine-NNNNN.csv
/// (id,file,reason), the files that could not be used; these count through the train shards first,
/// then the test shards. Task i of N does shards i, i+N, and so on; a shard that is there and
/// verifies is left alone, unless a sample that it lacks can be used now. Where more than
/// preprocess.max_bad_fraction of a task's samples are bad, the job fails with exit code 65. A
/// signal makes it stop with exit code 75; finished shards stay.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas preprocess --set preprocess.size=512 --task 3 --tasks 16")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tasks: Tasks,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let work = &WorkFolder::open(&config.paths.work);
    let (task, tasks) = args.tasks.resolve(|| planned(work))?.unwrap_or((0, 1));
    recorded(&Log::of(work.path(), "preprocess", task), || {
        preprocess(&args, &config, work, task, tasks)
    })
}

fn preprocess(
    args: &Args,
    config: &Config,
    work: &WorkFolder,
    task: usize,
    tasks: usize,
) -> anyhow::Result<()> {
    let manifest = work.manifest()?;
    let work = work.path();
    let units: Vec<_> =
        manifest.shards().into_iter().enumerate().skip(task).step_by(tasks).collect();
    let total: usize = units.iter().map(|(_, s)| s.samples.len()).sum();
    let allowed = (config.preprocess.max_bad_fraction * total as f64).floor() as usize;
    let settings = Settings {
        size: config.preprocess.size as usize,
        max_side: config.preprocess.max_pixels_side,
    };
    let builder = Builder::new(work, manifest, settings, stop_on_signals()?);
    device::keep_memory();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads())
        .build()
        .context("cannot start worker threads")?;

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
        n => format!(
            "\n{n} samples left out; their files are in {}",
            shard::quarantine_path(work, 0).with_file_name("quarantine-*.csv").display()
        ),
    };
    let seconds = start.elapsed().as_secs_f64();
    let text = format!(
        "{} shards with {samples} samples, {built} of them made now, in {}{quarantined}\nwrote \
            {}\nnext: atlas dedup",
        units.len(),
        duration(seconds),
        work.join("shards").display(),
    );
    let folder = work.join("shards");
    let json = json!({ "shards": units.len(), "built": built, "samples": samples, "bad": bad, "seconds": seconds, "folder": folder });
    args.common.print(text, json);
    Ok(())
}
