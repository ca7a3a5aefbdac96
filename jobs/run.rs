//! `atlas run`

use std::time::Instant;

use atlas::{progress::duration, results::Run};
use serde_json::json;

use crate::{
    common::{Common, Tasks},
    dedup, plan, predict, preprocess, split, submit, train,
};

/// The whole pipeline on this machine, from images to scored submissions
///
/// Runs plan, preprocess, dedup, split, train (every fold), predict and submit in order. Each step does only what is
/// missing or stale, so that an interrupted run goes on where it was: run the same command again.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas run --config configs/demo.toml")]
pub struct Args {
    /// Name of the run (default: the newest one of the same configuration, else the time, UTC)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let config = args.common.config()?;
    let common = || Common { json: false, quiet: true, ..args.common.clone() };
    let steps = config.split.folds + 6;
    let mut at = 0;
    let mut step = |what: &str| {
        at += 1;
        log::info!("step {at} of {steps}: {what} ({} so far)", duration(start.elapsed().as_secs_f64()));
    };
    step("plan");
    plan::run(plan::Args::new(common()))?;
    step("preprocess");
    preprocess::run(preprocess::Args::new(common()))?;
    step("dedup");
    dedup::run(dedup::Args::new(common()))?;
    step("split");
    split::run(split::Args::new(common()))?;
    let run = match Run::finished(&config, args.run.as_deref())? {
        Some(run) => run,
        None => Run::to_train(&config, args.run.as_deref(), 0)?,
    };
    for fold in 0..config.split.folds {
        step(&format!("train fold {fold}"));
        if run.is_finished(fold) && run.trained_on(fold, &config)? {
            log::info!("fold {fold} is finished already");
            continue;
        }
        train::run(train::Args::new(fold, run.name(), common()))?;
    }
    step("predict");
    predict::run(predict::Args::new(run.name(), Tasks::default(), common()))?;
    step("submit");
    submit::run(submit::Args::new(run.name(), common()))?;
    let text = format!("done in {}; the results lie in {}", duration(start.elapsed().as_secs_f64()), run.folder.display());
    args.common.print(text, json!({ "run": run.folder, "seconds": start.elapsed().as_secs_f64() }));
    Ok(())
}
