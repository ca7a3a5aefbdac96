//! `atlas train`

use atlas::{
    base::{Error, Result, progress::duration, slurm, stop::Stop, task_log::Log},
    config::Config,
    distributed::{self, World},
    training::{
        find_lr::{self, RangeTest, Suggestion},
        run_folder::Run,
        train::{self, FoldOutcome},
    },
};

use crate::common::{Common, stop_on_signals};

/// Train one fold, resuming where it stands
///
/// Reads the shards and folds.csv in paths.work. Writes results/<run>/fold_K/: history.csv (a row
/// per epoch), metrics.jsonl, tensorboard/, training_logs/ (a row per sample), model_checkpoints/
/// and, last, validation.h5 with the fold's out-of-fold predictions. Killed at any moment, run it
/// again: it goes on from the newest checkpoint. SIGINT, SIGTERM and SIGUSR2 (and
/// train.max_minutes) make it stop at the next step with a checkpoint and exit 75.
///
/// Several ranks: start it with `srun --mpi=pmix` or `mpirun --bind-to none`, one task per GPU or
/// per share of the cores. train.batch is the batch of all ranks together. The order of the samples
/// does not depend on the number of ranks, and a training may go on with another number. Send
/// SIGUSR2 to stop: mpirun hands it to the ranks, while on SIGTERM and SIGINT of its own it kills
/// them within 2 s.
///
/// With --find-lr it keeps nothing of what it trains: a learning-rate range test (Smith 2017) on
/// the fold's training samples with the configured recipe, up to 200 steps from 1e-7 to 10, until
/// the smoothed loss is four times its least. Writes results/find_lr/fold_K/find_lr.csv and
/// find_lr.svg and prints two values for train.lr. One rank; no run is touched.
#[derive(clap::Args)]
#[command(
    after_help = "Examples: atlas train --config configs/atlas.toml --fold 0 --set train.epochs=2
          mpirun -n 2 --bind-to none atlas train --config configs/atlas.toml --fold 0
          atlas train --config configs/atlas.toml --fold 0 --find-lr"
)]
pub struct Args {
    /// Fold that validates, from 0 to split.folds - 1 (default: SLURM_ARRAY_TASK_ID, of which those
    /// from split.folds on have nothing to do)
    #[arg(long, value_name = "K")]
    fold: Option<usize>,
    /// Name of the run (default: the newest unfinished one of the same configuration, else the
    /// time, UTC)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Look for a learning rate instead of training
    #[arg(long, conflicts_with = "run")]
    find_lr: bool,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    let config = args.common.config();
    let keys = config.as_ref().map(|c| c.comm.clone()).unwrap_or_default();
    let world = distributed::start(&keys)?;
    if world.rank() > 0 {
        log::set_max_level(log::LevelFilter::Warn);
    }
    let alone = "--find-lr works on one rank; start it without mpirun or srun";
    let config = config.and_then(|c| {
        if args.find_lr && world.size() > 1 { Err(Error::usage(alone)) } else { Ok(c) }
    });
    let config = world.agree(config);
    let folds = config.as_ref().map_or(0, |c| c.split.folds);
    if args.find_lr && world.size() == 1 {
        return find_lr(&args, &config?, world, stop);
    }
    let result = train(&args, config, world, stop);
    if world.size() > 1 {
        end(world, &result);
    }
    let (run, outcome) = match result {
        // All ranks know; one says it.
        Err(e @ Error::Stopped(_)) if world.rank() > 0 => {
            return Err(Error::Elsewhere(e.exit_code()).into());
        }
        Ok(None) => {
            log::info!("there is no such fold: nothing to do");
            return Ok(());
        }
        result => result?.expect("told apart above"),
    };
    let to_do: Vec<String> =
        (0..folds).filter(|&k| !run.is_finished(k)).map(|k| k.to_string()).collect();
    let next = match to_do.first() {
        Some(first) => format!(
            "atlas train --run {} --fold {first} (unfinished: {})",
            run.name(),
            to_do.join(", ")
        ),
        None => format!("atlas predict --run {}", run.name()),
    };
    let text = format!(
        "fold {}: out-of-fold macro F1 {:.3} at 0.5, mAP {:.3}, weights of epoch {}, in {}\nwrote \
            {}\nnext: {next}",
        outcome.fold,
        outcome.macro_f1,
        outcome.map,
        outcome.epoch_used,
        duration(outcome.seconds),
        run.fold(outcome.fold).display()
    );
    if world.rank() == 0 {
        args.common.print(text, serde_json::to_value(&outcome)?);
    }
    Ok(())
}

fn train(
    args: &Args,
    config: Result<Config>,
    world: &'static World,
    stop: &'static Stop,
) -> Result<Option<(Run, FoldOutcome)>> {
    let config = config?;
    let fold = world.agree(which_fold(args, &config))?;
    if fold >= config.split.folds {
        return Ok(None); // an array with more tasks than there are folds
    }
    // Which run it is depends on the clock and on the file system: the first rank decides.
    let found = match world.rank() {
        0 => Run::to_train(&config, args.run.as_deref(), fold, |run, k| {
            train::has_predictions(&config, run, k)
        })
        .map(Some),
        _ => Ok(None),
    };
    let name = world.agree(found)?.map(|run| run.name()).unwrap_or_default();
    let run = Run { folder: config.paths.results.join(world.broadcast_text(&name)?) };
    let gpus = if world.device.is_cuda() { world.size() } else { 0 };
    let log = || {
        Log::of(&config.paths.work, "train", fold)
            .in_run(&run.name())
            .on(world.cores * world.size(), gpus)
    };
    let log = (world.rank() == 0).then(log);
    log.iter().for_each(Log::begin);
    let outcome = train::train(&config, &run, fold, world, stop);
    let (code, text) =
        outcome.as_ref().err().map_or((0, None), |e| (e.exit_code(), Some(e.to_string())));
    log.iter().for_each(|log| log.end(code, text.clone()));
    Ok(Some((run, outcome?)))
}

/// The fold that is asked for; an array's may be beyond the last one.
fn which_fold(args: &Args, config: &Config) -> Result<usize> {
    let folds = config.split.folds;
    match (args.fold, slurm::array_task().ok().flatten()) {
        (Some(fold), _) if fold >= folds => Err(Error::usage(format!(
            "--fold {fold}: split.folds = {folds}, so a fold is 0 to {}",
            folds - 1
        ))),
        (None, None) => Err(Error::usage("which fold? pass --fold K")),
        (Some(fold), _) | (None, Some(fold)) => Ok(fold),
    }
}

fn find_lr(args: &Args, config: &Config, world: &'static World, stop: &Stop) -> anyhow::Result<()> {
    let fold = which_fold(args, config)?;
    if fold >= config.split.folds {
        log::info!("there is no such fold: nothing to do");
        return Ok(());
    }
    let RangeTest { points, suggestion, table, chart } =
        find_lr::find_lr(config, fold, world, stop)?;
    let Suggestion { steepest, tenth_of_minimum } = suggestion;
    let text = format!(
        "fold {fold}: {} steps, learning rates up to {:.1e}\n  \
         --set train.lr={steepest:.1e}    where the smoothed loss falls fastest\n  \
         --set train.lr={tenth_of_minimum:.1e}    a tenth of where it is least\n\
         wrote {} and {}\nnext: atlas train --fold {fold} with one of these",
        points.len(),
        points.last().map_or(0.0, |p| p.lr),
        table.display(),
        chart.display()
    );
    let json = serde_json::json!({ "fold": fold, "steps": points.len(), "suggestion": suggestion, "table": table, "chart": chart });
    args.common.print(text, json);
    Ok(())
}

/// Leaves the other ranks in order after what all know of, and ends them after what only this one
/// knows.
fn end<T>(world: &World, result: &Result<T>) {
    match result {
        Ok(_) | Err(Error::Stopped(_) | Error::Elsewhere(_)) => {
            world.leave();
        }
        Err(e) => world.fail(e),
    }
}
