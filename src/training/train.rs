//! One fold, from shards and folds to checkpoints and out-of-fold predictions. Killed at any
//! moment, it goes on from the newest checkpoint and ends with the same bits.

mod board;
mod data;
pub mod find_lr;
mod compute_mode;
mod meter;
mod state;
pub mod step;
mod validate;
mod view;

use std::time::{Duration, Instant};

use ndarray::Array2;
use tch::{Kind, Tensor};

pub use self::data::FoldData;
use self::{
    meter::{Meter, timed},
    state::Session,
    step::{Input, Passes},
    validate::{predict_validation, validate, write_samples},
    view::View,
};
use crate::{
    base::{
        Error, Result, fault,
        progress::{Progress, duration},
        stop::Stop,
    },
    config::{Config, Keep},
    data::{
        labels::{CLASSES, Labels},
        work_folder::WorkFolder,
    },
    distributed::{
        Op, World,
        batch_share::Share,
        device,
        gradient_sync::GradientSync,
        watchdog::{self, Heartbeat, Limit},
    },
    loading::loader::{Batch, Loader, Make},
    network::{
        model::{DropKeys, Norms, Spec},
        optim::Rates,
        predictor::{self, sigmoid},
        weights::Weights,
    },
    scoring::{metrics, prediction_file::Predictions},
    training::{
        checkpoint::{Checkpoint, Folder},
        history::Row,
        run_folder::Run,
    },
};

/// What a finished fold has to say.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    pub fold: usize,
    pub epochs: usize,
    /// Epoch whose weights are used.
    pub epoch_used: usize,
    /// Out-of-fold mean average precision with test-time augmentation.
    pub map: f64,
    /// Out-of-fold macro F1 at 0.5 with test-time augmentation.
    pub macro_f1: f64,
    pub seconds: f64,
}

/// Where a fold of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldStatus {
    /// Not begun, interrupted, or its predictions are missing or made with other `predict` keys.
    ToDo,
    Done,
    /// Begun or finished on other data than the shards and folds.csv at hand.
    Stale,
}

/// Looks at the weights and checkpoints of every fold.
pub fn fold_statuses(config: &Config, work: &WorkFolder, run: &Run) -> Result<Vec<FoldStatus>> {
    (0..config.split.folds).map(|fold| fold_status(config, work, run, fold)).collect()
}

/// Looks at the weights and checkpoints of a fold.
pub fn fold_status(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    fold: usize,
) -> Result<FoldStatus> {
    let checkpoint = match Checkpoint::read(&weights_path(config, run, fold)) {
        Ok(weights) => Some(weights),
        Err(_) => Folder::of(&run.fold(fold)).newest()?,
    };
    let data = || FoldData::open(work, &config.split, config.train.max_samples, fold);
    Ok(match checkpoint {
        Some(checkpoint) if checkpoint.state.data != data()?.hash => FoldStatus::Stale,
        Some(_) if has_predictions(config, run, fold) => FoldStatus::Done,
        _ => FoldStatus::ToDo,
    })
}

/// Whether the out-of-fold predictions are there and were made with the weights and settings at
/// hand.
pub fn has_predictions(config: &Config, run: &Run, fold: usize) -> bool {
    let path = run.validation(fold);
    path.exists()
        && predictor::source(config, &[weights_path(config, run, fold)])
            .is_ok_and(|source| Predictions::is_fresh(&path, source))
}

/// Whether a training can begin at all: what is cheap to see before hours of preprocessing.
///
/// # Errors
/// Usage, for an unknown architecture, and for weights to start from that are missing or of another
/// one; data, for broken ones.
pub fn check(config: &Config) -> Result<()> {
    let spec = Spec::of(&config.model);
    spec.shapes()?;
    state::initial_weights(config)?.map_or(Ok(()), |path| Weights::open(path)?.fit(&spec))
}

/// Trains fold `fold` of `run` to its end together with the other ranks of `world`, resuming where
/// it stands. `stop` on any rank ends it at the next step with a checkpoint.
///
/// # Errors
/// [`Error::Stopped`] after `stop` or `train.max_minutes`, on all ranks alike; [`Error::Elsewhere`]
/// where another rank says what is wrong. Of all else the other ranks do not know: the caller has
/// to [`abort`](crate::distributed::Comm::abort).
pub fn train(
    config: &Config,
    run: &Run,
    fold: usize,
    world: &'static World,
    stop: &'static Stop,
) -> Result<Outcome> {
    let start = Instant::now();
    let effective =
        &Config { threads: Some(config.threads.unwrap_or(world.cores)), ..config.clone() };
    device::set_up_cpu(effective.threads());
    let heartbeat = run.heartbeat(fold);
    let data = watchdog::during("opening the shards", Limit::Start, || {
        let work = WorkFolder::open(&config.paths.work);
        world.agree(FoldData::open(&work, &config.split, config.train.max_samples, fold))
    })?;
    world.same(data.hash, || {
        Error::data(
            &config.paths.work,
            "the ranks see different shards or folds.csv; paths.work must be one shared folder",
        )
    })?;
    log::info!(
        "fold {fold}: {} samples to train, {} to validate",
        data.train.len(),
        data.valid.len()
    );
    let begun = watchdog::during("start of the training", Limit::Start, || {
        let folder = Folder::of(&run.fold(fold));
        world.agree(if folder.is_begun() { Ok(()) } else { check(config) })?;
        let lock =
            world.agree((world.rank() == 0).then(|| begin(config, run, fold, stop)).transpose())?;
        // Only now: whoever held the fold before may have left a checkpoint.
        let newest = world.agree(folder.newest())?;
        let compute_mode =
            compute_mode::settle(effective, world, state::began_as(&folder, newest.as_ref()))?;
        let mut session =
            world.agree(Session::new(effective, run, fold, &data, compute_mode, world))?;
        world.agree(session.resume(newest, &data))?;
        Ok::<_, Error>((session, lock))
    });
    let (mut session, _lock) = begun?;
    world.same(session.state.step, || {
        Error::data(
            &session.folder.0,
            "the ranks see different checkpoints; paths.results must be one shared folder",
        )
    })?;
    world.same(session.fingerprint(), || {
        Error::data(
            &config.paths.results,
            "the ranks begin with different weights; model.weights must be one shared file",
        )
    })?;
    watchdog::training(stop, heartbeat);
    let outcome = to_the_end(&mut session, &data, run, start, stop);
    if matches!(outcome, Ok(_) | Err(Error::Stopped(_))) {
        watchdog::during("end of the training", Limit::Usual, || world.barrier())?;
        watchdog::left();
    }
    outcome
}

/// What only the first rank does before the first step.
fn begin(config: &Config, run: &Run, fold: usize, stop: &Stop) -> Result<std::fs::File> {
    run.begin(config)?;
    let lock = run.lock(fold, stop)?;
    if let Some(last) = Heartbeat::read(&run.heartbeat(fold)) {
        log::warn!(
            "the last training of fold {fold} did not end in order ({last}); going on from its \
                newest checkpoint"
        );
    }
    Ok(lock)
}

fn to_the_end(
    session: &mut Session,
    data: &FoldData,
    run: &Run,
    start: Instant,
    stop: &Stop,
) -> Result<Outcome> {
    let (config, fold) = (session.config, session.fold);
    if session.leads()
        && run.is_finished(fold)
        && (session.state.epoch < config.train.epochs || !has_predictions(config, run, fold))
    {
        let path = run.validation(fold);
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let gradient_sync = GradientSync::new(&session.network, session.world, config.comm.wire);
    if session.state.epoch < config.train.epochs {
        let mut view = View::begin(session);
        while session.state.epoch < config.train.epochs {
            let draws = train_epoch(session, &gradient_sync, data, &mut view, start, stop)?;
            end_epoch(session, data, &draws, stop)?;
        }
    }
    let path = weights_path(config, run, fold);
    session.ensure_weights(&path)?;
    watchdog::during("waiting for the weights", Limit::Usual, || session.world.barrier())?;
    predict_validation(session, data, run, start, stop)
}

/// The steps of one epoch that are still to do. Returns the samples of the whole epoch in their
/// order.
fn train_epoch(
    session: &mut Session,
    gradient_sync: &GradientSync,
    data: &FoldData,
    view: &mut View,
    start: Instant,
    stop: &Stop,
) -> Result<Vec<usize>> {
    let (config, epoch, world) = (session.config, session.state.epoch, session.world);
    let batches = session.batches(data, epoch);
    let todo = &batches[session.state.step_in_epoch..];
    let shares: Vec<Share> = todo
        .iter()
        .map(|b| Share::new(b.len(), world.rank(), world.size(), config.train.micro_batch))
        .collect();
    let mine = todo
        .iter()
        .zip(&shares)
        .map(|(batch, share)| batch[share.samples.clone()].to_vec())
        .collect();
    let name = format!("fold {} epoch {}/{}", session.fold, epoch + 1, config.train.epochs);
    let progress =
        Progress::going_on(name, "steps", session.state.step_in_epoch as u64, batches.len() as u64);
    let make = Make::Train {
        augment: config.augment.clone(),
        seed: session.train.seed,
        epoch: epoch as u64,
    };
    let (epochs, steps) = (config.train.epochs as f64, batches.len() as f64);
    let share_done = |step: usize| (epoch as f64 + step as f64 / steps) / epochs;
    let mut meter = Meter::new(batches.len());
    let mut loader = Loader::new(data.store.clone(), mine, make, config.threads(), 4);
    for share in &shares {
        watchdog::at(
            epoch + 1,
            session.state.step_in_epoch,
            session.state.step,
            share_done(session.state.step_in_epoch),
        );
        let batch = watchdog::during("waiting for data", Limit::None, || {
            loader.next().expect("as many batches as shares")
        })?;
        meter.data += batch.waited.as_secs_f64();
        let over = config.train.max_minutes > 0.0
            && start.elapsed() > Duration::from_secs_f64(60.0 * config.train.max_minutes);
        let asked =
            stop.asked() || over || fault::injected("stop", world.rank(), session.state.step);
        let rates = session.schedule.at(session.state.step as usize);
        let step = train_step(session, gradient_sync, &batch, share, rates, &mut meter, asked)?;
        watchdog::warm();
        meter.step(share.of, step.norm);
        progress.add(1);
        let s = &mut session.state;
        s.step_in_epoch += 1;
        s.step += 1;
        watchdog::at(epoch + 1, s.step_in_epoch, s.step, share_done(s.step_in_epoch));
        view.step(session, share.of, batch.waited.as_secs_f64(), rates.lr);
        let at = session.state.step_in_epoch;
        if session.leads() && (at.is_multiple_of(meter.interval) || at == batches.len()) {
            let line = meter.line(session, rates.lr);
            session.logs.metrics(&line)?;
            session
                .board
                .as_ref()
                .map_or(Ok(()), |board| board.interval(session.state.step, &line))?;
            view.interval(line["loss"].as_f64());
        }
        if step.stop {
            watchdog::agreed();
            session.save()?;
            let why =
                if stop.asked() || !over { "stopped" } else { "stopped after train.max_minutes" };
            return Err(Error::Stopped(format!(
                "{why} at epoch {}, step {at}; run the same command again to go on",
                epoch + 1
            )));
        }
        let every = config.train.checkpoint_steps;
        if every > 0 && at.is_multiple_of(every) && at < batches.len() {
            timed(&mut meter.checkpoint, || session.save())?;
        }
    }
    Ok(batches.iter().flatten().map(|d| d.sample).collect())
}

struct StepDone {
    /// Of the gradient before clipping.
    norm: f64,
    /// Over the whole batch.
    loss: f64,
    /// The gradient was not finite, so that nothing was changed.
    skipped: bool,
    /// Some rank was asked to stop.
    stop: bool,
}

/// Forward, backward, the sum over the ranks, the move of the weights.
fn train_step(
    session: &mut Session,
    gradient_sync: &GradientSync,
    batch: &Batch,
    share: &Share,
    rates: Rates,
    meter: &mut Meter,
    stop: bool,
) -> Result<StepDone> {
    let (config, world) = (session.config, session.world);
    let injected = |what| fault::injected(what, world.rank(), session.state.step);
    assert!(!injected("panic"), "asked for by ATLAS_FAULT");
    if injected("error") {
        return Err(Error::failed("asked for by ATLAS_FAULT"));
    }
    let side = config.augment.crop as usize;
    let image = side * side * 4;
    let statistics = session.network.flat_buffers().copy();
    let passes = Passes {
        share,
        precision: session.precision(),
        losses: &config.train.loss,
        position: (world.rank(), session.state.step),
    };
    let norms = |pass| match config.train.sync_bn {
        true if world.size() > 1 => {
            Norms::Together { world, samples: share.together(pass), counts: share.counts }
        }
        _ => Norms::Local,
    };
    let input = |range: std::ops::Range<usize>| Input {
        images: session.state.normalization.apply(
            &batch.images[range.start * image..range.end * image],
            side,
            world.device,
        ),
        targets: one_hot(&batch.labels[range.clone()]).to_device(world.device),
        keys: DropKeys {
            seed: session.train.seed,
            epoch: session.state.epoch as u64,
            keys: &batch.keys[range],
        },
    };
    // With synchronised batch norm the ranks wait for each other in here, too.
    let limit = if config.train.sync_bn { Limit::Usual } else { Limit::None };
    let (logits, loss) = watchdog::during("forward and backward pass", limit, || {
        passes.backward(&session.network, gradient_sync, norms, input)
    })?;
    session.saw(share, &logits);
    device::wait(world.device);
    let mut sums = [loss, f64::from(u8::from(stop))];
    timed(&mut meter.communication, || {
        watchdog::during("sum of the gradients", Limit::Usual, || {
            world.all_reduce(&mut sums, Op::Sum)?;
            gradient_sync.finish()?;
            device::wait(world.device);
            Ok(())
        })
    })?;
    let step = timed(&mut meter.optimizer, || {
        watchdog::during("optimizer", Limit::Usual, || {
            let step = session.optimizer.step(&session.network, rates);
            if let (false, Some(ema)) = (step.skipped, &mut session.ema) {
                ema.update(&session.network);
            }
            Ok(step)
        })
    })?;
    session.seen_losses.push(sums[0] as f32);
    session.state.optimizer_steps = session.optimizer.steps();
    if step.skipped {
        // The forward pass may have put what is not finite into the running statistics, too.
        tch::no_grad(|| session.network.flat_buffers().copy_(&statistics));
        session.state.skipped += 1;
        if session.leads() {
            log::warn!(
                "step {}: the gradient is not finite; the step is skipped ({} so far)",
                session.state.step + 1,
                session.state.skipped
            );
        }
        if session.state.skipped > config.train.max_skipped_steps {
            let what = format!(
                "{} steps had a gradient that is not finite, more than train.max_skipped_steps = \
                    {}; try a smaller train.lr",
                session.state.skipped, config.train.max_skipped_steps
            );
            // All ranks know; one says it.
            return Err(if session.leads() { Error::Failed(what) } else { Error::Elsewhere(1) });
        }
    }
    Ok(StepDone { norm: step.norm, loss: sums[0], skipped: step.skipped, stop: sums[1] > 0.0 })
}

/// Logs, validation, the best weights so far, and a checkpoint at the start of the next epoch.
fn end_epoch(session: &mut Session, data: &FoldData, draws: &[usize], stop: &Stop) -> Result<()> {
    let (config, epoch) = (session.config, session.state.epoch + 1);
    let labels: Vec<Labels> = draws.iter().map(|&s| data.store.labels(s)).collect();
    session.gather_seen()?;
    let seen = Array2::from_shape_vec((draws.len(), CLASSES), session.seen_logits.clone())
        .map_err(Error::failed)?;
    let probabilities = seen.mapv(sigmoid);
    let train_macro_f1 = macro_f1_at_half(&probabilities, &labels);
    write_samples(session, data, epoch, "train", draws, &labels, &seen)?;

    let mut row = Row {
        epoch,
        train_loss: mean(&session.seen_losses),
        train_macro_f1,
        valid_loss: None,
        macro_f1: None,
        macro_f1_fitted: None,
        map: None,
        lr: session.schedule.at(session.state.step.saturating_sub(1) as usize).lr,
        skipped_steps: session.state.skipped,
    };
    let last = epoch == config.train.epochs;
    if last || epoch.is_multiple_of(config.train.validate_every) {
        session.save()?; // whoever is killed in the validation need not train the epoch again
        session.with_average(|session| validate(session, data, &mut row, stop))?;
    }
    session.board.as_ref().map_or(Ok(()), |board| board.epoch(session, &row, &probabilities))?;
    let s = &mut session.state;
    let better = row.map.is_some_and(|map| s.best.is_none_or(|(best, _)| map > best));
    if let (true, Some(map)) = (better, row.map) {
        s.best = Some((map, epoch));
    }
    s.history.push(row.clone());
    s.epoch = epoch;
    s.step_in_epoch = 0;
    let text = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.3}"));
    log::info!(
        "fold {} epoch {epoch}/{}: train loss {}, valid loss {}, macro F1 {} (fitted {}), mAP {}, \
            about {} left",
        session.fold,
        config.train.epochs,
        text(row.train_loss),
        text(row.valid_loss),
        text(row.macro_f1),
        text(row.macro_f1_fitted),
        text(row.map),
        duration(session.left())
    );
    session.forget_seen();
    if session.leads() {
        session.logs.write_history(&session.state.history)?;
    }
    if better {
        session.write_weights(&session.folder.best())?;
    }
    if last {
        session.write_weights(&session.folder.last())?;
    }
    session.save()
}

/// The weights of a fold that validation and prediction use.
pub fn weights_path(config: &Config, run: &Run, fold: usize) -> std::path::PathBuf {
    let folder = Folder::of(&run.fold(fold));
    match config.train.keep {
        Keep::Best => folder.best(),
        Keep::Last => folder.last(),
    }
}

fn macro_f1_at_half(probabilities: &Array2<f32>, labels: &[Labels]) -> f64 {
    metrics::macro_f1(&metrics::counts(probabilities.view(), labels, &[0.5; CLASSES]))
}

fn mean_average_precision(probabilities: &Array2<f32>, labels: &[Labels]) -> f64 {
    metrics::mean_average_precision(&metrics::average_precision(probabilities.view(), labels))
}

/// `[n, 28]` f32 of 0 and 1.
fn one_hot(labels: &[Labels]) -> Tensor {
    let flat: Vec<u8> = labels.iter().flat_map(|l| l.one_hot()).collect();
    Tensor::from_slice(&flat).view([labels.len() as i64, CLASSES as i64]).to_kind(Kind::Float)
}

fn tensor(values: &Array2<f32>) -> Tensor {
    let flat: Vec<f32> = values.iter().copied().collect();
    Tensor::from_slice(&flat).view([values.nrows() as i64, values.ncols() as i64])
}

/// The mean of the finite ones; `None` where there is none.
fn mean(losses: &[f32]) -> Option<f64> {
    let finite: Vec<f64> = losses.iter().map(|&l| f64::from(l)).filter(|l| l.is_finite()).collect();
    (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
}
