//! `atlas run`

use std::time::Instant;

use atlas::{
    base::{Error, pipeline_step::Step, progress::duration},
    config::Config,
    data::work_folder::WorkFolder,
    distributed::{self, device},
    inference::finished_run,
    operations::pipeline::{self, Steps, launch},
    training::{fold_status::FoldStatus, run_folder::Run},
};
use serde_json::json;

use crate::{
    common::{Common, STOP, Summary, WHOLE, stop_on_signals},
    dedup::dedup,
    plan::plan,
    predict::predict,
    preprocess::preprocess,
    report::report,
    split::split,
    submit::submit,
    train::train,
};

/// The whole pipeline on this machine, from images to scored submissions
///
/// Runs plan, preprocess, dedup, split, train (every fold), predict, submit and report in order.
/// Each step does only what is missing or stale: to continue an interrupted run, run the same
/// command again. With train.ranks above 1 it trains through `mpirun` (ATLAS_MPIRUN names another
/// launcher).
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
    let named = Run::named(&config.paths.results, args.run.as_deref())?;
    pipeline::check(&config, named.as_ref())?;
    let run = all_steps(&args.common, &config, named)?;
    let seconds = start.elapsed().as_secs_f64();
    let (fits, used) = finished_run::thresholds(&run, config.submit.thresholds)?;
    let fitted = &fits[used];
    let finished_run::FittedThresholds { method, cross_fitted, .. } = fitted;
    let text = format!(
        "done in {}: macro F1 {cross_fitted:.3}{} out of fold ({method} thresholds, cross-fitted)\n\
         wrote {}\nopen report.html there",
        duration(seconds),
        fitted.over_present(),
        run.folder.display()
    );
    let json = json!({
        "run": run.folder, "seconds": seconds, "method": method,
        "cross_fitted_macro_f1": cross_fitted, "cross_fitted_macro_f1_present": fitted.present,
        "classes_present": fitted.classes_present,
    });
    args.common.print(text, json)?;
    Ok(())
}

fn all_steps(common: &Common, config: &Config, named: Option<Run>) -> anyhow::Result<Run> {
    let mut steps = Steps::new(config.split.folds, &STOP);
    let work = || WorkFolder::of(config); // anew for each step, which may change it
    steps.begin(Step::Plan)?;
    log_summary(&plan(config)?);
    steps.begin(Step::Preprocess)?;
    log_summary(&preprocess(config, &work(), WHOLE)?);
    steps.begin(Step::Dedup)?;
    log_summary(&dedup(config, &work())?);
    steps.begin(Step::Split)?;
    log_summary(&split(config)?);
    let (run, statuses) = pipeline::choose_run(config, &work(), named)?;
    for (fold, status) in statuses.into_iter().enumerate() {
        steps.begin_fold(fold)?;
        if status == FoldStatus::Done {
            log::info!("  fold {fold} is finished already");
            continue;
        }
        match config.train.ranks {
            1 => log_summary(&train(config, &run, fold)?),
            ranks => {
                let stop = stop_on_signals()?;
                launch::train_on_ranks(&run, fold, ranks, &common.to_options(), stop)?;
            }
        }
        steps.end_fold();
    }
    steps.begin(Step::Predict)?;
    log_summary(&predict(config, &work(), &run, WHOLE)?);
    steps.begin(Step::Submit)?;
    log_summary(&submit(config, &work(), &run)?);
    steps.begin(Step::Report)?;
    log_summary(&report(config, &run, &[])?);
    Ok(run)
}

/// The result of a step is progress here, and the next step follows.
fn log_summary(summary: &Summary) {
    let lines = summary.text.lines().filter(|line| !line.starts_with("next: "));
    lines.for_each(|line| log::info!("  {line}"));
}
