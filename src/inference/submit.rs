//! The submissions of a run: thresholds fitted on the out-of-fold predictions of its finished
//! folds, their scores, and both submission files.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use ndarray::Array1;
use strum::VariantArray;

use crate::{
    base::{Error, Result, atomic_file, csv_file},
    config::{Config, Method},
    data::{
        labels::{self, CLASSES, Labels, NAMES},
        manifest::{self, Manifest, Part, listed_id},
        work_folder::WorkFolder,
    },
    inference::{
        finished_run::{self, FittedThresholds, OutOfFold, SCORES, THRESHOLDS},
        predict::{self, ShardPredictions},
    },
    scoring::{
        metrics::{self, Counts},
        prediction_file::Predictions,
        score_chart, submission_csv,
        thresholds::{self, CrossFitted},
    },
    training::run_folder::Run,
};

/// The result of [`submit`].
pub struct SubmitOutcome {
    /// Every method, in the order of [`Method`].
    pub fits: Vec<FittedThresholds>,
    /// Index of the one behind submission_optimal_threshold.csv.
    pub used: usize,
    /// Out-of-fold mean average precision.
    pub map: f64,
    /// Whether the submissions were written: only where there are test predictions.
    pub written: bool,
}

/// The last file that [`submit`] writes where there is a test set; without one that is [`SCORES`].
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
pub fn submit(config: &Config, work: &WorkFolder, run: &Run) -> Result<SubmitOutcome> {
    let answer = OutOfFold::read(config, work, run)?;
    let (probabilities, truth) = (answer.probabilities.view(), &answer.truth);
    let fit = |&method: &Method| {
        let values = thresholds::fit(method, probabilities, truth);
        let CrossFitted { macro_f1: cross_fitted, predicted } =
            cross_fitted(method, &answer, config.split.seed);
        let in_sample = metrics::macro_f1(&metrics::counts(probabilities, truth, &values));
        let counts = metrics::counts_of(predicted, truth);
        let present = Some(metrics::macro_f1_present(&counts));
        let classes_present = Some(metrics::classes_present(&counts));
        let fitted =
            FittedThresholds { method, values, cross_fitted, in_sample, present, classes_present };
        (fitted, counts)
    };
    let (fits, counts): (Vec<_>, Vec<[Counts; CLASSES]>) = Method::VARIANTS.iter().map(fit).unzip();
    let used = finished_run::used_index(&fits, config.submit.thresholds).unwrap_or(0);
    let FittedThresholds { method, values, .. } = &fits[used];
    write_tables(run, &fits)?;
    let title = format!("F1 per class, out of fold, {method} thresholds cross-fitted");
    atomic_file::write(run.folder.join("scores.svg"), score_chart::draw(&title, &counts[used])?)?;
    let counts = metrics::counts(probabilities, truth, values);
    let commonest = (0..CLASSES).max_by_key(|&c| counts[c].positives()).unwrap_or(0);
    let files = predict::files(config, run, work.store(Part::Test)?)?;
    let kaggle = config.data.kaggle.as_deref();
    let written = write_submissions(&files, kaggle, work, run, values, commonest)?;
    let map = metrics::mean_average_precision(&metrics::average_precision(probabilities, truth));
    Ok(SubmitOutcome { fits, used, map, written })
}

/// The score and predictions of a method on samples that its thresholds were not fitted on. `seed`
/// draws the inner folds: `split.seed`.
pub fn cross_fitted(method: Method, answer: &OutOfFold, seed: u64) -> CrossFitted {
    let groups = sample_numbers(&answer.ids);
    thresholds::cross_fitted(
        method,
        answer.probabilities.view(),
        &answer.truth,
        &groups,
        INNER_FOLDS,
        seed,
    )
}

fn write_tables(run: &Run, fits: &[FittedThresholds]) -> Result<()> {
    let methods = fits.iter().map(|fit| fit.method.into());
    let header: Vec<&str> = ["class", "name"].into_iter().chain(methods).collect();
    let rows = NAMES.iter().enumerate().map(|(class, name)| {
        let values = fits.iter().map(|fit| fit.values[class].to_string());
        [class.to_string(), name.to_string()].into_iter().chain(values).collect::<Vec<_>>()
    });
    csv_file::write(&run.folder.join(THRESHOLDS), &header, rows)?;
    let header = [
        "method",
        "cross_fitted_macro_f1",
        "in_sample_macro_f1",
        "cross_fitted_macro_f1_present",
        "classes_present",
    ];
    let six = |score: f64| format!("{score:.6}");
    let rows = fits.iter().map(|fit| {
        let scores = (six(fit.cross_fitted), six(fit.in_sample), fit.present.map(six));
        (fit.method, scores, fit.classes_present)
    });
    csv_file::write(&run.folder.join(SCORES), &header, rows)
}

/// By row, a number that is equal for all rows of a sample, which keeps them in one inner fold.
fn sample_numbers(ids: &[String]) -> Vec<usize> {
    let mut numbers = HashMap::new();
    ids.iter().enumerate().map(|(i, id)| *numbers.entry(id).or_insert(i)).collect()
}

/// Both submission files, in the order of sample_submission.csv. Returns false where no test shard
/// has been predicted. An id whose images could not be read gets `commonest`, the class with the
/// most training samples: the competition refuses a submission that lacks a row.
fn write_submissions(
    files: &[ShardPredictions],
    kaggle: Option<&Path>,
    work: &WorkFolder,
    run: &Run,
    fitted: &[f32; CLASSES],
    commonest: usize,
) -> Result<bool> {
    if files.iter().all(|f| !f.path.exists()) {
        return Ok(false);
    }
    let probabilities = test_probabilities(files)?;
    let ids = submission_ids(kaggle, &probabilities)?;
    check_missing(work, &ids, &probabilities, commonest)?;
    let mut fallback = Labels::default();
    fallback.insert(commonest);
    for (name, thresholds) in [("submission.csv", &[0.5; CLASSES]), (FITTED, fitted)] {
        let labels = |id: &String| {
            probabilities
                .get(id)
                .map_or(fallback, |row| submission_csv::labels_of(row.view(), thresholds))
        };
        let path = run.folder.join(name);
        submission_csv::write(&path, &ids, &ids.iter().map(labels).collect::<Vec<_>>())?;
        submission_csv::check(&path, &ids)?;
    }
    Ok(true)
}

/// By id, the probabilities `[28]` of each test sample.
type TestProbabilities = HashMap<String, Array1<f32>>;

fn test_probabilities(files: &[ShardPredictions]) -> Result<TestProbabilities> {
    let mut rows = HashMap::new();
    if let Some(file) = files.iter().find(|f| !f.is_fresh()) {
        return Err(Error::data(
            &file.path,
            "is missing, or was made with other weights, settings or images; run `atlas predict`",
        ));
    }
    for file in files {
        let Predictions { ids, probabilities } = Predictions::read(&file.path)?;
        rows.extend(ids.into_iter().zip(probabilities.rows().into_iter().map(|r| r.to_owned())));
    }
    Ok(rows)
}

/// The ids of sample_submission.csv in the folder of the competition's data; without that file,
/// those of the predictions.
fn submission_ids(kaggle: Option<&Path>, predicted: &TestProbabilities) -> Result<Vec<String>> {
    let Some(path) = kaggle.map(|k| k.join("sample_submission.csv")).filter(|p| p.exists()) else {
        log::warn!("there is no sample_submission.csv: the submissions list the test images by id");
        let mut ids: Vec<String> = predicted.keys().cloned().collect();
        ids.sort();
        return Ok(ids);
    };
    let (ids, problems) = labels::read_ids(&path)?;
    problems.first().map_or(Ok(ids), |problem| Err(Error::data(&path, problem)))
}

/// Warns of ids without predictions.
///
/// # Errors
/// Data where the images of such an id were not in the data at all when `plan` listed them.
fn check_missing(
    work: &WorkFolder,
    ids: &[String],
    predicted: &TestProbabilities,
    commonest: usize,
) -> Result<()> {
    let missing: Vec<String> =
        ids.iter().filter(|id| !predicted.contains_key(*id)).map(|id| listed_id(id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let unusable = without_images(work)?;
    if let Some(id) = missing.iter().find(|id| !unusable.contains(*id)) {
        let what = format!(
            "the id {id} of sample_submission.csv was not there when the data were listed; run \
                `atlas run`, or plan to predict, again"
        );
        return Err(Error::data(Manifest::path(work.path()), what));
    }
    log::warn!(
        "{} ids have no readable images, such as {}; they get the commonest class, {commonest} \
            ({})",
        missing.len(),
        missing[..missing.len().min(3)].join(", "),
        NAMES[commonest]
    );
    Ok(())
}

/// Test ids whose images may be unusable: those of the manifest, since some of them are in
/// quarantine, and those in problems.csv.
fn without_images(work: &WorkFolder) -> Result<HashSet<String>> {
    let test = work.manifest()?.samples.iter().filter(|s| s.part == Part::Test);
    let in_manifest = test.map(|s| s.id.clone());
    Ok(in_manifest.chain(manifest::problem_ids(work.path(), "test")?).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_plan_refused_needs_no_prediction() {
        let dir = tempfile::tempdir().unwrap();
        Manifest::default().write(dir.path()).unwrap();
        let problems = "kind,place,id,detail\nids with control characters,test,a\\nb,\n";
        std::fs::write(dir.path().join("problems.csv"), problems).unwrap();
        let work = WorkFolder::open(dir.path(), 8);
        let check = |id: &str| check_missing(&work, &[id.into()], &HashMap::new(), 0);
        assert!(check("a\nb").is_ok());
        assert_eq!(check("ab").unwrap_err().exit_code(), 65);
    }

    #[test]
    fn the_rows_of_one_sample_have_one_number() {
        assert_eq!(sample_numbers(&["a", "b", "a", "c", "b"].map(String::from)), [0, 1, 0, 3, 1]);
    }
}
