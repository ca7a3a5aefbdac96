//! The results of a finished run, read back from its files: out-of-fold predictions and fitted
//! thresholds.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, Result, advice, checksum, csv_file},
    config::{Config, Method, SplitMethod},
    data::{
        folds::table,
        labels::{CLASSES, Labels},
        work_folder::WorkFolder,
    },
    scoring::{metrics, prediction_file::Predictions},
    training::{fold_status::has_predictions, fold_weights, run_folder::Run},
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
    /// Usage where no fold is finished; data where weights or predictions were copied from another
    /// fold or run, or predictions do not belong to the weights (if these still exist) or to the
    /// manifest.
    pub fn read(config: &Config, work: &WorkFolder, run: &Run) -> Result<Self> {
        let finished = run.finished_folds()?;
        let read = |&k: &usize| {
            must_be_of_weights(config, run, k)?;
            Predictions::read(&run.validation(k))
        };
        let parts = finished.iter().map(read).collect::<Result<Vec<_>>>()?;
        must_be_of_folds(config, work, run, finished.iter().copied().zip(&parts))?;
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

/// # Errors
/// Data, where the weights of a fold still exist and are of another fold or run, or did not make
/// its predictions.
fn must_be_of_weights(config: &Config, run: &Run, fold: usize) -> Result<()> {
    if !run.weights(fold, config.train.keep).exists() {
        return Ok(());
    }
    fold_weights::of_fold(run, fold, config.train.keep)?;
    if has_predictions(config, run, fold) {
        return Ok(());
    }
    Predictions::read(&run.validation(fold))?; // damaged ones say so
    let what = format!(
        "made with other weights or other predict keys; `atlas train --fold {fold} --run {}` \
            predicts again",
        advice::quoted(run.name())
    );
    Err(Error::data(run.validation(fold), what))
}

/// # Errors
/// Data, where the predictions of a fold are not of the samples that it validates on: by folds.csv
/// where that is the one of the training, else where two folds of a partition share a sample.
fn must_be_of_folds<'a>(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    parts: impl Iterator<Item = (usize, &'a Predictions)>,
) -> Result<()> {
    let table = work.path().join(table::NAME);
    let now = checksum::of_file(&table).ok().map(|sum| format!("{sum:016x}"));
    let trained = run.provenance()["folds_xxh3"].as_str().map(String::from);
    let rows = match now.is_some() && now == trained {
        true => Some(table::read_table(&table)?),
        false => None,
    };
    let mut seen = HashMap::new();
    for (fold, part) in parts {
        let wrong = |what: String| {
            let what = format!(
                "{what}: the file is of another fold or run; put the file of this fold back, or \
                 train into a new run with --run NAME"
            );
            Error::data(run.validation(fold), what)
        };
        if let Some(rows) = &rows {
            let wanted = rows.iter().filter(|row| row.folds.contains(&fold));
            let wanted: HashSet<&str> = wanted.map(|row| row.id.as_str()).collect();
            if let Some(id) = part.ids.iter().find(|id| !wanted.contains(id.as_str())) {
                let table = table.display();
                return Err(wrong(format!(
                    "holds the sample {id}, on which fold {fold} does not validate by {table}"
                )));
            }
            if part.ids.len() != wanted.len() {
                let (found, wanted) = (part.ids.len(), wanted.len());
                return Err(wrong(format!("holds {found} samples instead of {wanted}")));
            }
        } else if config.split.method != SplitMethod::Shuffle {
            let earlier = part.ids.iter().find_map(|id| Some((id, seen.insert(id, fold)?)));
            if let Some((id, other)) = earlier {
                let what = format!(
                    "holds the sample {id}, as that of fold {other} does: the two were trained on \
                     different versions of {}, or one of the files was copied; train all folds \
                     into a new run with --run NAME",
                    table.display()
                );
                return Err(Error::data(run.validation(fold), what));
            }
        }
    }
    Ok(())
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
    /// `cross_fitted` over the classes present, and their number, see
    /// [`metrics::macro_f1_present`]; `None` in files of earlier versions.
    #[serde(rename = "cross_fitted_macro_f1_present", default)]
    pub present: Option<f64>,
    #[serde(default)]
    pub classes_present: Option<usize>,
}

impl FittedThresholds {
    /// What to print behind the cross-fitted score, see [`metrics::over_present`].
    pub fn over_present(&self) -> String {
        let both = self.present.zip(self.classes_present);
        both.map_or(String::new(), |(score, classes)| metrics::over_present(score, classes))
    }
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
    let mut reader = csv_file::reader(&table, "submit")?;
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
