//! `atlas evaluate`
use std::path::PathBuf;

use atlas::{
    base::Error,
    config::Method,
    data::labels::{CLASSES, NAMES},
    scoring::{
        metrics::{self, matrix},
        thresholds,
    },
};
use serde_json::{Map, Value, json};

use crate::common::{end_with_the_reader, must_exist};

/// Score predictions against the truth: macro F1, micro F1, mean average precision, figures per
/// class
///
/// Reads a submission (CSV Id,Predicted) or probabilities [n, 28] (CSV of an id and 28 columns,
/// .npy of any numeric type, .h5 with /probabilities and /ids) and a truth (CSV Id,Target, or .npy
/// of 0 and 1). Rows are matched by id where both have ids, else by order. Writes nothing.
///
/// A class is predicted where p > threshold, strictly; a class with no positive and no prediction
/// counts 0. With --fit, thresholds are fitted on the predictions: the cross-fitted score is on
/// samples that the thresholds have not seen, the in-sample one is too good to believe. The other
/// figures are always those at --threshold.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  atlas evaluate --predictions submission.csv --truth truth.csv\n  \
    atlas evaluate --predictions probabilities.npy --truth labels.npy --fit --folds 5"
)]
pub struct Args {
    /// A submission or a matrix of probabilities
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// What is true
    #[arg(long, value_name = "FILE")]
    truth: PathBuf,
    /// The threshold of all classes
    #[arg(long, value_name = "T", default_value = "0.5", conflicts_with = "fit")]
    threshold: String,
    /// Fit thresholds: half, optimum, proportion, shrunken, constant, or all of them (also without
    /// a value)
    #[arg(long, value_name = "METHOD", num_args = 0..=1, default_missing_value = "all")]
    fit: Option<String>,
    /// Inner folds of the cross-fitted score
    #[arg(long, value_name = "K", default_value_t = 5, requires = "fit")]
    folds: usize,
    /// Seed of the inner folds
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "fit")]
    seed: u64,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    end_with_the_reader();
    let methods = methods(args.fit.as_deref())?;
    must_exist("--predictions", &args.predictions)?;
    must_exist("--truth", &args.truth)?;
    let threshold: f64 =
        args.threshold.parse().ok().filter(|t: &f64| t.is_finite()).ok_or_else(|| {
            Error::usage(format!("--threshold {}: expected a number, such as 0.5", args.threshold))
        })?;
    let truth = matrix::read_truth(&args.truth)?;
    if truth.labels.is_empty() {
        return Err(Error::data(&args.truth, "no row: there is nothing to score").into());
    }
    let predictions =
        matrix::align(matrix::read_predictions(&args.predictions)?, &truth, &args.predictions)?;
    if !methods.is_empty() && !(2..=truth.labels.len()).contains(&args.folds) {
        return Err(Error::usage(format!(
            "--folds {}: expected 2 to {}, the number of samples",
            args.folds,
            truth.labels.len()
        ))
        .into());
    }
    // 32-bit probabilities are compared with the 32-bit threshold, as NumPy does.
    let threshold = if predictions.single { f64::from(threshold as f32) } else { threshold };
    let probabilities = predictions.values.view();

    let counts = metrics::counts(probabilities, &truth.labels, &[threshold; CLASSES]);
    let precision = metrics::average_precision(probabilities, &truth.labels);
    let mut result = Map::new();
    result.insert("macro_f1".into(), metrics::macro_f1(&counts).into());
    result.insert("micro_f1".into(), metrics::micro_f1(&counts).into());
    result.insert("map".into(), metrics::mean_average_precision(&precision).into());
    let per_class = (0..CLASSES).map(|c| {
        json!({
            "class": c, "name": NAMES[c], "positives": counts[c].positives(), "predicted": counts[c].predicted(),
            "precision": counts[c].precision(), "recall": counts[c].recall(), "f1": counts[c].f1(), "average_precision": precision[c],
        })
    });
    result.insert("per_class".into(), per_class.collect());

    let own: Vec<usize> = (0..truth.labels.len()).collect();
    let scores: Vec<(&str, f64, f64)> = methods
        .iter()
        .map(|&(method, name)| {
            let crossed = thresholds::cross_fitted(
                method,
                probabilities,
                &truth.labels,
                &own,
                args.folds,
                args.seed,
            );
            (name, crossed.macro_f1, thresholds::in_sample(method, probabilities, &truth.labels))
        })
        .collect();
    let column = |value: fn(&(&str, f64, f64)) -> f64| match &scores[..] {
        [one] => Value::from(value(one)),
        all => all
            .iter()
            .map(|s| (s.0.to_string(), Value::from(value(s))))
            .collect::<Map<_, _>>()
            .into(),
    };
    if !scores.is_empty() {
        result.insert("cross_fitted_macro_f1".into(), column(|s| s.1));
        result.insert("in_sample_macro_f1".into(), column(|s| s.2));
    }
    if args.json {
        println!("{}", Value::Object(result));
        return Ok(());
    }
    println!(
        "{:<32}{:>9}{:>10}{:>10}{:>8}{:>8}{:>8}",
        "class", "positive", "predicted", "precision", "recall", "F1", "AP"
    );
    for (c, n) in counts.iter().enumerate() {
        let (name, p, r) = (format!("{c:>2} {}", NAMES[c]), n.precision(), n.recall());
        println!(
            "{name:<32}{:>9}{:>10}{p:>10.3}{r:>8.3}{:>8.3}{:>8.3}",
            n.positives(),
            n.predicted(),
            n.f1(),
            precision[c]
        );
    }
    println!("\n{} samples, threshold {}", truth.labels.len(), args.threshold);
    for (name, key) in [("macro F1", "macro_f1"), ("micro F1", "micro_f1"), ("mAP", "map")] {
        println!("{name:<10}{:.6}", result[key].as_f64().unwrap_or_default());
    }
    if !scores.is_empty() {
        println!(
            "\nmacro F1 at fitted thresholds, {} inner folds\n{:<12}{:>14}{:>11}",
            args.folds, "method", "cross-fitted", "in-sample"
        );
        scores.iter().for_each(|(name, crossed, inside)| {
            println!("{name:<12}{crossed:>14.6}{inside:>11.6}")
        });
    }
    Ok(())
}

fn methods(fit: Option<&str>) -> Result<Vec<(Method, &'static str)>, Error> {
    match fit {
        None => Ok(vec![]),
        Some("all") => Ok(thresholds::METHODS.into()),
        Some(name) => match thresholds::METHODS.into_iter().find(|m| m.1 == name) {
            Some(method) => Ok(vec![method]),
            None => {
                let names = thresholds::METHODS.map(|m| m.1).join(", ");
                Err(Error::usage(format!(
                    "--fit {name}: unknown method; expected one of {names} or all"
                )))
            }
        },
    }
}
