//! `atlas evaluate`
use std::path::PathBuf;

use atlas::{
    base::Error,
    config::Method,
    data::labels::{CLASSES, Labels, NAMES},
    scoring::{
        metrics::{self, matrix},
        thresholds,
    },
};
use ndarray::ArrayView2;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::common::{end_with_the_reader, must_exist};

/// Score predictions against the truth: macro F1, micro F1, mean average precision, figures per
/// class
///
/// Reads a submission (CSV Id,Predicted) or probabilities [n, 28] (CSV of an id and 28 columns,
/// .npy of any numeric type, .h5 with /probabilities and /ids) and a truth (CSV Id,Target, or .npy
/// of 0 and 1). Rows are matched by id where both have ids, else by order. Writes nothing.
///
/// A class is predicted where p > threshold, strictly; a class with no positive and no prediction
/// counts 0. With --fit, thresholds are fitted on the predictions: the cross-fitted score is
/// measured on samples that the thresholds were not fitted on, the in-sample score is biased
/// upwards. The other figures are always those at --threshold.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  atlas evaluate --predictions submission.csv --truth truth.csv\n  \
    atlas evaluate --predictions probabilities.npy --truth labels.npy --fit --folds 5"
)]
pub struct Args {
    /// A submission or a matrix of probabilities
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// The true labels
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

/// The output of `--json`, and the figures of the table.
#[derive(Serialize)]
struct Evaluation {
    macro_f1: f64,
    micro_f1: f64,
    map: f64,
    per_class: Vec<ClassScores>,
    /// With one method a number, with all of them an object by method.
    #[serde(skip_serializing_if = "Option::is_none")]
    cross_fitted_macro_f1: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_sample_macro_f1: Option<Value>,
}

#[derive(Serialize)]
struct ClassScores {
    class: usize,
    name: &'static str,
    positives: u64,
    predicted: u64,
    precision: f64,
    recall: f64,
    f1: f64,
    average_precision: f64,
}

/// Macro F1 at thresholds fitted by one method.
struct FittedScore {
    method: &'static str,
    cross_fitted: f64,
    in_sample: f64,
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
    let samples = truth.labels.len();
    if !methods.is_empty() && !(2..=samples).contains(&args.folds) {
        let what =
            format!("--folds {}: expected 2 to {samples}, the number of samples", args.folds);
        return Err(Error::usage(what).into());
    }
    // 32-bit probabilities are compared with the 32-bit threshold, as NumPy does.
    let threshold = if predictions.single { f64::from(threshold as f32) } else { threshold };
    let probabilities = predictions.values.view();
    let fitted = fit(&args, &methods, probabilities, &truth.labels);
    let evaluation = Evaluation::new(probabilities, &truth.labels, threshold, &fitted);
    match args.json {
        true => println!("{}", serde_json::to_value(&evaluation)?),
        false => evaluation.print_table(&args, samples, &fitted),
    }
    Ok(())
}

/// Fits thresholds by each method; empty without `--fit`.
fn fit(
    args: &Args,
    methods: &[(Method, &'static str)],
    probabilities: ArrayView2<f64>,
    truth: &[Labels],
) -> Vec<FittedScore> {
    let groups: Vec<usize> = (0..truth.len()).collect(); // each sample is a group of its own
    let score = |&(method, name): &(Method, &'static str)| FittedScore {
        method: name,
        cross_fitted: thresholds::cross_fitted(
            method,
            probabilities,
            truth,
            &groups,
            args.folds,
            args.seed,
        )
        .macro_f1,
        in_sample: thresholds::in_sample(method, probabilities, truth),
    };
    methods.iter().map(score).collect()
}

impl Evaluation {
    fn new(
        probabilities: ArrayView2<f64>,
        truth: &[Labels],
        threshold: f64,
        fitted: &[FittedScore],
    ) -> Self {
        let counts = metrics::counts(probabilities, truth, &[threshold; CLASSES]);
        let precision = metrics::average_precision(probabilities, truth);
        let class = |class: usize| ClassScores {
            class,
            name: NAMES[class],
            positives: counts[class].positives(),
            predicted: counts[class].predicted(),
            precision: counts[class].precision(),
            recall: counts[class].recall(),
            f1: counts[class].f1(),
            average_precision: precision[class],
        };
        let column = |score: fn(&FittedScore) -> f64| match fitted {
            [] => None,
            [one] => Some(score(one).into()),
            all => {
                let by_method = all.iter().map(|f| (f.method.to_string(), score(f).into()));
                Some(Value::Object(by_method.collect::<Map<_, _>>()))
            }
        };
        Self {
            macro_f1: metrics::macro_f1(&counts),
            micro_f1: metrics::micro_f1(&counts),
            map: metrics::mean_average_precision(&precision),
            per_class: (0..CLASSES).map(class).collect(),
            cross_fitted_macro_f1: column(|f| f.cross_fitted),
            in_sample_macro_f1: column(|f| f.in_sample),
        }
    }

    fn print_table(&self, args: &Args, samples: usize, fitted: &[FittedScore]) {
        println!(
            "{:<32}{:>9}{:>10}{:>10}{:>8}{:>8}{:>8}",
            "class", "positive", "predicted", "precision", "recall", "F1", "AP"
        );
        for c in &self.per_class {
            println!(
                "{:<32}{:>9}{:>10}{:>10.3}{:>8.3}{:>8.3}{:>8.3}",
                format!("{:>2} {}", c.class, c.name),
                c.positives,
                c.predicted,
                c.precision,
                c.recall,
                c.f1,
                c.average_precision
            );
        }
        println!("\n{samples} samples, threshold {}", args.threshold);
        for (name, value) in
            [("macro F1", self.macro_f1), ("micro F1", self.micro_f1), ("mAP", self.map)]
        {
            println!("{name:<10}{value:.6}");
        }
        if !fitted.is_empty() {
            println!(
                "\nmacro F1 at fitted thresholds, {} inner folds\n{:<12}{:>14}{:>11}",
                args.folds, "method", "cross-fitted", "in-sample"
            );
        }
        for FittedScore { method, cross_fitted, in_sample } in fitted {
            println!("{method:<12}{cross_fitted:>14.6}{in_sample:>11.6}");
        }
    }
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
