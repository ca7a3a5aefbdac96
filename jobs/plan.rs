//! `atlas plan`
use atlas::{
    base::task_log::Log,
    config::Config,
    data::manifest::{Manifest, Part, Plan, Source, estimate, scan, summary, write_problems},
};
use serde_json::json;

use crate::common::{Common, recorded};

/// List every sample with its files, labels and shard, and everything that is wrong with the data
///
/// Reads the names in data.kaggle (train/, train.csv and, if there, test/ and
/// sample_submission.csv) and data.external (images/ and a CSV with Id,Target); the pictures
/// themselves are not decoded.
///
/// Writes manifest.csv (the complete samples), plan.json (shards and tasks) and problems.csv (the
/// rest) to paths.work.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas plan --set data.kaggle=/data/kaggle --set \
        data.external=/data/hpav18")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    recorded(&Log::of(&config.paths.work, "plan", 0), || plan(&args, &config))
}

fn plan(args: &Args, config: &Config) -> anyhow::Result<()> {
    let work = &config.paths.work;
    let mut scan = scan(&config.data)?;
    for warning in &scan.warnings {
        log::warn!("{warning}");
    }
    let summary = summary(&scan.problems);
    for line in &summary {
        log::warn!("{line}");
    }
    let plan = Plan::new(&mut scan.manifest, &config.preprocess);
    let problems = write_problems(work, &scan.problems)?;
    scan.manifest.write(work)?;
    plan.write(work)?;
    let external = scan.manifest.samples.iter().filter(|s| s.source == Source::External).count();
    let estimate = estimate(&scan.manifest, &config.preprocess);
    let (gigabytes, shards) = (estimate.bytes as f64 / 1e9, plan.train_shards + plan.test_shards);
    let core_hours = match estimate.core_hours {
        hours if hours < 0.01 => "less than 0.01 core-hours".to_string(),
        hours => format!("about {hours:.2} core-hours"),
    };
    let text = format!(
        "{} train samples ({} official, {external} external) and {} test samples\n\
         {shards} shards of up to {} samples, {gigabytes:.2} GB at {} pixels a side; {} tasks; {core_hours}\n\
         {} problems, listed in {}\n\
         wrote {}\n\
         next: atlas preprocess",
        plan.train_samples,
        plan.train_samples - external,
        plan.test_samples,
        plan.shard_samples,
        config.preprocess.size,
        plan.tasks,
        scan.problems.len(),
        problems.display(),
        Manifest::path(work).display(),
    );
    let json = json!({
        "train": scan.manifest.count(Part::Train),
        "external": external,
        "test": scan.manifest.count(Part::Test),
        "shards": { "train": plan.train_shards, "test": plan.test_shards },
        "tasks": plan.tasks,
        "bytes": estimate.bytes,
        "core_hours": estimate.core_hours,
        "problems": scan.problems.len(),
        "warnings": scan.warnings.iter().chain(&summary).collect::<Vec<_>>(),
        "manifest": Manifest::path(work),
    });
    args.common.print(text, json);
    Ok(())
}
