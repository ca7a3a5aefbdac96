//! One epoch: its steps, then logs, validation, the best weights so far, and a checkpoint.

use std::time::Duration;

use ndarray::Array2;

use super::{
    meter::{Meter, mean},
    session::Session,
    terminal_view::TerminalView,
    train_step::{timed, train_step},
    validation::{macro_f1_at_half, validate, write_samples},
};
use crate::{
    base::{
        Error, Result,
        progress::{Progress, duration},
    },
    data::labels::{CLASSES, Labels},
    distributed::watchdog::{Limit, Position},
    network::predictor::sigmoid,
    training::history::EpochRow,
};

/// Trains the steps of the current epoch that are still to do. Returns the samples of the whole
/// epoch in order, as indices into the store.
///
/// # Errors
/// [`Error::Stopped`] after a checkpoint, on all ranks alike.
pub fn train_epoch(session: &mut Session, view: &mut TerminalView) -> Result<Vec<usize>> {
    let (config, world, epoch) = (session.config, session.world, session.state.epoch);
    let batches = session.batches(epoch);
    let (shares, mut loader) = session.load(&batches[session.state.step_in_epoch..]);
    let name = format!("fold {} epoch {}/{}", session.data.fold, epoch + 1, config.train.epochs);
    let progress =
        Progress::resumed(name, "steps", session.state.step_in_epoch as u64, batches.len() as u64);
    let mut meter = Meter::new(batches.len());
    set_position(session, batches.len());
    for share in &shares {
        let batch = world.watchdog().during("waiting for data", Limit::None, || {
            loader.next().expect("as many batches as shares")
        })?;
        let waited = batch.waited.as_secs_f64();
        let reason = reason_to_stop(session);
        let rates = session.schedule.at(session.state.step as usize);
        let step = train_step(session, &batch, share, rates, reason.is_some())??;
        world.watchdog().first_step_done();
        meter.add(share.of, waited, &step);
        progress.add(1);
        session.state.step_in_epoch += 1;
        session.state.step += 1;
        set_position(session, batches.len());
        view.step(session, share.of, waited, rates.lr);
        let at = session.state.step_in_epoch;
        if session.is_first() && (at.is_multiple_of(meter.interval) || at == batches.len()) {
            end_interval(session, &mut meter, view, rates.lr)?;
        }
        if step.stop {
            world.watchdog().stop_agreed();
            session.save()?;
            return Err(Error::Stopped(format!(
                "{} at epoch {}, step {at}; run the same command again to go on",
                reason.unwrap_or("stopped"),
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

/// Reports to the watchdog how far the training is, in an epoch of `steps` steps.
fn set_position(session: &Session, steps: usize) {
    let (epoch, step) = (session.state.epoch, session.state.step_in_epoch);
    let share = (epoch as f64 + step as f64 / steps as f64) / session.config.train.epochs as f64;
    session.world.watchdog().set_position(Position { epoch: epoch + 1, step, share });
}

/// Why this rank has to stop after the next step.
fn reason_to_stop(session: &Session) -> Option<&'static str> {
    let minutes = session.config.train.max_minutes;
    if session.stop.asked() || session.injected("stop") {
        Some("stopped")
    } else if minutes > 0.0 && session.started.elapsed() > Duration::from_secs_f64(60.0 * minutes) {
        Some("stopped after train.max_minutes")
    } else {
        None
    }
}

/// Writes the line of an interval to `metrics.jsonl` and TensorBoard.
fn end_interval(
    session: &Session,
    meter: &mut Meter,
    view: &mut TerminalView,
    lr: f64,
) -> Result<()> {
    let line = meter.line(session, lr);
    session.logs.metrics(&line)?;
    if let Some(log) = &session.tensorboard {
        log.interval(session.state.step, &line)?;
    }
    view.interval(line["loss"].as_f64());
    Ok(())
}

/// Logs, validation, the best weights so far, and a checkpoint at the start of the next epoch.
/// `draws` are the samples of the epoch in order, as indices into the store.
pub fn end_epoch(session: &mut Session, draws: &[usize]) -> Result<()> {
    let (config, epoch) = (session.config, session.state.epoch + 1);
    let labels: Vec<Labels> = draws.iter().map(|&s| session.data.store.labels(s)).collect();
    session.gather_seen()?;
    let seen = Array2::from_shape_vec((draws.len(), CLASSES), session.seen_logits.clone())
        .map_err(Error::failed)?;
    let probabilities = seen.mapv(sigmoid);
    let train_macro_f1 = macro_f1_at_half(&probabilities, &labels);
    write_samples(session, epoch, "train", draws, &seen)?;

    let mut row = EpochRow {
        epoch,
        train_loss: mean(&session.seen_losses),
        train_macro_f1,
        lr: session.schedule.at(session.state.step.saturating_sub(1) as usize).lr,
        skipped_steps: session.state.skipped,
        ..EpochRow::default()
    };
    let last = epoch == config.train.epochs;
    if last || epoch.is_multiple_of(config.train.validate_every) {
        session.save()?; // so that a kill during validation does not cost the epoch
        session.with_average(|session| validate(session, &mut row))?;
    }
    if let Some(log) = &session.tensorboard {
        log.epoch(session.state.step, &session.network, &row, &probabilities)?;
    }
    let best = session.state.best;
    let better = row.map.filter(|map| best.is_none_or(|(best, _)| *map > best));
    let state = &mut session.state;
    if let Some(map) = better {
        state.best = Some((map, epoch));
    }
    state.history.push(row.clone());
    (state.epoch, state.step_in_epoch) = (epoch, 0);
    report(session, &row);
    session.clear_seen();
    if session.is_first() {
        session.logs.write_history(&session.state.history)?;
    }
    if better.is_some() {
        session.write_weights(&session.folder.best())?;
    }
    if last {
        session.write_weights(&session.folder.last())?;
    }
    session.save()
}

fn report(session: &Session, row: &EpochRow) {
    let text = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.3}"));
    log::info!(
        "fold {} epoch {}/{}: train loss {}, valid loss {}, macro F1 {} (fitted {}), mAP {}, \
            about {} left",
        session.data.fold,
        row.epoch,
        session.config.train.epochs,
        text(row.train_loss),
        text(row.valid_loss),
        text(row.macro_f1),
        text(row.macro_f1_fitted),
        text(row.map),
        duration(session.seconds_remaining())
    );
}
