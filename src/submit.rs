//! The answer of a run: thresholds fitted on the out-of-fold predictions of its finished folds, their scores, and both
//! submission files.

use std::{collections::HashMap, fs};

use ndarray::{Array2, Axis};

use crate::{
    artefact,
    config::{Config, Method},
    error::{Error, Result},
    labels::{CLASSES, Labels, NAMES},
    manifest::Manifest,
    metrics::{self, Counts},
    plot,
    predictions::Predictions,
    results::Run,
    submission, thresholds,
};

/// A method's thresholds and what they score on the out-of-fold predictions.
pub struct Fit {
    pub method: Method,
    pub name: &'static str,
    pub thresholds: [f32; CLASSES],
    /// Macro F1 on samples that the thresholds have not seen, and the hits and misses behind it.
    pub cross_fitted: f64,
    pub counts: [Counts; CLASSES],
    /// Macro F1 on the samples that they were fitted on.
    pub in_sample: f64,
}

/// What [`submit`] did.
pub struct Outcome {
    /// Every method, in the order of [`thresholds::METHODS`].
    pub fits: Vec<Fit>,
    /// Index of the one behind submission_optimal_threshold.csv.
    pub used: usize,
    /// Out-of-fold mean average precision.
    pub map: f64,
    /// Whether there are test predictions, so that the submissions were written.
    pub written: bool,
}

/// Inner folds of the cross-fitted scores.
const INNER_FOLDS: usize = 5;

/// Fits, scores and writes `thresholds.csv`, `scores.csv`, `scores.svg`, `submission.csv` (0.5) and
/// `submission_optimal_threshold.csv` (`submit.thresholds`, else the method with the best cross-fitted score).
///
/// # Errors
/// Usage where no fold is finished; data where predictions do not fit the manifest or sample_submission.csv.
pub fn submit(config: &Config, run: &Run) -> Result<Outcome> {
    let (probabilities, truth) = out_of_fold(config, run)?;
    let probabilities = probabilities.view();
    let fit = |&(method, name): &(Method, &'static str)| {
        let thresholds = thresholds::fit(method, probabilities, &truth);
        let crossed = thresholds::cross_fitted(method, probabilities, &truth, INNER_FOLDS, config.split.seed);
        let counts = metrics::counts_of(crossed.predicted, &truth);
        let in_sample = metrics::macro_f1(&metrics::counts(probabilities, &truth, &thresholds));
        Fit { method, name, thresholds, cross_fitted: crossed.macro_f1, counts, in_sample }
    };
    let fits: Vec<Fit> = thresholds::METHODS.iter().map(fit).collect();
    let best = (0..fits.len()).max_by(|&a, &b| fits[a].cross_fitted.total_cmp(&fits[b].cross_fitted)).unwrap_or(0);
    let used = fits.iter().position(|f| Some(f.method) == config.submit.thresholds).unwrap_or(best);
    write_tables(run, &fits)?;
    let title = format!("F1 per class, out of fold, {} thresholds cross-fitted", fits[used].name);
    artefact::write(run.folder.join("scores.svg"), plot::per_class(&title, &fits[used].counts)?)?;
    let written = write_submissions(config, run, &fits[used])?;
    let map = metrics::mean_average_precision(&metrics::average_precision(probabilities, &truth));
    Ok(Outcome { fits, used, map, written })
}

/// All finished folds' out-of-fold predictions `[n, 28]` and their truth. With shuffle splits a sample may stand in
/// several folds; each of its predictions counts.
fn out_of_fold(config: &Config, run: &Run) -> Result<(Array2<f32>, Vec<Labels>)> {
    let folds = run.finished_folds()?;
    if folds.is_empty() {
        return Err(Error::usage(format!("no fold of the run {} is finished; run `atlas train` first", run.folder.display())));
    }
    let parts = folds.iter().map(|&k| Predictions::read(&run.validation(k))).collect::<Result<Vec<_>>>()?;
    let views: Vec<_> = parts.iter().map(|p| p.probabilities.view()).collect();
    let probabilities = ndarray::concatenate(Axis(0), &views).map_err(Error::failed)?;
    let manifest = Manifest::read(&config.paths.work)?;
    let labels: HashMap<&str, Labels> = manifest.samples.iter().map(|s| (s.id.as_str(), s.labels)).collect();
    let ids = parts.iter().flat_map(|p| &p.ids);
    let truth = ids.map(|id| labels.get(id.as_str()).copied().ok_or_else(|| unknown(run, id))).collect::<Result<_>>()?;
    Ok((probabilities, truth))
}

fn unknown(run: &Run, id: &str) -> Error {
    Error::data(
        &run.folder,
        format!("sample {id} of the out-of-fold predictions is not in the manifest; train again or restore the manifest of this run"),
    )
}

fn write_tables(run: &Run, fits: &[Fit]) -> Result<()> {
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
fn write_submissions(config: &Config, run: &Run, chosen: &Fit) -> Result<bool> {
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
        let what = format!(
            "{} of the {} ids in sample_submission.csv have no prediction, such as {}; run preprocess and predict for them",
            missing.len(),
            ids.len(),
            missing[0]
        );
        return Err(Error::data(folder, what));
    }
    let flat: Vec<f32> = ids.iter().flat_map(|id| rows[id].iter().copied()).collect();
    let probabilities = Array2::from_shape_vec((ids.len(), CLASSES), flat).map_err(Error::failed)?;
    for (name, thresholds) in [("submission.csv", &[0.5; CLASSES]), ("submission_optimal_threshold.csv", &chosen.thresholds)] {
        let labels: Vec<Labels> = probabilities.rows().into_iter().map(|row| submission::labels_of(row, thresholds)).collect();
        submission::write(&run.folder.join(name), &ids, &labels)?;
        submission::check(&run.folder.join(name), &ids)?;
    }
    Ok(true)
}
