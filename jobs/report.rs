//! `atlas report`

use atlas::{training::run_folder::Run, views::report};
use serde_json::json;

use crate::common::Common;

/// Make one page of a run: results/<run>/report.html
///
/// Reads what training and submit left in the run's folder, the tables of dedup and split, and the
/// shards. Writes one file that opens from disk and needs nothing else: scores with intervals,
/// learning curves, every class, what is taken for what, calibration, thresholds, folds,
/// near-duplicates, the most confident mistakes, where the networks look, and what it cost. A
/// report that is there already and of the same files (but for the task logs, which give the cost)
/// is left as it is. Pictures are left out where the shards are gone, activation maps where the
/// checkpoints are.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas report --config configs/atlas.toml --run 20260131-235959 \
        --compare 20260130-120000")]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Runs in the same folder to set beside it
    #[arg(long, value_name = "NAME", num_args = 1..)]
    compare: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let run = Run::existing(&config, args.run.as_deref())?;
    let others = args
        .compare
        .iter()
        .map(|name| report::other(&config, name))
        .collect::<atlas::base::Result<Vec<_>>>()?;
    let report::ReportOutcome { path, made } = report::report(&config, &run, &others)?;
    let text = match &made {
        None => format!("{} is there already, and nothing has changed", path.display()),
        Some(h) => {
            let report::Headline { macro_f1, interval } = h;
            format!(
                "macro F1 {macro_f1:.3} (95 % interval {:.3} to {:.3}), cross-fitted\nwrote {}",
                interval.low,
                interval.high,
                path.display()
            )
        }
    };
    let score = made
        .map(|h| json!({ "macro_f1": h.macro_f1, "low": h.interval.low, "high": h.interval.high }));
    args.common.print(text, json!({ "report": path, "made": score.is_some(), "score": score }));
    Ok(())
}
