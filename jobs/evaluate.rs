//! `atlas evaluate`

use std::path::PathBuf;

use atlas::{
    base::Error,
    config::Method,
    data::labels::{CLASSES, NAMES},
    scoring::{
        evaluation::{Evaluation, MethodScore, Scores},
        metrics,
    },
};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::common::{must_exist, say};

/// Score predictions against the truth: macro F1, micro F1, mean average precision, figures per
/// class
///
/// Reads a submission (CSV Id,Predicted) or probabilities [n, 28] (CSV of an id and 28 columns,
/// .npy of any numeric type, .h5 with /probabilities and /ids) and a truth (CSV Id,Target, or .npy
/// of 0 and 1). Rows are matched by id where both have ids, else by order. Writes nothing.
///
/// A class is predicted where p > threshold, strictly; a class with no positive and no prediction
/// counts 0; macro_f1_present is the mean over the classes that the truth has. With --fit,
/// thresholds are fitted on the predictions: the cross-fitted score is on samples that the
/// thresholds have not seen, the in-sample one is too good to believe. The other figures are always
/// those at --threshold.
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
    let methods = methods(args.fit.as_deref())?;
    must_exist("--predictions", &args.predictions)?;
    must_exist("--truth", &args.truth)?;
    let threshold: f64 =
        args.threshold.parse().ok().filter(|t| (0.0..=1.0).contains(t)).ok_or_else(|| {
            Error::usage(format!(
                "--threshold {}: expected a probability from 0 to 1, such as 0.5",
                args.threshold
            ))
        })?;
    let evaluation = Evaluation::read(&args.predictions, &args.truth)?;
    let samples = evaluation.samples();
    if !methods.is_empty() && !(2..=samples).contains(&args.folds) {
        return Err(Error::usage(format!(
            "--folds {}: expected 2 to {samples}, the number of samples",
            args.folds
        ))
        .into());
    }
    let scores = evaluation.at(threshold);
    if metrics::classes_present(&scores.counts) == 0 {
        log::warn!(
            "{}: none of its {samples} samples has a class, so that every score is 0",
            args.truth.display()
        );
    }
    let fits: Vec<MethodScore> =
        methods.into_iter().map(|m| evaluation.fit(m, args.folds, args.seed)).collect();
    Ok(match args.json {
        true => say(json(&scores, &fits)),
        false => say(text(&args, samples, &scores, &fits)),
    }?)
}

fn json(Scores { counts, average_precision }: &Scores, fits: &[MethodScore]) -> Value {
    let class = |c: usize| {
        json!({
            "class": c,
            "name": NAMES[c],
            "positives": counts[c].positives(),
            "predicted": counts[c].predicted(),
            "precision": counts[c].precision(),
            "recall": counts[c].recall(),
            "f1": counts[c].f1(),
            "average_precision": average_precision[c],
        })
    };
    let mut result = json!({
        "macro_f1": metrics::macro_f1(counts),
        "macro_f1_present": metrics::macro_f1_present(counts),
        "classes_present": metrics::classes_present(counts),
        "micro_f1": metrics::micro_f1(counts),
        "map": metrics::mean_average_precision(average_precision),
        "per_class": (0..CLASSES).map(class).collect::<Vec<_>>(),
    });
    // One method gives a number, several give an object.
    let column = |value: fn(&MethodScore) -> f64| match fits {
        [one] => Value::from(value(one)),
        all => all.iter().map(|f| (f.method.to_string(), Value::from(value(f)))).collect(),
    };
    if !fits.is_empty() {
        result["cross_fitted_macro_f1"] = column(|f| f.cross_fitted);
        result["cross_fitted_macro_f1_present"] = column(|f| f.cross_fitted_present);
        result["in_sample_macro_f1"] = column(|f| f.in_sample);
    }
    result
}

fn text(args: &Args, samples: usize, scores: &Scores, fits: &[MethodScore]) -> String {
    let Scores { counts, average_precision } = scores;
    let mut lines = vec![format!(
        "{:<32}{:>9}{:>10}{:>10}{:>8}{:>8}{:>8}",
        "class", "positive", "predicted", "precision", "recall", "F1", "AP"
    )];
    for (c, n) in counts.iter().enumerate() {
        let (name, p, r) = (format!("{c:>2} {}", NAMES[c]), n.precision(), n.recall());
        lines.push(format!(
            "{name:<32}{:>9}{:>10}{p:>10.3}{r:>8.3}{:>8.3}{:>8.3}",
            n.positives(),
            n.predicted(),
            n.f1(),
            average_precision[c]
        ));
    }
    lines.push(format!("\n{samples} samples, threshold {}", args.threshold));
    let map = metrics::mean_average_precision(average_precision);
    let present = metrics::classes_present(counts);
    for (name, value, what) in [
        ("macro F1", metrics::macro_f1(counts), format!("over all {CLASSES} classes")),
        ("", metrics::macro_f1_present(counts), format!("over the {present} classes present")),
        ("micro F1", metrics::micro_f1(counts), String::new()),
        ("mAP", map, String::new()),
    ] {
        lines.push(format!("{name:<10}{value:.6} {what}").trim_end().into());
    }
    if !fits.is_empty() {
        lines.push(format!(
            "\nmacro F1 at fitted thresholds, {} inner folds\n{:<12}{:>14}{:>11}{:>17}",
            args.folds, "method", "cross-fitted", "in-sample", "classes present"
        ));
    }
    for MethodScore { method, cross_fitted, cross_fitted_present: present, in_sample } in fits {
        lines.push(format!("{method:<12}{cross_fitted:>14.6}{in_sample:>11.6}{present:>17.6}"));
    }
    lines.join("\n")
}

/// The methods that `--fit` names.
fn methods(fit: Option<&str>) -> Result<Vec<Method>, Error> {
    match fit {
        None => Ok(vec![]),
        Some("all") => Ok(Method::VARIANTS.to_vec()),
        Some(name) => name.parse().map(|method| vec![method]).map_err(|_| {
            let names: Vec<&str> = Method::VARIANTS.iter().map(|&m| m.into()).collect();
            let names = names.join(", ");
            Error::usage(format!("--fit {name}: unknown method; expected one of {names} or all"))
        }),
    }
}
