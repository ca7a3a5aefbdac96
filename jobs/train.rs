//! `atlas train`

use atlas::{Error, results::Run, train};

use crate::common::{Common, stop_on_signals};

/// Train one fold, resuming where it stands
///
/// Reads the shards and folds.csv in paths.work. Writes results/<run>/fold_K/: history.csv (a row per epoch),
/// metrics.jsonl, training_logs/ (a row per sample), model_checkpoints/ and, last, validation.h5 with the fold's
/// out-of-fold predictions. Killed at any moment, run it again: it goes on from the newest checkpoint. SIGINT, SIGTERM
/// and SIGUSR2 make it stop at the next step with a checkpoint and exit 75.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas train --config configs/atlas.toml --fold 0 --set train.epochs=2")]
pub struct Args {
    /// Fold that validates, from 0 to split.folds - 1
    #[arg(long, value_name = "K")]
    fold: usize,
    /// Name of the run (default: the newest unfinished one of the same configuration, else the time, UTC)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    if args.fold >= config.split.folds {
        return Err(Error::usage(format!("--fold {}: split.folds = {}, so a fold is 0 to {}", args.fold, config.split.folds, config.split.folds - 1)).into());
    }
    let stop = stop_on_signals()?;
    let run = Run::to_train(&config, args.run.as_deref(), |run| train::has_predictions(&config, run, args.fold))?;
    let outcome = train::train(&config, &run, args.fold, &stop)?;
    let text = format!(
        "fold {}: out-of-fold macro F1 {:.3} at 0.5, mAP {:.3}, weights of epoch {}\nwrote {}\nnext: the other folds, then atlas predict",
        outcome.fold,
        outcome.macro_f1,
        outcome.map,
        outcome.epoch_used,
        run.fold(args.fold).display()
    );
    args.common.print(text, serde_json::to_value(&outcome)?);
    Ok(())
}
