//! The training of one fold, from shards and folds to checkpoints and out-of-fold predictions.
//! Killed at any moment, it goes on from the newest checkpoint and ends with the same bits.

use std::{fs, time::Instant};

pub use super::validation::FoldOutcome;
use super::{
    auto_compute_mode,
    checkpoint::CheckpointFolder,
    epoch::{end_epoch, train_epoch},
    fold_data::FoldData,
    fold_status::has_predictions,
    origin::Origin,
    run_folder::Run,
    session::{Session, config_of_fold, initial_weights, mode_at_start},
    terminal_view::TerminalView,
    validation::predict_validation,
};
use crate::{
    base::{Error, Result, stop_request::Stop},
    config::{Config, Model},
    data::work_folder::WorkFolder,
    distributed::{Heartbeat, World, device, watchdog::Limit},
    network::{model::Spec, weights::Weights},
};

/// Whether a training can start at all: what can be checked quickly before hours of preprocessing.
///
/// # Errors
/// Usage, for an unknown architecture, and for weights to start from that are missing or of another
/// one; data, for damaged ones.
pub fn check(model: &Model) -> Result<()> {
    let spec = Spec::of(model);
    spec.shapes()?;
    initial_weights(model)?.map_or(Ok(()), |path| Weights::open(path)?.fit(&spec))
}

/// Trains fold `fold` of `run` to its end together with the other ranks of `world`, going on from
/// the newest checkpoint. `stop` on any rank ends it at the next step with a checkpoint.
///
/// # Errors
/// [`Error::Stopped`] after `stop` or `train.max_minutes`, on all ranks alike; [`Error::Elsewhere`]
/// where another rank reports the error. The other ranks do not know of any other error: the caller
/// has to [`abort`](crate::distributed::Comm::abort).
pub fn train(
    config: &Config,
    run: &Run,
    fold: usize,
    world: &'static World,
    stop: &'static Stop,
) -> Result<FoldOutcome> {
    let (started, watchdog) = (Instant::now(), world.watchdog());
    let effective = &config_of_fold(config, fold, world);
    device::set_up_cpu(effective.threads())?;
    let work = WorkFolder::of(config);
    let data = watchdog.during("opening the shards", Limit::Start, || {
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
    if world.rank() == 0 {
        data.absent().iter().for_each(|what| log::warn!("fold {fold}: {what}"));
    }
    let begun = watchdog.during("start of the training", Limit::Start, || {
        let folder = CheckpointFolder::of(&run.fold(fold));
        world.agree(if folder.is_begun() { Ok(()) } else { check(&config.model) })?;
        let is_first = world.rank() == 0;
        let lock =
            world.agree(is_first.then(|| begin(config, &work, run, fold, stop)).transpose())?;
        // Only now: the last holder of the fold may have written a checkpoint.
        let newest = world.agree(folder.newest())?;
        let mode = auto_compute_mode::settle(effective, world, mode_at_start(&folder, &newest))?;
        let session = Session::new(effective, &run.fold(fold), data, mode, world, stop);
        let mut session = world.agree(session)?;
        if is_first {
            // It writes the checkpoints.
            session.state.origin = Some(Origin::of(config, &run.provenance(), fold));
        }
        world.agree(session.resume(newest))?;
        session.started = started;
        Ok::<_, Error>((session, lock))
    });
    let (mut session, _lock) = begun?;
    drop(work); // the manifest may be large
    check_same_start(&session)?;
    watchdog.begin_training(stop, run.heartbeat(fold));
    let outcome = train_to_end(&mut session, run);
    if matches!(outcome, Ok(_) | Err(Error::Stopped(_))) {
        watchdog.during("end of the training", Limit::Usual, || world.barrier())?;
        watchdog.end_training();
    }
    outcome
}

/// What only the first rank does before the first step. Holds the fold until the file is dropped.
fn begin(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    fold: usize,
    stop: &Stop,
) -> Result<fs::File> {
    // The checkpoints of a fold that is begun tell by themselves.
    if !CheckpointFolder::of(&run.fold(fold)).is_begun() {
        run.must_have_samples(work)?;
    }
    run.begin(config, work)?;
    let lock = run.lock(fold, stop)?;
    if let Some(last) = Heartbeat::read(&run.heartbeat(fold)) {
        log::warn!(
            "the last training of fold {fold} did not end in order ({last}); going on from its \
                newest checkpoint"
        );
    }
    Ok(lock)
}

/// # Errors
/// Data, where the ranks would train different networks.
fn check_same_start(session: &Session) -> Result<()> {
    let (config, world) = (session.config, session.world);
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
    })
}

fn train_to_end(session: &mut Session, run: &Run) -> Result<FoldOutcome> {
    let (config, fold) = (session.config, session.data.fold);
    let is_trained = session.state.epoch >= config.train.epochs;
    if session.is_first()
        && run.is_finished(fold)
        && !(is_trained && has_predictions(config, run, fold))
    {
        let path = run.validation(fold);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    if !is_trained {
        let mut view = TerminalView::begin(session);
        while session.state.epoch < config.train.epochs {
            let draws = train_epoch(session, &mut view)?;
            end_epoch(session, &draws)?;
        }
    }
    let path = run.weights(fold, config.train.keep);
    session.ensure_weights(&path)?;
    let watchdog = session.world.watchdog();
    watchdog.during("waiting for the weights", Limit::Usual, || session.world.barrier())?;
    predict_validation(session, run)
}
