//! `atlas train`

use atlas::{
    base::{
        Error, Result, advice, pipeline_step::Step, progress::duration, slurm, stop_request::Stop,
        task_log::TaskLog, thrown,
    },
    config::Config,
    data::work_folder::WorkFolder,
    distributed::{self, World},
    scoring::metrics,
    training::{
        find_lr::{self, RangeTest, Suggestion},
        fold_status::has_predictions,
        run_choice,
        run_folder::Run,
        train::{self, FoldOutcome},
    },
};
use serde_json::json;

use crate::common::{Common, Summary, stop_on_signals};

/// Train one fold, resuming from its newest checkpoint
///
/// Reads the shards and folds.csv in paths.work. Writes results/<run>/fold_K/: history.csv (a row
/// per epoch), metrics.jsonl, tensorboard/, training_logs/ (a row per sample), model_checkpoints/
/// and, last, validation.h5 with the fold's out-of-fold predictions. If it is killed, run it again:
/// it continues from the newest checkpoint. SIGINT, SIGTERM and SIGUSR2 (and train.max_minutes)
/// make it stop at the next step with a checkpoint and exit code 75.
///
/// Several ranks: start it with `srun --mpi=pmix` or `mpirun --bind-to none`, one task per GPU or
/// per share of the cores. train.batch is the batch of all ranks together. The order of the samples
/// does not depend on the number of ranks, and training may continue with another number of ranks.
/// Send SIGUSR2 to stop: mpirun forwards it to the ranks, but kills them within 2 s when it
/// receives SIGTERM or SIGINT itself.
///
/// With --find-lr it trains for a learning-rate range test (Smith 2017) and keeps no weights: the
/// fold's training samples with the configured recipe, up to 200 steps from 1e-7 to 10, until the
/// smoothed loss is four times its minimum. Writes results/find_lr/fold_K/find_lr.csv and
/// find_lr.svg and prints two values for train.lr. One rank; no run is changed.
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
    /// Search for a learning rate instead of training
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
    let config = world.agree(config.and_then(|c| match args.find_lr && world.size() > 1 {
        true => Err(Error::usage("--find-lr works on one rank; start it without mpirun or srun")),
        false => Ok(c),
    }));
    if args.find_lr && world.size() == 1 {
        return find_lr(&args, &config?, world, stop);
    }
    let trained = config.and_then(|config| {
        let done = train_on_all_ranks(&args, &config, world, stop)?;
        done.map(|(run, outcome)| summary(config.split.folds, &run, &outcome)).transpose()
    });
    if world.size() > 1 {
        end_ranks(world, &trained);
    }
    match trained {
        // All ranks stop; the first one reports it.
        Err(e @ Error::Stopped(_)) if world.rank() > 0 => {
            Err(Error::Elsewhere(e.exit_code()).into())
        }
        Err(e) => Err(e.into()),
        Ok(None) => no_such_fold(),
        Ok(Some(Summary { text, json })) => {
            if world.rank() == 0 {
                args.common.print(text, json)?;
            }
            Ok(())
        }
    }
}

/// Trains one fold of `run` in this process, the only rank.
pub fn train(config: &Config, run: &Run, fold: usize) -> anyhow::Result<Summary> {
    let stop = stop_on_signals()?;
    let world = distributed::start(&config.comm)?;
    let outcome = train_recorded(config, run, fold, world, stop)?;
    Ok(summary(config.split.folds, run, &outcome)?)
}

/// Agrees with the other ranks on the fold and the run, and trains; `None` where an array job has
/// more tasks than there are folds.
fn train_on_all_ranks(
    args: &Args,
    config: &Config,
    world: &'static World,
    stop: &'static Stop,
) -> Result<Option<(Run, FoldOutcome)>> {
    let fold = world.agree(which_fold(args.fold, config.split.folds))?;
    if fold >= config.split.folds {
        return Ok(None);
    }
    // The choice depends on the clock and on the file system: the first rank makes it.
    let chosen = match world.rank() {
        0 => {
            let (work, name) = (WorkFolder::of(config), args.run.as_deref());
            let finished = |run: &Run, k| has_predictions(config, run, k);
            run_choice::to_train(config, &work, name, fold, finished).map(Some)
        }
        _ => Ok(None),
    };
    let name = world.agree(chosen)?.map(|run| run.name()).unwrap_or_default();
    let run = Run { folder: config.paths.results.join(world.broadcast_text(&name)?) };
    let outcome = train_recorded(config, &run, fold, world, stop)?;
    Ok(Some((run, outcome)))
}

/// Trains with the first rank keeping the task log.
fn train_recorded(
    config: &Config,
    run: &Run,
    fold: usize,
    world: &'static World,
    stop: &'static Stop,
) -> Result<FoldOutcome> {
    let gpus = if world.device.is_cuda() { world.size() } else { 0 };
    let log = (world.rank() == 0).then(|| {
        TaskLog::of(&config.paths.work, Step::Train, fold)
            .in_run(&run.name())
            .on(world.cores * world.size(), gpus)
    });
    log.iter().for_each(TaskLog::begin);
    let outcome = thrown::catch(&thrown::TRAINING, || train::train(config, run, fold, world, stop));
    let error = outcome.as_ref().err();
    let code = error.map_or(0, Error::exit_code);
    log.iter().for_each(|log| log.end(code, error.map(advice::complete)));
    outcome
}

/// `folds`: of the run.
fn summary(folds: usize, run: &Run, outcome: &FoldOutcome) -> Result<Summary> {
    let unfinished: Vec<String> =
        (0..folds).filter(|&k| !run.is_finished(k)).map(|k| k.to_string()).collect();
    let next = match unfinished.first() {
        Some(first) => format!(
            "`atlas train --fold {first} --run {}` (unfinished: {})",
            advice::quoted(run.name()),
            unfinished.join(", ")
        ),
        None => format!("`atlas predict --run {}`", advice::quoted(run.name())),
    };
    let text = format!(
        "fold {}: out-of-fold macro F1 {:.3}{} at 0.5, mAP {:.3}, weights of epoch {}, in {}\n\
         wrote {}\nnext: {next}",
        outcome.fold,
        outcome.macro_f1,
        metrics::over_present(outcome.macro_f1_present, outcome.classes_present),
        outcome.map,
        outcome.epoch_used,
        duration(outcome.seconds),
        run.fold(outcome.fold).display()
    );
    Ok(Summary { text, json: serde_json::to_value(outcome).map_err(Error::failed)? })
}

/// The fold of `--fold`, else of the array task, which may be beyond the last fold.
fn which_fold(fold: Option<usize>, folds: usize) -> Result<usize> {
    match (fold, slurm::array_task().ok().flatten()) {
        (Some(fold), _) if fold >= folds => Err(Error::usage(format!(
            "--fold {fold}: split.folds = {folds}, so a fold is 0 to {}",
            folds - 1
        ))),
        (None, None) => Err(Error::usage("which fold? pass --fold K")),
        (Some(fold), _) | (None, Some(fold)) => Ok(fold),
    }
}

fn no_such_fold() -> anyhow::Result<()> {
    log::info!("there is no such fold: nothing to do");
    Ok(())
}

fn find_lr(args: &Args, config: &Config, world: &'static World, stop: &Stop) -> anyhow::Result<()> {
    let fold = which_fold(args.fold, config.split.folds)?;
    if fold >= config.split.folds {
        return no_such_fold();
    }
    let RangeTest { points, suggestion, table, chart } =
        thrown::catch(&thrown::TRAINING, || find_lr::find_lr(config, fold, world, stop))?;
    let Suggestion { steepest, tenth_of_minimum } = suggestion;
    let text = format!(
        "fold {fold}: {} steps, learning rates up to {:.1e}\n  \
         --set train.lr={steepest:.1e}    where the smoothed loss falls fastest\n  \
         --set train.lr={tenth_of_minimum:.1e}    a tenth of where it is lowest\n\
         wrote {} and {}\nnext: `atlas train --fold {fold}` with one of these",
        points.len(),
        points.last().map_or(0.0, |p| p.lr),
        table.display(),
        chart.display()
    );
    let json = json!({
        "fold": fold, "steps": points.len(), "suggestion": suggestion, "table": table,
        "chart": chart,
    });
    args.common.print(text, json)?;
    Ok(())
}

/// After a result that all ranks know, ends this rank in order; after an error that only this one
/// knows, ends all ranks.
fn end_ranks<T>(world: &World, result: &Result<T>) {
    match result {
        Ok(_) | Err(Error::Stopped(_) | Error::Elsewhere(_)) => {
            world.leave();
        }
        Err(e) => world.fail(e),
    }
}
