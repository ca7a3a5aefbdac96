//! `atlas report`

use atlas::{
    base::thrown,
    config::Config,
    data::work_folder::WorkFolder,
    training::{run_choice, run_folder::Run},
    views::report,
};
use serde_json::json;

use crate::common::{Common, Summary};

/// Write a report on a run, one HTML page: results/<run>/report.html
///
/// Reads the files that train and submit wrote to the run's folder, the tables of dedup and split,
/// and the shards. Writes one file that opens from disk and needs no other: scores with intervals,
/// learning curves, every class, confusions, calibration, thresholds, folds, near-duplicates, the
/// most confident mistakes, class activation maps, and the cost. An existing report of the same
/// files (the task logs, which give the cost, aside) is kept. Images are omitted where the shards
/// are gone, activation maps where the checkpoints are.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas report --config configs/atlas.toml --run 20260131-235959 \
        --compare 20260130-120000")]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Runs in the same results folder to compare it with
    #[arg(long, value_name = "NAME", num_args = 1..)]
    compare: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let work = &WorkFolder::of(&config);
    let run = run_choice::existing(&config, work, args.run.as_deref())?;
    let Summary { text, json } = report(&config, &run, &args.compare)?;
    args.common.print(text, json)?;
    Ok(())
}

/// Writes the report of a run, compared with the runs of the names `compare`.
pub fn report(config: &Config, run: &Run, compare: &[String]) -> anyhow::Result<Summary> {
    let others = compare
        .iter()
        .map(|name| report::other(&config.paths.results, name))
        .collect::<atlas::base::Result<Vec<_>>>()?;
    let report::ReportOutcome { path, made } =
        thrown::catch(&thrown::ONE_IMAGE, || report::report(config, run, &others))?;
    let (text, score) = match &made {
        None => (format!("{} exists already, and nothing has changed", path.display()), None),
        Some(report::Headline { macro_f1, interval }) => {
            let text = format!(
                "macro F1 {macro_f1:.3} (95 % interval {:.3} to {:.3}), cross-fitted\nwrote {}",
                interval.low,
                interval.high,
                path.display()
            );
            let score = json!({
                "macro_f1": macro_f1, "low": interval.low, "high": interval.high,
            });
            (text, Some(score))
        }
    };
    let json = json!({ "report": path, "made": score.is_some(), "score": score });
    Ok(Summary { text, json })
}
