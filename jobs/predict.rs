//! `atlas predict`

use std::path::{Path, PathBuf};

use atlas::{
    base::{Error, task_log::Log},
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
    training::run_folder::Run,
};
use serde_json::json;

use crate::common::{Common, Tasks, must_exist, planned, recorded, stop_on_signals};

/// Predict the test shards, or a folder of your own pictures, with all finished folds
///
/// Reads the checkpoints of a run and shards/test-*.h5. Writes
/// results/<run>/predictions/test-NNNNN.h5: the mean probabilities over the folds, crops
/// (predict.tta) reduced as predict.reduce says. What is there already and was made with the same
/// weights and settings is left as it is. A signal makes it stop with exit 75; run it again to go
/// on.
///
/// With --images it needs nothing but the pictures and the run (or one weight file), and writes one
/// table: id, labels by name, the probability of each class. A class counts where it is above its
/// fitted threshold (0.5 where `submit` has not run), and where none is, the most probable one.
/// Samples that cannot be read are skipped and listed in FILE-skipped.csv; exit 65 if none can be
/// read.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  atlas predict --config configs/atlas.toml --task 0 --tasks 4\n  \
    atlas predict --config results/latest/config.toml --images FOLDER --output answers.csv \
    --embeddings embeddings.npy"
)]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    own: Own,
    #[command(flatten)]
    tasks: Tasks,
    #[command(flatten)]
    common: Common,
}

/// A folder of the user's own images.
#[derive(clap::Args)]
struct Own {
    /// Predict all samples of this folder: files <id>_<red|green|blue|yellow>.<png|jpg|tif>[.gz] of
    /// any size
    #[arg(long, value_name = "FOLDER", requires = "output", conflicts_with_all = ["task", "tasks"])]
    images: Option<PathBuf>,
    /// The table to write for --images
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
    if let (Some(images), Some(output)) = (&args.own.images, &args.own.output) {
        return own(&args, &config, images, output);
    }
    let run = Run::existing(&config, args.run.as_deref())?;
    let work = &WorkFolder::open(&config.paths.work);
    let (task, tasks) = args.tasks.resolve(|| planned(work))?.unwrap_or((0, 1));
    run.begin(&config)?;
    let stop = stop_on_signals()?;
    let gpus = usize::from(device::choose(config.comm.backend, 0)?.is_cuda());
    let log =
        Log::of(&config.paths.work, "predict", task).in_run(&run.name()).on(config.threads(), gpus);
    let PredictOutcome { made, fresh } =
        recorded(&log, || Ok(predict::predict(&config, work, &run, task, tasks, stop)?))?;
    let folder = run.folder.join("predictions");
    let text = match made + fresh {
        0 => "there are no test shards: nothing to predict; next: atlas submit (scores the \
            thresholds)"
            .into(),
        _ => format!(
            "{made} test shards predicted, {fresh} were there already\nwrote {}\nnext: atlas \
                submit",
            folder.display()
        ),
    };
    args.common.print(text, json!({ "made": made, "left": fresh, "folder": folder }));
    Ok(())
}

fn own(args: &Args, config: &Config, images: &Path, output: &Path) -> anyhow::Result<()> {
    if !images.is_dir() {
        let what = format!("--images {}: there is no such folder", images.display());
        return Err(Error::usage(what).into());
    }
    let embeddings = args.own.embeddings.as_deref();
    if let Some(path) =
        embeddings.filter(|p| !p.extension().is_some_and(|e| e == "npy" || e == "h5"))
    {
        let what =
            format!("--embeddings {}: expected a name that ends in .npy or .h5", path.display());
        return Err(Error::usage(what).into());
    }
    let device = device::choose(config.comm.backend, 0)?;
    let ensemble = match &args.own.weights {
        Some(file) => {
            must_exist("--weights", file)?;
            Ensemble::from_file(config, file, device)?
        }
        None => Ensemble::of_run(config, &Run::existing(config, args.run.as_deref())?, device)?,
    };
    let stop = stop_on_signals()?;
    let files = OutputFiles { table: output, embeddings };
    let outcome = folder::predict(config, images, &ensemble, &files, stop)?;
    let mut text = format!(
        "{} samples predicted, networks: {}\nwrote {}",
        outcome.predicted,
        ensemble.networks.len(),
        output.display()
    );
    for more in embeddings.iter().copied().chain(outcome.skipped_list.as_deref()) {
        text += &format!("\nwrote {}", more.display());
    }
    let skipped: Vec<_> = outcome
        .skipped
        .iter()
        .map(|b| json!({"id": b.id, "file": b.file, "reason": b.reason}))
        .collect();
    let json = json!({
        "predicted": outcome.predicted,
        "skipped": skipped,
        "output": output,
        "embeddings": embeddings,
    });
    args.common.print(text, json);
    Ok(())
}
