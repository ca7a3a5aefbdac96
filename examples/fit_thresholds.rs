//! Scores a matrix of probabilities against a truth, and fits thresholds by every method.
//!
//! ```sh
//! cargo run --release --example fit_thresholds -- PREDICTIONS TRUTH
//! cargo run --release --example fit_thresholds   # on random probabilities
//! ```
//!
//! PREDICTIONS is an `.npy` matrix `[n, 28]`, an `.h5` file with `/ids` and `/probabilities`, or a
//! CSV; TRUTH an `Id,Target` CSV or an `.npy` matrix of 0 and 1: the files that `atlas evaluate`
//! takes.

use std::{env, path::Path};

use atlas::{
    base::rng::{Use, stream},
    config::Method,
    data::labels::{CLASSES, Labels},
    scoring::{
        foreign_predictions,
        metrics::{self, matrix},
        thresholds,
    },
};
use ndarray::Array2;
use rand::RngExt;
use strum::VariantArray;

fn main() -> anyhow::Result<()> {
    foreign_predictions::answer_if_asked(); // HDF5 files are read by a second process
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (probabilities, truth) = match &arguments[..] {
        [predictions, truth] => read(predictions.as_ref(), truth.as_ref())?,
        [] => random(400),
        _ => anyhow::bail!("usage: fit_thresholds [PREDICTIONS TRUTH]"),
    };
    let view = probabilities.view();

    let counts = metrics::counts(view, &truth, &[0.5; CLASSES]);
    let precision = metrics::average_precision(view, &truth);
    println!("{} samples", truth.len());
    println!("macro F1 at 0.5  {:.4}", metrics::macro_f1(&counts));
    println!("mAP              {:.4}", metrics::mean_average_precision(&precision));

    // In-sample: thresholds are scored on the samples they were fitted on, which flatters them.
    // Cross-fitted: each of five inner folds is scored with thresholds fitted on the other four.
    let (folds, seed) = (5, 0);
    let groups: Vec<usize> = (0..truth.len()).collect(); // every row is a sample of its own
    println!("\nmethod      cross-fitted  in-sample");
    for &method in Method::VARIANTS {
        let cross_fitted =
            thresholds::cross_fitted(method, view, &truth, &groups, folds, seed).macro_f1;
        let in_sample = thresholds::in_sample(method, view, &truth);
        println!("{method:<12}{cross_fitted:>12.4}{in_sample:>11.4}");
    }
    Ok(())
}

/// Probabilities `[n, 28]` and truth from files, matched by id where both have ids.
fn read(predictions: &Path, truth: &Path) -> anyhow::Result<(Array2<f64>, Vec<Labels>)> {
    let truth = matrix::read_truth(truth)?;
    let aligned = matrix::align(matrix::read_predictions(predictions)?, &truth, predictions)?;
    Ok((aligned.values, truth.labels))
}

/// `n` samples of which class `c` has one in `2 + c`; positives score higher than negatives on
/// average, and all scores of rare classes are lower.
fn random(n: usize) -> (Array2<f64>, Vec<Labels>) {
    let mut rng = stream(Use::Synth, 7, 0, 0);
    let mut truth = vec![Labels::default(); n];
    let probabilities = Array2::from_shape_fn((n, CLASSES), |(i, class)| {
        let positive = rng.random_range(0..class + 2) == 0;
        if positive {
            truth[i].insert(class);
        }
        let score: f64 = rng.random_range(0.0..0.6) + if positive { 0.4 } else { 0.0 };
        score * 2.0 / (2.0 + class as f64).sqrt().max(2.0)
    });
    (probabilities, truth)
}
