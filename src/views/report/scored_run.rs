//! A run with its scores, which all sections of the report read.

use serde::Serialize;

use crate::{
    base::{Error, Result},
    config::Config,
    data::{
        folds::table::{self, FoldRow},
        labels::{CLASSES, Labels, NAMES},
        work_folder::WorkFolder,
    },
    inference::{
        finished_run::{self, FittedThresholds, OutOfFold, SCORES, THRESHOLDS},
        submit,
    },
    scoring::metrics::{self, Counts},
    training::run_folder::Run,
    views::report::{
        bootstrap::{Bootstrap, Interval},
        cost::{Cost, cost},
        near_duplicates,
        reliability::{Reliability, reliability},
    },
};

/// Resamples of the bootstrap.
pub const RESAMPLES: usize = 1000;
/// Bins of the reliability diagram.
const BINS: usize = 15;

/// A run and the scores of its out-of-fold predictions.
pub struct ScoredRun {
    pub run: Run,
    pub config: Config,
    pub work: WorkFolder,
    pub out_of_fold: OutOfFold,
    /// Rows of `folds.csv`.
    pub folds: Vec<FoldRow>,
    /// By row of `out_of_fold`, the number of the group that is resampled as a whole.
    pub groups: Vec<usize>,
    pub methods: Vec<FittedThresholds>,
    /// Index of the method that the submission uses.
    pub used: usize,
    /// By row, the classes that this method predicts with cross-fitted thresholds.
    pub predicted: Vec<Labels>,
    /// Of `predicted`.
    pub counts: [Counts; CLASSES],
    pub average_precision: [f64; CLASSES],
    pub bootstrap: Bootstrap,
    pub reliability: Reliability,
    /// Calibration error of each class alone.
    pub class_errors: [f64; CLASSES],
}

/// The scores of one class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassScores {
    pub class: usize,
    pub name: &'static str,
    pub positives: u64,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    pub interval: Interval,
    pub average_precision: f64,
    pub threshold: f32,
    pub calibration_error: f64,
}

impl ScoredRun {
    /// Reads and scores a run.
    ///
    /// # Errors
    /// Those of [`OutOfFold::read`] and [`finished_run::thresholds`]; data where `scores.csv` is of
    /// other predictions.
    pub fn read(config: &Config, run: &Run) -> Result<Self> {
        let work = WorkFolder::of(config);
        let answer = OutOfFold::read(config, &work, run)?;
        let (methods, used) = finished_run::thresholds(run, config.submit.thresholds)?;
        let crossed = submit::cross_fitted(methods[used].method, &answer, config.split.seed);
        if (crossed.macro_f1 - methods[used].cross_fitted).abs() > 1e-6 {
            let what = format!(
                "the current predictions score {:.4}, not as it says; run `atlas submit` again",
                crossed.macro_f1
            );
            return Err(Error::data(run.folder.join(SCORES), what));
        }
        let of_table =
            metrics::counts(answer.probabilities.view(), &answer.truth, &methods[used].values);
        if (metrics::macro_f1(&of_table) - methods[used].in_sample).abs() > 1e-6 {
            let what = "does not score on the current predictions as scores.csv says; one of the \
                two was changed or copied from another run; run `atlas submit` again";
            return Err(Error::data(run.folder.join(THRESHOLDS), what));
        }
        let folds = table::read_table(&work.path().join(table::NAME))?;
        let groups = near_duplicates::groups(&answer.ids, &folds);
        let probabilities = answer.probabilities.view();
        let predictions = |class: usize| {
            probabilities
                .column(class)
                .into_iter()
                .copied()
                .zip(answer.truth.iter().map(move |t| t.contains(class)))
        };
        Ok(Self {
            counts: metrics::counts_of(crossed.predicted.iter().copied(), &answer.truth),
            average_precision: metrics::average_precision(probabilities, &answer.truth),
            bootstrap: bootstrap(&answer, &crossed.predicted, &groups),
            reliability: reliability((0..CLASSES).flat_map(predictions), BINS),
            class_errors: std::array::from_fn(|class| reliability(predictions(class), BINS).error),
            run: run.clone(),
            config: config.clone(),
            work,
            predicted: crossed.predicted,
            out_of_fold: answer,
            folds,
            groups,
            methods,
            used,
        })
    }

    /// Macro F1, cross-fitted.
    pub fn macro_f1(&self) -> f64 {
        metrics::macro_f1(&self.counts)
    }

    /// Macro F1, cross-fitted, over the classes that the samples have.
    pub fn macro_f1_present(&self) -> f64 {
        metrics::macro_f1_present(&self.counts)
    }

    pub fn interval(&self) -> Interval {
        Interval::of(self.bootstrap.macro_f1.clone())
    }

    /// Where a log has no number of cores, the threads of the run count.
    pub fn cost(&self) -> Cost {
        cost(
            &self.config.paths.work,
            &self.run.name(),
            self.run.provenance()["threads"].as_u64().unwrap_or(1) as usize,
        )
    }

    pub fn method(&self) -> &FittedThresholds {
        &self.methods[self.used]
    }

    pub fn map(&self) -> f64 {
        metrics::mean_average_precision(&self.average_precision)
    }

    pub fn classes(&self) -> Vec<ClassScores> {
        let class = |class: usize| ClassScores {
            class,
            name: NAMES[class],
            positives: self.counts[class].positives(),
            precision: self.counts[class].precision(),
            recall: self.counts[class].recall(),
            f1: self.counts[class].f1(),
            interval: self.bootstrap.of_class(class),
            average_precision: self.average_precision[class],
            threshold: self.method().values[class],
            calibration_error: self.class_errors[class],
        };
        (0..CLASSES).map(class).collect()
    }
}

/// Sorted by id, so that two runs with the same samples are scored on the same resamples.
fn bootstrap(answer: &OutOfFold, predicted: &[Labels], groups: &[usize]) -> Bootstrap {
    let mut order: Vec<usize> = (0..answer.ids.len()).collect();
    order.sort_by_key(|&i| (&answer.ids[i], answer.folds[i]));
    let sorted = |sets: &[Labels]| order.iter().map(|&i| sets[i]).collect::<Vec<_>>();
    let groups: Vec<usize> = order.iter().map(|&i| groups[i]).collect();
    Bootstrap::new(&sorted(predicted), &sorted(&answer.truth), &groups, RESAMPLES, 0)
}
