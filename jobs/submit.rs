//! `atlas submit`

use atlas::{
    base::{pipeline_step::Step, task_log::TaskLog},
    config::Config,
    data::work_folder::WorkFolder,
    inference::submit,
    training::{run_choice, run_folder::Run},
};
use serde_json::{Map, Value, json};

use crate::common::{Common, Summary, recorded};

/// Fit thresholds out of fold and write the submissions
///
/// Reads the out-of-fold predictions of all finished folds, results/<run>/predictions/ and
/// sample_submission.csv. Writes results/<run>/thresholds.csv (each method per class), scores.csv
/// (each method's macro F1, cross-fitted, in sample, and over the classes present), scores.svg,
/// submission.csv (0.5) and submission_optimal_threshold.csv (the method of submit.thresholds, else
/// the one with the best cross-fitted score). A sample with no class above its threshold gets the
/// most probable class; one whose images could not be read gets the most frequent class.
/// Predictions that were made with other weights or settings are refused.
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
    let work = &WorkFolder::of(&config);
    let run = run_choice::existing(&config, work, args.run.as_deref())?;
    let Summary { text, json } = submit(&config, work, &run)?;
    args.common.print(text, json)?;
    Ok(())
}

/// Fits the thresholds of a run and writes its submissions.
pub fn submit(config: &Config, work: &WorkFolder, run: &Run) -> anyhow::Result<Summary> {
    run.begin(config, work)?;
    let log = TaskLog::of(work.path(), Step::Submit, 0).in_run(&run.name());
    let submit::SubmitOutcome { fits, used, map, written } =
        recorded(&log, || Ok(submit::submit(config, work, run)?))?;
    let mut text = String::from("macro F1 out of fold    cross-fitted  in sample  present\n");
    let mut scores = Map::new();
    for (i, f) in fits.iter().enumerate() {
        let mark = if i == used { "  <- used" } else { "" };
        let present = f.present.unwrap_or_default();
        text += &format!(
            "  {:<22}{:>10.4} {:>10.4} {present:>8.4}{mark}\n",
            f.method, f.cross_fitted, f.in_sample
        );
        let score: Value = json!({
            "cross_fitted_macro_f1": f.cross_fitted, "in_sample_macro_f1": f.in_sample,
            "cross_fitted_macro_f1_present": present,
        });
        scores.insert(f.method.to_string(), score);
    }
    let classes = fits[used].classes_present.unwrap_or(0);
    text += &format!("present: over the {classes} classes that these samples have\n");
    text += &format!("wrote {}: thresholds.csv, scores.csv, scores.svg", run.folder.display());
    text += if written {
        ", submission.csv, submission_optimal_threshold.csv\nnext: hand in one of the two; where \
         the truth is known, `atlas evaluate --predictions FILE --truth FILE` scores them"
    } else {
        " (no test predictions, so no submission)"
    };
    let used = fits[used].method;
    let json = json!({
        "run": run.folder, "used": used, "scores": scores, "map": map, "classes_present": classes,
    });
    Ok(Summary { text, json })
}
