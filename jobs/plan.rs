//! `atlas plan`
use atlas::{
    base::{pipeline_step::Step, task_log::TaskLog},
    config::Config,
    data::manifest::{
        Manifest, Plan, Source, estimate, scan, summary as problem_summary, write_problems,
    },
};
use serde_json::json;

use crate::common::{Common, Summary, recorded};

/// List every sample with its files, labels and shard, and everything that is wrong with the data
///
/// Reads the names in data.kaggle (train/, train.csv and, if there, test/ and
/// sample_submission.csv) and data.external (images/ and a CSV with Id,Target); the images
/// themselves are not decoded.
///
/// Writes manifest.csv (the complete samples), plan.json (shards and tasks) and problems.csv (the
/// rest, also where nothing else can be written) to paths.work. A table that cannot be read, or a
/// blank or repeated row in sample_submission.csv, is refused with exit code 65.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas plan --set data.kaggle=/data/kaggle --set \
        data.external=/data/hpav18")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let Summary { text, json } = plan(&args.common.config()?)?;
    args.common.print(text, json)?;
    Ok(())
}

/// Lists the samples and writes the plan.
pub fn plan(config: &Config) -> anyhow::Result<Summary> {
    let (work, keys) = (&config.paths.work, &config.preprocess);
    let (scan, skipped, plan, problems) = recorded(&TaskLog::of(work, Step::Plan, 0), || {
        let mut scan = scan(&config.data)?;
        let skipped = problem_summary(&scan.problems);
        scan.warnings.iter().chain(&skipped).for_each(|warning| log::warn!("{warning}"));
        // The list is wanted most where nothing can go on.
        let problems = write_problems(work, &scan.problems)?;
        scan.check()?;
        let plan = Plan::new(&mut scan.manifest, keys);
        scan.manifest.write(work)?;
        plan.write(work)?;
        Ok((scan, skipped, plan, problems))
    })?;
    let manifest = Manifest::path(work);
    let external = scan.manifest.samples.iter().filter(|s| s.source == Source::External).count();
    let estimate = estimate(&scan.manifest, keys);
    let core_hours = match estimate.core_hours {
        hours if hours < 0.01 => "less than 0.01 core-hours".to_string(),
        hours => format!("about {hours:.2} core-hours"),
    };
    let text = format!(
        "{} train samples ({} official, {external} external) and {} test samples\n\
         {} shards of up to {} samples, {:.2} GB at {} pixels a side; {} tasks; {core_hours}\n\
         {} problems, listed in {}\nwrote {}\nnext: `atlas preprocess`",
        plan.train_samples,
        plan.train_samples - external,
        plan.test_samples,
        plan.train_shards + plan.test_shards,
        plan.shard_samples,
        estimate.bytes as f64 / 1e9,
        keys.size,
        plan.tasks,
        scan.problems.len(),
        problems.display(),
        manifest.display(),
    );
    let json = json!({
        "train": plan.train_samples,
        "external": external,
        "test": plan.test_samples,
        "shards": { "train": plan.train_shards, "test": plan.test_shards },
        "tasks": plan.tasks,
        "bytes": estimate.bytes,
        "core_hours": estimate.core_hours,
        "problems": scan.problems.len(),
        "warnings": scan.warnings.iter().chain(&skipped).collect::<Vec<_>>(),
        "manifest": manifest,
    });
    Ok(Summary { text, json })
}
