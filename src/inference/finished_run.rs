//! What a run has to say of its samples, read back from its files.

use std::{collections::HashMap, path::Path};

use ndarray::{Array2, Axis};

use crate::{
    base::{Error, Result},
    config::Config,
    data::{
        labels::{CLASSES, Labels},
        work_folder::WorkFolder,
    },
    scoring::{prediction_file::Predictions, thresholds::METHODS},
    training::{run_folder::Run, train},
};

/// All finished folds' out-of-fold predictions. With shuffle splits a sample may stand in several
/// folds; each of its predictions counts.
pub struct OutOfFold {
    pub ids: Vec<String>,
    /// By row, the fold that predicted it.
    pub folds: Vec<usize>,
    /// `[n, 28]`, 0 to 1.
    pub probabilities: Array2<f32>,
    pub truth: Vec<Labels>,
}

impl OutOfFold {
    /// # Errors
    /// Usage where no fold is finished; data where predictions do not fit the weights (if these are
    /// still there) or the manifest.
    pub fn read(config: &Config, work: &WorkFolder, run: &Run) -> Result<Self> {
        let finished = run.finished_folds()?;
        if let Some(k) = finished.iter().find(|&&k| {
            train::weights_path(config, run, k).exists() && !train::has_predictions(config, run, k)
        }) {
            let what = format!(
                "made with other weights or other predict keys; `atlas train --fold {k} --run {}` \
                    predicts again",
                run.name()
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

/// Names of the tables that [`submit`](crate::inference::submit) writes into the run's folder.
pub const THRESHOLDS: &str = "thresholds.csv";
pub const SCORES: &str = "scores.csv";

/// The fitted thresholds of one method, from `thresholds.csv`, and what they score, from
/// `scores.csv`.
pub struct Thresholds {
    pub method: String,
    pub values: [f32; CLASSES],
    /// Macro F1 on samples that the thresholds have not seen.
    pub cross_fitted: f64,
    /// Macro F1 on the samples that they were fitted on.
    pub in_sample: f64,
}

/// Every method's thresholds, in the order of the files, and the position of the one that the run's
/// answer uses: `submit.thresholds`, else the one with the best cross-fitted score.
///
/// # Errors
/// Usage where `submit` has not run; data where the files do not fit each other.
pub fn thresholds(config: &Config, run: &Run) -> Result<(Vec<Thresholds>, usize)> {
    let (table, scores) = (run.folder.join(THRESHOLDS), run.folder.join(SCORES));
    if !table.exists() || !scores.exists() {
        return Err(Error::usage(format!(
            "{} is not there; run `atlas submit` first",
            table.display()
        )));
    }
    let mut all = Vec::new();
    for score in rows(&scores)? {
        let [method, cross_fitted, in_sample] = &score[..] else {
            return Err(broken(&scores, "expected three columns"));
        };
        let number = |text: &str| {
            text.parse().map_err(|_| broken(&scores, &format!("`{text}` is not a number")))
        };
        all.push(Thresholds {
            method: method.clone(),
            values: [0.5; CLASSES],
            cross_fitted: number(cross_fitted)?,
            in_sample: number(in_sample)?,
        });
    }
    let lines = rows(&table)?;
    if lines.len() != CLASSES || lines.iter().any(|l| l.len() != 2 + all.len()) {
        return Err(broken(
            &table,
            &format!("expected {CLASSES} rows, one column for each method of {}", scores.display()),
        ));
    }
    for (class, line) in lines.iter().enumerate() {
        for (of, text) in all.iter_mut().zip(&line[2..]) {
            of.values[class] =
                text.parse().map_err(|_| broken(&table, &format!("`{text}` is not a number")))?;
        }
    }
    let best = (0..all.len()).max_by(|&a, &b| all[a].cross_fitted.total_cmp(&all[b].cross_fitted));
    let named = |method| METHODS.iter().find(|(m, _)| Some(*m) == method).map(|(_, name)| *name);
    let wanted = |t: &Thresholds| named(config.submit.thresholds) == Some(&t.method);
    let used = all.iter().position(wanted).or(best).ok_or_else(|| broken(&scores, "no method"))?;
    Ok((all, used))
}

/// The thresholds that the run's answer uses; `None` where `submit` has not run.
///
/// # Errors
/// As [`thresholds`], else.
pub fn used(config: &Config, run: &Run) -> Result<Option<Thresholds>> {
    match thresholds(config, run) {
        Ok((mut all, used)) => Ok(Some(all.swap_remove(used))),
        Err(Error::Usage(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn broken(path: &Path, what: &str) -> Error {
    Error::data(path, format!("{what}; run `atlas submit` again"))
}

fn rows(path: &Path) -> Result<Vec<Vec<String>>> {
    let wrong = |e: csv::Error| Error::data(path, e);
    let mut reader = csv::Reader::from_path(path).map_err(wrong)?;
    reader
        .records()
        .map(|r| r.map(|r| r.iter().map(String::from).collect()))
        .collect::<csv::Result<_>>()
        .map_err(wrong)
}
