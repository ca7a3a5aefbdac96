//! The results of a finished run, read back from its files: out-of-fold predictions and fitted
//! thresholds.

use std::{collections::HashMap, path::Path};

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, Result, advice, csv_file},
    config::{Config, Method},
    data::{
        labels::{CLASSES, Labels},
        work_folder::WorkFolder,
    },
    scoring::prediction_file::Predictions,
    training::{fold_status::has_predictions, run_folder::Run},
};

/// The out-of-fold predictions of all finished folds, with the truth. With shuffle splits a sample
/// may be in the validation part of several folds; it then has a row for each.
pub struct OutOfFold {
    pub ids: Vec<String>,
    /// By row, the fold whose network predicted it.
    pub folds: Vec<usize>,
    /// `[n, 28]`, 0 to 1.
    pub probabilities: Array2<f32>,
    pub truth: Vec<Labels>,
}

impl OutOfFold {
    /// # Errors
    /// Usage where no fold is finished; data where predictions do not belong to the weights (if
    /// these still exist) or to the manifest.
    pub fn read(config: &Config, work: &WorkFolder, run: &Run) -> Result<Self> {
        let finished = run.finished_folds()?;
        if let Some(k) = finished.iter().find(|&&k| {
            run.weights(k, config.train.keep).exists() && !has_predictions(config, run, k)
        }) {
            let what = format!(
                "made with other weights or other predict keys; `atlas train --fold {k} --run {}` \
                    predicts again",
                advice::quoted(run.name())
            );
            return Err(Error::data(run.validation(*k), what));
        }
        let parts = finished
            .iter()
            .map(|&k| Predictions::read(&run.validation(k)))
            .collect::<Result<Vec<_>>>()?;
        let folds = finished
            .iter()
            .zip(&parts)
            .flat_map(|(&fold, part)| vec![fold; part.ids.len()])
            .collect();
        let views: Vec<_> = parts.iter().map(|p| p.probabilities.view()).collect();
        let probabilities = ndarray::concatenate(Axis(0), &views).map_err(Error::failed)?;
        let labels: HashMap<&str, Labels> =
            work.manifest()?.samples.iter().map(|s| (s.id.as_str(), s.labels)).collect();
        let ids: Vec<String> = parts.into_iter().flat_map(|p| p.ids).collect();
        let truth = ids
            .iter()
            .map(|id| labels.get(id.as_str()).copied().ok_or_else(|| unknown(run, id)))
            .collect::<Result<_>>()?;
        Ok(Self { ids, folds, probabilities, truth })
    }
}

fn unknown(run: &Run, id: &str) -> Error {
    Error::data(
        &run.folder,
        format!(
            "sample {id} of the out-of-fold predictions is not in the manifest; train again or \
                restore the manifest of this run"
        ),
    )
}

/// The tables in the run's folder that [`submit`](crate::inference::submit) writes.
pub const THRESHOLDS: &str = "thresholds.csv";
pub const SCORES: &str = "scores.csv";

/// The thresholds that one method fitted (`thresholds.csv`) and their scores (a row of
/// `scores.csv`).
#[derive(Serialize, Deserialize)]
pub struct FittedThresholds {
    pub method: Method,
    /// By class.
    #[serde(skip_deserializing)]
    pub values: [f32; CLASSES],
    /// Macro F1, 0 to 1, on samples that the thresholds were not fitted on.
    #[serde(rename = "cross_fitted_macro_f1")]
    pub cross_fitted: f64,
    /// Macro F1, 0 to 1, on the samples that they were fitted on.
    #[serde(rename = "in_sample_macro_f1")]
    pub in_sample: f64,
}

/// The index of the thresholds that the submission uses: those of `wanted` (`submit.thresholds`),
/// else those with the best cross-fitted score; `None` where there are none.
pub fn used_index(all: &[FittedThresholds], wanted: Option<Method>) -> Option<usize> {
    let best = (0..all.len()).max_by(|&a, &b| all[a].cross_fitted.total_cmp(&all[b].cross_fitted));
    all.iter().position(|fitted| Some(fitted.method) == wanted).or(best)
}

/// The thresholds of every method, in the order of the files, and the index of those used
/// ([`used_index`]).
///
/// # Errors
/// Usage where `submit` has not run; data where a file is damaged or the two do not match.
pub fn thresholds(run: &Run, wanted: Option<Method>) -> Result<(Vec<FittedThresholds>, usize)> {
    let (table, scores) = (run.folder.join(THRESHOLDS), run.folder.join(SCORES));
    if !table.exists() || !scores.exists() {
        return Err(Error::usage(format!(
            "{} is not there; run `atlas submit` first",
            table.display()
        )));
    }
    let mut all: Vec<FittedThresholds> = csv_file::read(&scores, "submit")?;
    let broken =
        |path: &Path, what: String| Error::data(path, format!("{what}; run `atlas submit` again"));
    let unreadable = |e: csv::Error| csv_file::unreadable(&table, &e, "submit");
    let mut reader = csv::Reader::from_path(&table).map_err(unreadable)?;
    let header = reader.headers().map_err(unreadable)?.clone();
    let rows = reader.records().collect::<csv::Result<Vec<_>>>().map_err(unreadable)?;
    if rows.len() != CLASSES {
        return Err(broken(&table, format!("expected {CLASSES} rows, found {}", rows.len())));
    }
    for FittedThresholds { method, values, .. } in &mut all {
        let column = header.iter().position(|name| name == <&str>::from(*method));
        let column = column.ok_or_else(|| broken(&table, format!("no column `{method}`")))?;
        for (value, row) in values.iter_mut().zip(&rows) {
            let text = &row[column];
            *value =
                text.parse().map_err(|_| broken(&table, format!("`{text}` is not a number")))?;
        }
    }
    let used = used_index(&all, wanted).ok_or_else(|| broken(&scores, "no method".into()))?;
    Ok((all, used))
}

/// The thresholds that the submission uses; `None` where `submit` has not run.
///
/// # Errors
/// Data, as [`thresholds`].
pub fn used_thresholds(run: &Run, wanted: Option<Method>) -> Result<Option<FittedThresholds>> {
    match thresholds(run, wanted) {
        Ok((mut all, used)) => Ok(Some(all.swap_remove(used))),
        Err(Error::Usage(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// By class, the thresholds that the submission uses, and their method; 0.5 and a warning where
/// `submit` has not run.
///
/// # Errors
/// Data, as [`thresholds`].
pub fn thresholds_or_half(run: &Run, wanted: Option<Method>) -> Result<([f32; CLASSES], Method)> {
    if let Some(used) = used_thresholds(run, wanted)? {
        return Ok((used.values, used.method));
    }
    log::warn!(
        "{} has no thresholds: every one is 0.5; `atlas submit` fits them",
        run.folder.display()
    );
    Ok(([0.5; CLASSES], Method::Half))
}
