//! `atlas submit`

use atlas::{
    base::task_log::Log,
    inference::{finished_run::FittedThresholds, submit},
    training::run_folder::Run,
};
use serde_json::json;

use crate::common::{Common, recorded};

/// Fit thresholds out of fold and write the submissions
///
/// Reads the out-of-fold predictions of all finished folds, results/<run>/predictions/ and
/// sample_submission.csv. Writes results/<run>/thresholds.csv (each method per class), scores.csv
/// (each method's macro F1, cross-fitted and in sample), scores.svg, submission.csv (0.5) and
/// submission_optimal_threshold.csv (the method of submit.thresholds, else the one with the best
/// cross-fitted score). A sample without a class above its threshold gets the most probable one;
/// one whose images could not be read gets the commonest. Predictions that were made with other
/// weights or settings are refused.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas submit --config configs/atlas.toml --set \
        submit.thresholds=proportion")]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let run = Run::existing(&config, args.run.as_deref())?;
    run.begin(&config)?;
    let log = Log::of(&config.paths.work, "submit", 0).in_run(&run.name());
    let submit::SubmitOutcome { fits, used, map, written } =
        recorded(&log, || Ok(submit::submit(&config, &run)?))?;
    let mut text = String::from("macro F1 out of fold    cross-fitted  in sample\n");
    let fits: Vec<_> = fits.iter().map(|fit| &fit.thresholds).collect();
    for (i, f) in fits.iter().enumerate() {
        text += &format!(
            "  {:<22}{:>10.4} {:>10.4}{}\n",
            f.method,
            f.cross_fitted,
            f.in_sample,
            if i == used { "  <- used" } else { "" }
        );
    }
    text += &format!("wrote {}: thresholds.csv, scores.csv, scores.svg", run.folder.display());
    text += match written {
        true => {
            ", submission.csv, submission_optimal_threshold.csv\nnext: hand in one of the two; \
                where the truth is known, atlas evaluate scores them"
        }
        false => " (no test predictions, so no submission)",
    };
    let score = |f: &&FittedThresholds| {
        let scores = json!({
            "cross_fitted_macro_f1": f.cross_fitted,
            "in_sample_macro_f1": f.in_sample,
        });
        (f.method.to_string(), scores)
    };
    let scores: serde_json::Map<_, _> = fits.iter().map(score).collect();
    args.common.print(
        text,
        json!({ "run": run.folder, "used": fits[used].method, "scores": scores, "map": map }),
    );
    Ok(())
}
