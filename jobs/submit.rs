//! `atlas submit`

use std::{collections::HashMap, fs};

use anyhow::Context;
use atlas::{
    Error, artefact,
    config::{Config, Method},
    labels::{CLASSES, Labels, NAMES},
    manifest::Manifest,
    metrics, plot,
    predictions::Predictions,
    results::Run,
    submission, thresholds,
};
use ndarray::{Array2, Axis};
use serde_json::json;

use crate::common::Common;

/// Fit thresholds out of fold and write the submissions
///
/// Reads the out-of-fold predictions of all finished folds, results/<run>/predictions/ and sample_submission.csv. Writes
/// results/<run>/thresholds.csv (each method per class), scores.csv (each method's macro F1, cross-fitted and in sample),
/// scores.svg, submission.csv (0.5) and submission_optimal_threshold.csv (the method of submit.thresholds, else the one
/// with the best cross-fitted score). A sample without a class above its threshold gets the most probable one.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas submit --config configs/atlas.toml --set submit.thresholds=proportion")]
pub struct Args {
    /// Name of the run (default: the newest one)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// A method's thresholds and what they score on the out-of-fold predictions.
struct Fit {
    method: Method,
    name: &'static str,
    thresholds: [f32; CLASSES],
    cross_fitted: f64,
    in_sample: f64,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let run = Run::existing(&config, args.run.as_deref())?;
    let (valid, truth) = out_of_fold(&config, &run)?;
    let probabilities = valid.probabilities.view();
    let fits: Vec<Fit> = thresholds::METHODS
        .iter()
        .map(|&(method, name)| {
            let thresholds = thresholds::fit(method, probabilities, &truth);
            Fit {
                method,
                name,
                cross_fitted: thresholds::cross_fitted(method, probabilities, &truth, 5, config.split.seed).macro_f1,
                in_sample: metrics::macro_f1(&metrics::counts(probabilities, &truth, &thresholds)),
                thresholds,
            }
        })
        .collect();
    let best = fits.iter().max_by(|a, b| a.cross_fitted.total_cmp(&b.cross_fitted)).context("there are five methods")?;
    let chosen = fits.iter().find(|f| Some(f.method) == config.submit.thresholds).unwrap_or(best);
    write_tables(&run, &fits)?;
    let counts = metrics::counts(probabilities, &truth, &chosen.thresholds);
    let title = format!("out-of-fold F1 per class, {} thresholds (in sample)", chosen.name);
    artefact::write(run.folder.join("scores.svg"), plot::per_class(&title, &counts)?)?;
    let written = write_submissions(&config, &run, chosen)?;

    let mut text = String::from("macro F1 out of fold    cross-fitted  in sample\n");
    for f in &fits {
        text += &format!("  {:<22}{:>10.4} {:>10.4}{}\n", f.name, f.cross_fitted, f.in_sample, if std::ptr::eq(f, chosen) { "  <- used" } else { "" });
    }
    text += &format!("wrote {}: thresholds.csv, scores.csv, scores.svg", run.folder.display());
    text += if written { ", submission.csv, submission_optimal_threshold.csv" } else { " (no test predictions, so no submission)" };
    let scores: serde_json::Map<_, _> =
        fits.iter().map(|f| (f.name.to_string(), json!({ "cross_fitted_macro_f1": f.cross_fitted, "in_sample_macro_f1": f.in_sample }))).collect();
    args.common.print(text, json!({ "run": run.folder, "used": chosen.name, "scores": scores, "map": metrics::mean_average_precision(&metrics::average_precision(probabilities, &truth)) }));
    Ok(())
}

/// All finished folds' out-of-fold predictions and their truth. With shuffle splits a sample may stand in several folds;
/// each of its predictions counts.
fn out_of_fold(config: &Config, run: &Run) -> anyhow::Result<(Predictions, Vec<Labels>)> {
    let folds = run.finished_folds()?;
    if folds.is_empty() {
        return Err(Error::usage(format!("no fold of the run {} is finished; run `atlas train` first", run.folder.display())).into());
    }
    let parts = folds.iter().map(|&k| Predictions::read(&run.validation(k))).collect::<atlas::Result<Vec<_>>>()?;
    let views: Vec<_> = parts.iter().map(|p| p.probabilities.view()).collect();
    let probabilities = ndarray::concatenate(Axis(0), &views)?;
    let ids: Vec<String> = parts.iter().flat_map(|p| p.ids.clone()).collect();
    let manifest = Manifest::read(&config.paths.work)?;
    let labels: HashMap<&str, Labels> = manifest.samples.iter().map(|s| (s.id.as_str(), s.labels)).collect();
    let truth = ids.iter().map(|id| labels.get(id.as_str()).copied().ok_or_else(|| unknown(run, id))).collect::<atlas::Result<_>>()?;
    Ok((Predictions { ids, probabilities }, truth))
}

fn unknown(run: &Run, id: &str) -> Error {
    Error::data(&run.folder, format!("sample {id} of the out-of-fold predictions is not in the manifest; train again or restore the manifest of this run"))
}

fn write_tables(run: &Run, fits: &[Fit]) -> atlas::Result<()> {
    let mut table = String::from("class,name");
    let mut scores = String::from("method,cross_fitted_macro_f1,in_sample_macro_f1\n");
    for f in fits {
        table += &format!(",{}", f.name);
        scores += &format!("{},{:.6},{:.6}\n", f.name, f.cross_fitted, f.in_sample);
    }
    table.push('\n');
    for (c, name) in NAMES.iter().enumerate() {
        table += &format!("{c},{name}");
        for f in fits {
            table += &format!(",{}", f.thresholds[c]);
        }
        table.push('\n');
    }
    artefact::write(run.folder.join("thresholds.csv"), table)?;
    artefact::write(run.folder.join("scores.csv"), scores)
}

/// Both submission files, in the order of sample_submission.csv. Returns false where there is no test set.
fn write_submissions(config: &Config, run: &Run, chosen: &Fit) -> anyhow::Result<bool> {
    let folder = run.folder.join("predictions");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(false) };
    let mut files: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "h5")).collect();
    files.sort();
    if files.is_empty() {
        return Ok(false);
    }
    let mut rows = HashMap::new();
    for file in &files {
        let p = Predictions::read(file)?;
        rows.extend(p.ids.into_iter().zip(p.probabilities.rows().into_iter().map(|r| r.to_vec()).collect::<Vec<_>>()));
    }
    let sample = config.data.kaggle.as_ref().map(|k| k.join("sample_submission.csv")).filter(|p| p.exists());
    let ids = match &sample {
        Some(path) => submission::read_ids(path)?,
        None => {
            log::warn!("there is no sample_submission.csv: the submissions list the test images by id");
            let mut ids: Vec<String> = rows.keys().cloned().collect();
            ids.sort();
            ids
        }
    };
    let missing: Vec<&String> = ids.iter().filter(|id| !rows.contains_key(*id)).collect();
    if !missing.is_empty() {
        let what = format!("{} of the {} ids in sample_submission.csv have no prediction, such as {}; run preprocess and predict for them", missing.len(), ids.len(), missing[0]);
        return Err(Error::data(folder, what).into());
    }
    let flat: Vec<f32> = ids.iter().flat_map(|id| rows[id].iter().copied()).collect();
    let probabilities = Array2::from_shape_vec((ids.len(), CLASSES), flat)?;
    for (name, thresholds) in [("submission.csv", &[0.5; CLASSES]), ("submission_optimal_threshold.csv", &chosen.thresholds)] {
        let labels: Vec<Labels> = probabilities.rows().into_iter().map(|row| submission::labels_of(row, thresholds)).collect();
        submission::write(&run.folder.join(name), &ids, &labels)?;
        submission::check(&run.folder.join(name), &ids)?;
    }
    Ok(true)
}
