//! A run with its scores: what every section of the report reads.

use serde::Serialize;

use crate::{
    base::{Error, Result},
    config::Config,
    data::{
        folds::table::{self, FoldRow},
        labels::{CLASSES, Labels},
        work_folder::WorkFolder,
    },
    inference::{
        finished_run::{self, OutOfFold, SCORES, Thresholds},
        submit,
    },
    scoring::{
        metrics::{self, Counts},
        thresholds,
    },
    training::run_folder::Run,
    views::report::{
        bootstrap::{Bootstrap, Interval},
        calibration::{Reliability, reliability},
        cost::{Cost, cost},
        leaks,
    },
};

/// Resamples of the bootstrap.
pub const RESAMPLES: usize = 1000;
/// Bins of the reliability diagram.
const BINS: usize = 15;

/// A run and what its out-of-fold predictions score.
pub struct Scored {
    pub run: Run,
    pub config: Config,
    pub work: WorkFolder,
    pub answer: OutOfFold,
    /// Rows of `folds.csv`.
    pub folds: Vec<FoldRow>,
    /// By row of the answer, the group that is resampled as one.
    pub groups: Vec<usize>,
    pub methods: Vec<Thresholds>,
    /// Index of the method that the run's answer uses.
    pub used: usize,
    /// By row, what the cross-fitted thresholds of that method predict.
    pub predicted: Vec<Labels>,
    /// Of `predicted`.
    pub counts: [Counts; CLASSES],
    pub average_precision: [f64; CLASSES],
    pub bootstrap: Bootstrap,
    pub reliability: Reliability,
    /// Calibration error of each class alone.
    pub class_errors: [f64; CLASSES],
}

/// One class of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Class {
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

impl Scored {
    /// Reads and scores a run.
    ///
    /// # Errors
    /// Those of [`OutOfFold::read`] and [`finished_run::thresholds`]; data where `scores.csv` is of
    /// other predictions.
    pub fn read(config: &Config, run: &Run) -> Result<Self> {
        let work = WorkFolder::open(&config.paths.work);
        let answer = OutOfFold::read(config, &work, run)?;
        let (methods, used) = finished_run::thresholds(config, run)?;
        let name = &methods[used].method;
        let (method, _) =
            thresholds::METHODS.into_iter().find(|(_, n)| n == name).ok_or_else(|| {
                Error::data(
                    run.folder.join(SCORES),
                    format!("`{name}` is no method; run `atlas submit` again"),
                )
            })?;
        let crossed = submit::cross_fitted(config, method, &answer);
        if (crossed.macro_f1 - methods[used].cross_fitted).abs() > 1e-6 {
            let what = format!(
                "the predictions at hand score {:.4}, not as it says; run `atlas submit` again",
                crossed.macro_f1
            );
            return Err(Error::data(run.folder.join(SCORES), what));
        }
        let folds = table::read_table(&work.path().join(table::NAME))?;
        let groups = leaks::groups(&answer.ids, &folds);
        let probabilities = answer.probabilities.view();
        let question = |class: usize| {
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
            reliability: reliability((0..CLASSES).flat_map(question), BINS),
            class_errors: std::array::from_fn(|class| reliability(question(class), BINS).error),
            run: run.clone(),
            config: config.clone(),
            work,
            predicted: crossed.predicted,
            answer,
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

    pub fn interval(&self) -> Interval {
        Interval::of(self.bootstrap.macro_f1.clone())
    }

    /// Logs that do not say how many cores a task had count the threads of the run.
    pub fn cost(&self) -> Cost {
        cost(
            &self.config.paths.work,
            &self.run.name(),
            self.run.provenance()["threads"].as_u64().unwrap_or(1) as usize,
        )
    }

    pub fn method(&self) -> &Thresholds {
        &self.methods[self.used]
    }

    pub fn map(&self) -> f64 {
        metrics::mean_average_precision(&self.average_precision)
    }

    pub fn classes(&self) -> Vec<Class> {
        let class = |class: usize| Class {
            class,
            name: crate::data::labels::NAMES[class],
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

/// In the order of the ids, so that the draws of two runs over the same samples are the same.
fn bootstrap(answer: &OutOfFold, predicted: &[Labels], groups: &[usize]) -> Bootstrap {
    let mut order: Vec<usize> = (0..answer.ids.len()).collect();
    order.sort_by_key(|&i| (&answer.ids[i], answer.folds[i]));
    let sorted = |sets: &[Labels]| order.iter().map(|&i| sets[i]).collect::<Vec<_>>();
    let groups: Vec<usize> = order.iter().map(|&i| groups[i]).collect();
    Bootstrap::new(&sorted(predicted), &sorted(&answer.truth), &groups, RESAMPLES, 0)
}
