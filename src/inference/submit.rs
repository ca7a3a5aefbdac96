//! The answer of a run: thresholds fitted on the out-of-fold predictions of its finished folds,
//! their scores, and both submission files.

use std::collections::{HashMap, HashSet};

use crate::{
    base::{Error, Result, atomic_file},
    config::{Config, Method},
    data::{
        labels::{self, CLASSES, Labels, NAMES},
        manifest::{self, Manifest, Part},
        work_folder::WorkFolder,
    },
    inference::{
        finished_run::{OutOfFold, SCORES, THRESHOLDS},
        predict,
    },
    scoring::{
        metrics::{self, Counts},
        plot,
        prediction_file::Predictions,
        submission_csv,
        thresholds::{self, CrossFitted},
    },
    training::run_folder::Run,
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

/// The file in the run's folder that is written last where there is a test set, and after
/// [`SCORES`].
pub const FITTED: &str = "submission_optimal_threshold.csv";

/// Inner folds of the cross-fitted scores.
const INNER_FOLDS: usize = 5;

/// Fits, scores and writes `thresholds.csv`, `scores.csv`, `scores.svg`, `submission.csv` (0.5) and
/// `submission_optimal_threshold.csv` (`submit.thresholds`, else the method with the best
/// cross-fitted score).
///
/// # Errors
/// Usage where no fold is finished; data where predictions do not fit the manifest or
/// sample_submission.csv.
pub fn submit(config: &Config, run: &Run) -> Result<Outcome> {
    let work = &WorkFolder::open(&config.paths.work);
    let answer = OutOfFold::read(config, work, run)?;
    let (probabilities, truth) = (answer.probabilities.view(), &answer.truth);
    let fit = |&(method, name): &(Method, &'static str)| {
        let thresholds = thresholds::fit(method, probabilities, truth);
        let crossed = cross_fitted(config, method, &answer);
        let counts = metrics::counts_of(crossed.predicted, truth);
        let in_sample = metrics::macro_f1(&metrics::counts(probabilities, truth, &thresholds));
        Fit { method, name, thresholds, cross_fitted: crossed.macro_f1, counts, in_sample }
    };
    let fits: Vec<Fit> = thresholds::METHODS.iter().map(fit).collect();
    let best = (0..fits.len())
        .max_by(|&a, &b| fits[a].cross_fitted.total_cmp(&fits[b].cross_fitted))
        .unwrap_or(0);
    let used = fits.iter().position(|f| Some(f.method) == config.submit.thresholds).unwrap_or(best);
    write_tables(run, &fits)?;
    let title = format!("F1 per class, out of fold, {} thresholds cross-fitted", fits[used].name);
    atomic_file::write(
        run.folder.join("scores.svg"),
        plot::per_class(&title, &fits[used].counts)?,
    )?;
    let counts = metrics::counts(probabilities, truth, &fits[used].thresholds);
    let commonest = (0..CLASSES).max_by_key(|&c| counts[c].positives()).unwrap_or(0);
    let written = write_submissions(config, work, run, &fits[used].thresholds, commonest)?;
    let map = metrics::mean_average_precision(&metrics::average_precision(probabilities, truth));
    Ok(Outcome { fits, used, map, written })
}

/// The score of a method, and what it predicts, on samples that its thresholds have not seen.
pub fn cross_fitted(config: &Config, method: Method, answer: &OutOfFold) -> CrossFitted {
    let groups = same_sample(&answer.ids);
    thresholds::cross_fitted(
        method,
        answer.probabilities.view(),
        &answer.truth,
        &groups,
        INNER_FOLDS,
        config.split.seed,
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
    atomic_file::write(run.folder.join(THRESHOLDS), table)?;
    atomic_file::write(run.folder.join(SCORES), scores)
}

/// One number per sample, so that its several predictions fall into the same inner fold.
fn same_sample(ids: &[String]) -> Vec<usize> {
    let mut numbers = HashMap::new();
    ids.iter().enumerate().map(|(i, id)| *numbers.entry(id).or_insert(i)).collect()
}

/// Both submission files, in the order of sample_submission.csv. Returns false where nothing has
/// been predicted. An id whose images could not be read gets the commonest class: a submission that
/// lacks a row is refused.
fn write_submissions(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    fitted: &[f32; CLASSES],
    commonest: usize,
) -> Result<bool> {
    let files = predict::files(config, run, work.store(Part::Test)?)?;
    if files.iter().all(|f| !f.path.exists()) {
        return Ok(false);
    }
    if let Some(file) = files.iter().find(|f| !f.is_fresh()) {
        return Err(Error::data(
            &file.path,
            "is missing, or was made with other weights, settings or images; run `atlas predict`",
        ));
    }
    let mut rows = HashMap::new();
    for file in &files {
        let p = Predictions::read(&file.path)?;
        rows.extend(
            p.ids
                .into_iter()
                .zip(p.probabilities.rows().into_iter().map(|r| r.to_owned()).collect::<Vec<_>>()),
        );
    }
    let sample =
        config.data.kaggle.as_ref().map(|k| k.join("sample_submission.csv")).filter(|p| p.exists());
    let ids = match &sample {
        Some(path) => {
            let (ids, problems) = labels::read_ids(path)?;
            if let Some(problem) = problems.first() {
                return Err(Error::data(path, problem));
            }
            ids
        }
        None => {
            log::warn!(
                "there is no sample_submission.csv: the submissions list the test images by id"
            );
            let mut ids: Vec<String> = rows.keys().cloned().collect();
            ids.sort();
            ids
        }
    };
    let missing: Vec<&str> =
        ids.iter().filter(|id| !rows.contains_key(*id)).map(String::as_str).collect();
    let known = if missing.is_empty() { HashSet::new() } else { without_images(work)? };
    if let Some(id) = missing.iter().find(|id| !known.contains(**id)) {
        let what = format!(
            "the id {id} of sample_submission.csv was not there when the data were listed; run \
                `atlas run`, or plan to predict, again"
        );
        return Err(Error::data(Manifest::path(work.path()), what));
    }
    if !missing.is_empty() {
        let few = missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let name = NAMES[commonest];
        log::warn!(
            "{} ids have no readable images, such as {few}; they get the commonest class, \
                {commonest} ({name})",
            missing.len()
        );
    }
    for (name, thresholds) in [("submission.csv", &[0.5; CLASSES]), (FITTED, fitted)] {
        let mut fallback = Labels::default();
        fallback.insert(commonest);
        let answer = |id: &String| {
            rows.get(id).map_or(fallback, |row| submission_csv::labels_of(row.view(), thresholds))
        };
        submission_csv::write(
            &run.folder.join(name),
            &ids,
            &ids.iter().map(answer).collect::<Vec<_>>(),
        )?;
        submission_csv::check(&run.folder.join(name), &ids)?;
    }
    Ok(true)
}

/// Test ids whose images could not be used: in the manifest but perhaps in quarantine, or in
/// problems.csv.
fn without_images(work: &WorkFolder) -> Result<HashSet<String>> {
    let test = work.manifest()?.samples.iter().filter(|s| s.part == Part::Test);
    let in_manifest = test.map(|s| s.id.clone());
    Ok(in_manifest.chain(manifest::problem_ids(work.path(), "test")?).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_predictions_of_one_sample_have_one_number() {
        assert_eq!(same_sample(&["a", "b", "a", "c", "b"].map(String::from)), [0, 1, 0, 3, 1]);
    }
}
