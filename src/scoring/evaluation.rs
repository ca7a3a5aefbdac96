//! Scores of predictions against the truth, both from files of any program.

use std::path::Path;

use crate::{
    base::{Error, Result},
    config::Method,
    data::labels::{CLASSES, Labels},
    scoring::{
        metrics::{
            self, Counts,
            matrix::{self, PredictionMatrix},
        },
        thresholds,
    },
};

/// Predictions and the truth for the same samples, in the same order.
pub struct Evaluation {
    predictions: PredictionMatrix,
    truth: Vec<Labels>,
}

/// Scores at one threshold.
pub struct Scores {
    /// By class.
    pub counts: [Counts; CLASSES],
    /// By class, 0 to 1.
    pub average_precision: [f64; CLASSES],
}

/// Macro F1, 0 to 1, with thresholds that a method fits on the predictions themselves.
pub struct MethodScore {
    pub method: Method,
    /// On samples that the thresholds were not fitted on.
    pub cross_fitted: f64,
    /// As `cross_fitted`, over the classes present, see [`metrics::macro_f1_present`].
    pub cross_fitted_present: f64,
    /// On the samples that they were fitted on.
    pub in_sample: f64,
}

impl Evaluation {
    /// Reads both files; rows are matched by id where both have ids, else by their order.
    ///
    /// # Errors
    /// Data where a file is damaged, has no row, or does not fit the other.
    pub fn read(predictions: &Path, truth: &Path) -> Result<Self> {
        let known = matrix::read_truth(truth)?;
        if known.labels.is_empty() {
            return Err(Error::data(truth, "no row: there is nothing to score"));
        }
        let read = matrix::read_predictions(predictions)?;
        Ok(Self { predictions: matrix::align(read, &known, predictions)?, truth: known.labels })
    }

    /// Number of samples, at least 1.
    pub fn samples(&self) -> usize {
        self.truth.len()
    }

    /// The scores where a class is predicted if its probability is above `threshold`. 32-bit
    /// probabilities are compared with the 32-bit threshold, as NumPy does.
    pub fn at(&self, threshold: f64) -> Scores {
        let single = self.predictions.single;
        let threshold = if single { f64::from(threshold as f32) } else { threshold };
        let probabilities = self.predictions.values.view();
        Scores {
            counts: metrics::counts(probabilities, &self.truth, &[threshold; CLASSES]),
            average_precision: metrics::average_precision(probabilities, &self.truth),
        }
    }

    /// The scores of a method; `folds` (2 to the number of samples) and `seed` are those of the
    /// inner folds.
    pub fn fit(&self, method: Method, folds: usize, seed: u64) -> MethodScore {
        let (probabilities, truth) = (self.predictions.values.view(), &self.truth);
        let own: Vec<usize> = (0..truth.len()).collect();
        let crossed = thresholds::cross_fitted(method, probabilities, truth, &own, folds, seed);
        let in_sample = thresholds::in_sample(method, probabilities, truth);
        let counts = metrics::counts_of(crossed.predicted, truth);
        MethodScore {
            method,
            cross_fitted: crossed.macro_f1,
            cross_fitted_present: metrics::macro_f1_present(&counts),
            in_sample,
        }
    }
}
