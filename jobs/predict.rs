//! `atlas predict`

use atlas::{device, predict, results::Run, tasks::Log};
use serde_json::json;

use crate::common::{Common, Tasks, planned, recorded, stop_on_signals};

/// Predict the test shards with all finished folds
///
/// Reads the checkpoints of a run and shards/test-*.h5. Writes results/<run>/predictions/test-NNNNN.h5: the mean
/// probabilities over the folds, crops (predict.tta) reduced as predict.reduce says. What is there already and was made
/// with the same weights and settings is left as it is. A signal makes it stop with exit 75; run it again to go on.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas predict --config configs/atlas.toml --task 0 --tasks 4")]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    tasks: Tasks,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let run = Run::existing(&config, args.run.as_deref())?;
    let (task, tasks) = args.tasks.resolve(|| planned(&config.paths.work))?.unwrap_or((0, 1));
    run.begin(&config)?;
    let stop = stop_on_signals()?;
    let gpus = usize::from(device::choose(config.comm.backend, 0)?.is_cuda());
    let log = Log::of(&config.paths.work, "predict", task).in_run(&run.name()).on(config.threads(), gpus);
    let (made, left) = recorded(&log, || Ok(predict::predict(&config, &run, task, tasks, stop)?))?;
    let folder = run.folder.join("predictions");
    let text = match made + left {
        0 => "there are no test shards: nothing to predict; next: atlas submit (scores the thresholds)".into(),
        _ => format!("{made} test shards predicted, {left} were there already\nwrote {}\nnext: atlas submit", folder.display()),
    };
    args.common.print(text, json!({ "made": made, "left": left, "folder": folder }));
    Ok(())
}
