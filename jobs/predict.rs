//! `atlas predict`

use std::path::{Path, PathBuf};

use atlas::{
    base::{Error, Result, pipeline_step::Step, task_log::TaskLog, thrown},
    config::Config,
    data::work_folder::WorkFolder,
    distributed::device,
    inference::{
        ensemble::Ensemble,
        predict::{
            self, PredictOutcome,
            folder::{self, OutputFiles},
        },
    },
    training::{run_choice, run_folder::Run},
};
use serde_json::json;

use crate::common::{
    Common, Summary, Tasks, WHOLE, must_exist, planned, recorded, stop_on_signals,
};

/// Predict the test shards, or a folder of your own images, with all finished folds
///
/// Reads the checkpoints of a run and shards/test-*.h5. Writes
/// results/<run>/predictions/test-NNNNN.h5: the mean probabilities over the folds, crops
/// (predict.tta) reduced as predict.reduce says. Existing files that were made with the same
/// weights and settings are kept. After a signal it stops with exit code 75; run it again to
/// continue.
///
/// With --images it needs only the images and the run (or one weight file), and writes one table:
/// id, labels by name, the probability of each class. A class is predicted where its probability is
/// above its fitted threshold (0.5 where `submit` has not run); where none is, the most probable
/// class is. Samples that cannot be read are skipped and listed in FILE-skipped.csv; exit code 65
/// if none can be read.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  atlas predict --config configs/atlas.toml --task 0 --tasks 4\n  \
    atlas predict --config work/demo/results/latest/config.toml --images FOLDER \
    --output answers.csv --embeddings embeddings.npy"
)]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    own: OwnImages,
    #[command(flatten)]
    tasks: Tasks,
    #[command(flatten)]
    common: Common,
}

/// A folder of images that are in no shard.
#[derive(clap::Args)]
struct OwnImages {
    /// Predict all samples of this folder: files <id>_<red|green|blue|yellow>.<png|jpg|tif>[.gz] of
    /// any size
    #[arg(long, value_name = "FOLDER", requires = "output", conflicts_with_all = ["task", "tasks"])]
    images: Option<PathBuf>,
    /// The table to write for --images; `-`: to standard output
    #[arg(long, value_name = "FILE.csv", requires = "images")]
    output: Option<PathBuf>,
    /// Also write the first fold's features of each whole image, [n, features] f32 in the order of
    /// the table: FILE.npy, or FILE.h5 with /ids and /embeddings
    #[arg(long, value_name = "FILE", requires = "images")]
    embeddings: Option<PathBuf>,
    /// One weight file instead of a run: a checkpoint, or an X.safetensors that `atlas weights
    /// export` made of one (which brings its thresholds)
    #[arg(long, value_name = "FILE", requires = "images", conflicts_with = "run")]
    weights: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let Summary { text, json } = match (&args.own.images, &args.own.output) {
        (Some(images), Some(output)) => {
            let output = args.common.output("--output", output)?;
            let made = thrown::catch(&thrown::PREDICTION, || {
                predict_folder(&args, &config, images, &output)
            })?;
            return Ok(args.common.print_beside(&output, made.text, made.json)?);
        }
        _ => {
            let work = &WorkFolder::of(&config);
            let run = run_choice::existing(&config, work, args.run.as_deref())?;
            let share = args.tasks.resolve(|| planned(work))?.unwrap_or(WHOLE);
            predict(&config, work, &run, share)?
        }
    };
    args.common.print(text, json)?;
    Ok(())
}

/// Predicts one task's share of the test shards.
pub fn predict(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    (task, tasks): (usize, usize),
) -> anyhow::Result<Summary> {
    run.begin(config, work)?;
    let stop = stop_on_signals()?;
    let gpus = usize::from(device::choose(config.comm.backend, 0)?.is_cuda());
    let log = TaskLog::of(work.path(), Step::Predict, task)
        .in_run(&run.name())
        .on(config.threads(), gpus);
    let PredictOutcome { made, fresh } = recorded(&log, || {
        let predict = || Ok(predict::predict(config, work, run, task, tasks, stop)?);
        thrown::catch(&thrown::PREDICTION, predict)
    })?;
    let folder = run.folder.join("predictions");
    let text = match made + fresh {
        0 => "there are no test shards: nothing to predict\nnext: `atlas submit` (scores the \
            thresholds)"
            .into(),
        _ => format!(
            "{made} test shards predicted, {fresh} were there already\nwrote {}\n\
             next: `atlas submit`",
            folder.display()
        ),
    };
    Ok(Summary { text, json: json!({ "made": made, "left": fresh, "folder": folder }) })
}

/// `--images`
fn predict_folder(
    args: &Args,
    config: &Config,
    images: &Path,
    output: &Path,
) -> anyhow::Result<Summary> {
    let embeddings = args.own.embeddings.as_deref();
    check_paths(images, embeddings)?;
    embeddings.map(|path| args.common.output("--embeddings", path)).transpose()?;
    let device = device::choose(config.comm.backend, 0)?;
    let ensemble = match &args.own.weights {
        Some(file) => {
            must_exist("--weights", file)?;
            Ensemble::from_file(file, config.augment.resize, &config.train, device)?
        }
        None => {
            let work = &WorkFolder::of(config);
            let run = run_choice::existing(config, work, args.run.as_deref())?;
            Ensemble::of_run(config, &run, device)?
        }
    };
    let (files, stop) = (OutputFiles { table: output, embeddings }, stop_on_signals()?);
    let done = folder::predict(config, images, &ensemble, &files, stop)?;
    let mut text = format!(
        "{} samples predicted, networks: {}\nwrote {}",
        done.predicted,
        ensemble.networks.len(),
        output.display()
    );
    for more in embeddings.iter().copied().chain(done.skipped_list.as_deref()) {
        text += &format!("\nwrote {}", more.display());
    }
    let skipped: Vec<_> = (done.skipped.iter())
        .map(|b| json!({ "id": b.id, "file": b.file, "reason": b.reason }))
        .collect();
    let json = json!({
        "predicted": done.predicted, "skipped": skipped,
        "output": output.display().to_string(),
        "embeddings": embeddings.map(|path| path.display().to_string()),
    });
    Ok(Summary { text, json })
}

fn check_paths(images: &Path, embeddings: Option<&Path>) -> Result<()> {
    if !images.is_dir() {
        let what = format!("--images {}: there is no such folder", images.display());
        return Err(Error::usage(what));
    }
    match embeddings {
        Some(path) if !path.extension().is_some_and(|e| e == "npy" || e == "h5") => {
            Err(Error::usage(format!(
                "--embeddings {}: expected a name that ends in .npy or .h5",
                path.display()
            )))
        }
        _ => Ok(()),
    }
}
