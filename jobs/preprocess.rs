//! `atlas preprocess`
use std::time::Instant;

use atlas::{
    base::{pipeline_step::Step, progress::duration, task_log::TaskLog},
    config::Config,
    data::{shard, work_folder::WorkFolder},
    distributed::device,
};
use serde_json::json;

use crate::common::{Common, Summary, Tasks, WHOLE, planned, recorded, stop_on_signals};

/// Decode, resize and hash the images and pack them into shards
///
/// Reads manifest.csv and plan.json of paths.work and the images that they name.
///
/// Writes shards/{train,test}-NNNNN.h5, and for each of them shards/quarantine-NNNNN.csv
/// (id,file,reason), the files that could not be used; these count through the train shards first,
/// then the test shards. Task i of N makes the shards i, i+N, and so on; a shard that exists and
/// verifies is kept, unless a sample that it lacks can be used now, or images were replaced since
/// (another size or time in shards/sources-NNNNN.csv, and other pixels). Where more than
/// preprocess.max_bad_fraction of a task's samples are bad, the job fails with exit code 65. After
/// a signal it stops with exit code 75; finished shards stay.
///
/// It warns of images that can be read but hardly learnt from, one line per channel: 16-bit files
/// whose values stay in the lowest eighth of the range, saturated and empty channels, two channels
/// that are one image, and images that are not square. Each task warns of those that it reads.
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
    let work = &WorkFolder::of(&config);
    let share = args.tasks.resolve(|| planned(work))?.unwrap_or(WHOLE);
    let Summary { text, json } = preprocess(&config, work, share)?;
    args.common.print(text, json)?;
    Ok(())
}

/// Makes the shards of one task's share.
pub fn preprocess(
    config: &Config,
    work: &WorkFolder,
    (task, tasks): (usize, usize),
) -> anyhow::Result<Summary> {
    let stop = stop_on_signals()?;
    let (start, log) = (Instant::now(), TaskLog::of(work.path(), Step::Preprocess, task));
    device::keep_memory();
    let made = recorded(&log, || {
        let manifest = work.manifest()?;
        let (keys, threads) = (&config.preprocess, config.threads());
        Ok(shard::build_share(work.path(), manifest, keys, threads, (task, tasks), stop)?)
    })?;
    let quarantined = match made.bad {
        0 => String::new(),
        n => format!(
            "\n{n} samples left out; their files are in {}",
            shard::quarantine_path(work.path(), 0).with_file_name("quarantine-*.csv").display()
        ),
    };
    let (seconds, folder) = (start.elapsed().as_secs_f64(), work.path().join("shards"));
    let text = format!(
        "{} shards with {} samples, {} of them made now, in {}{quarantined}\nwrote {}\nnext: \
         `atlas dedup`",
        made.shards,
        made.samples,
        made.built,
        duration(seconds),
        folder.display(),
    );
    let json = json!({
        "shards": made.shards, "built": made.built, "samples": made.samples, "bad": made.bad,
        "replaced": made.replaced, "warnings": made.warnings, "seconds": seconds,
        "folder": folder,
    });
    Ok(Summary { text, json })
}
