//! `atlas synth`
use std::path::PathBuf;

use atlas::{
    base::advice,
    synth::{SynthOptions, SynthOutcome, generate},
};

use crate::common::say;

/// Generate synthetic microscopy in the competition's layout, with the true labels of its test set
///
/// Writes to DIR: train/, test/, train.csv, sample_submission.csv, truth.csv (labels of the test
/// set), duplicates_truth.csv (pairs of deliberate near-duplicates), external/ (coloured JPEGs and
/// HPAv18_made.csv), contact_sheet.png, and last synth.json. A folder that already holds the same
/// data set is kept.
#[derive(clap::Args)]
#[command(
    after_help = "Example: atlas synth --out work/made --samples 1200 --test 200 --size 192 \
        --min-per-class 20"
)]
pub struct Args {
    /// Folder to write to: new, empty, or written with the same options
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training samples
    #[arg(long, value_name = "N")]
    samples: usize,
    /// Test samples
    #[arg(long, value_name = "N")]
    test: usize,
    /// External samples, in wells of two or three fields
    #[arg(long, value_name = "N", default_value_t = 0)]
    external: usize,
    /// Side of all images in pixels; smaller images show fewer cells
    #[arg(long, value_name = "S", default_value_t = 512)]
    size: usize,
    /// Seed of the random generator; another seed gives another data set
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Share of train, test and external samples that are altered copies of a training sample
    #[arg(long, value_name = "F", default_value_t = 0.03)]
    duplicates: f64,
    /// Raise rare classes to at least N original samples in train, and in proportion (at least 3)
    /// in test; 0: the frequencies of the real data
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_per_class: usize,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let Args { out, samples, test, external, size, seed, duplicates, min_per_class, json } = args;
    let options = SynthOptions { samples, test, external, size, seed, duplicates, min_per_class };
    let (made, text) = match generate(&out, &options)? {
        SynthOutcome::Present => {
            (false, format!("{} already holds this data set; nothing to do", out.display()))
        }
        SynthOutcome::Generated { duplicates } => {
            let text = format!(
                "{samples} train, {test} test and {external} external samples, {duplicates} of \
                 them altered copies, in {0}\noverview: {0}/contact_sheet.png\n\
                 next: `atlas plan --set {1}`",
                out.display(),
                advice::quoted(format!("data.kaggle={}", out.display()))
            );
            (true, text)
        }
    };
    Ok(match json {
        true => {
            let out = out.display().to_string();
            say(serde_json::json!({ "out": out, "made": made, "options": options }))
        }
        false => say(text),
    }?)
}
