//! From a session to checkpoints and weight files, and back.

use std::path::Path;

use tch::{Kind, Tensor};

use super::{Session, steps_per_epoch};
use crate::{
    base::{Error, Result},
    config::Keep,
    data::labels::CLASSES,
    distributed::watchdog::Limit,
    network::predictor,
    training::{
        checkpoint::{Checkpoint, TrainingState},
        tensorboard_log::TensorBoardLog,
    },
};

impl Session<'_> {
    /// Goes on from the newest checkpoint, if there is one.
    pub fn resume(&mut self, newest: Option<Checkpoint>) -> Result<()> {
        match newest {
            Some(checkpoint) => {
                self.restore(checkpoint)?;
                self.rewind_logs()?;
            }
            None => match Checkpoint::read(&self.folder.last()) {
                // Finished, and the checkpoints of the running training are gone.
                Ok(last) => {
                    self.must_continue(&last.state)?;
                    last.load_into(&self.network)?;
                    self.ema = None; // the weights are the averaged ones
                    self.state = last.state;
                    if self.is_first() {
                        self.logs.write_history(&self.state.history)?;
                    }
                }
                Err(_) if !self.folder.last().exists() => self.rewind_logs()?,
                Err(e) => {
                    let what = format!(
                        "{e}; remove it to begin again, or train into a new run with --run NAME"
                    );
                    return Err(Error::data(&self.folder.0, what));
                }
            },
        }
        self.completed = self.state.epoch;
        Ok(())
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<()> {
        self.check_can_restore(&checkpoint.state)?;
        self.check_epoch(&checkpoint)?;
        checkpoint.load_into(&self.network)?;
        self.optimizer.set_state(&checkpoint.tensors, checkpoint.state.optimizer_steps)?;
        if let Some(ema) = &mut self.ema {
            let updates = checkpoint.tensor("ema.updates")?.sum(Kind::Int64).int64_value(&[]);
            ema.set_state(&checkpoint.tensors, updates as u64)?;
        }
        self.seen_logits = predictor::to_vec(checkpoint.tensor("seen.logits")?);
        self.gathered = self.seen_logits.len();
        self.seen_losses = predictor::to_vec(checkpoint.tensor("seen.losses")?);
        let (conditions, origin) = (self.state.conditions.clone(), self.state.origin.take());
        self.state = TrainingState { conditions, origin, ..checkpoint.state };
        log::info!(
            "fold {}: going on after epoch {}, step {}",
            self.data.fold,
            self.state.epoch,
            self.state.step_in_epoch
        );
        Ok(())
    }

    /// # Errors
    /// Usage, where a state is of another fold, run, network or other data.
    fn must_continue(&self, other: &TrainingState) -> Result<()> {
        let origins = (&other.origin, &self.state.origin);
        let unlike = match origins {
            (Some(theirs), Some(mine)) => theirs.unlike(mine),
            _ => None,
        };
        let what = if let Some(what) = unlike {
            format!("were copied here: {what}")
        } else if other.data != self.state.data {
            format!(
                "are of other data (the hash of images, labels and folds is {:016x} there and \
                 {:016x} in {})",
                other.data,
                self.state.data,
                self.config.paths.work.display()
            )
        } else if other.network.spec != self.state.network.spec {
            format!(
                "are of another network ({:?} there and {:?} here)",
                other.network.spec, self.state.network.spec
            )
        } else {
            return Ok(());
        };
        Err(Error::usage(format!(
            "the checkpoints in {} {what}; train into another run with --run NAME",
            self.folder.0.display()
        )))
    }

    /// # Errors
    /// Usage, where a state does not fit this session.
    fn check_can_restore(&self, other: &TrainingState) -> Result<()> {
        self.must_continue(other)?;
        let (mine, theirs) = (&self.state.conditions, &other.conditions);
        let folder = self.folder.0.display();
        if theirs.compute_mode.channels_last != mine.compute_mode.channels_last {
            return Err(Error::usage(format!(
                "the checkpoints in {folder} have the other memory layout; set train.layout as in \
                    the run's config.toml"
            )));
        }
        if self.is_first() && theirs != mine {
            log::warn!(
                "resuming under other conditions than before ({theirs:?}, now {mine:?}): the \
                    results will not be equal to the last bit"
            );
        }
        Ok(())
    }

    /// # Errors
    /// Data, where a state is not one of a step in an epoch of this training, which a checksum does
    /// not show.
    fn check_epoch(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (at, steps) = (
            checkpoint.state.step_in_epoch,
            steps_per_epoch(self.data.train.len(), self.config.train.batch),
        );
        let losses = checkpoint.tensor("seen.losses")?.size();
        if at > steps || losses != [at as i64] {
            let what = format!(
                "the checkpoint is of step {at} of an epoch that has {steps}, with losses \
                    {losses:?}; train into another run with --run NAME"
            );
            return Err(Error::data(&self.folder.0, what));
        }
        Ok(())
    }

    /// Makes the logs end where the state does.
    fn rewind_logs(&mut self) -> Result<()> {
        if !self.is_first() {
            return Ok(());
        }
        self.logs.rewind_metrics(self.state.step)?;
        if self.state.step > 0 {
            self.logs.write_history(&self.state.history)?;
        }
        if self.config.train.tensorboard {
            let log = TensorBoardLog::open(&self.logs.folder, &self.state, &self.data)?;
            self.tensorboard = Some(log);
        }
        Ok(())
    }

    /// Writes a checkpoint, by the first rank, after all ranks have agreed on the weights.
    pub fn save(&mut self) -> Result<()> {
        self.gather_seen()?;
        let watchdog = self.world.watchdog();
        watchdog.during("agreeing on the weights", Limit::Usual, || {
            let apart = "the ranks' weights have come apart; are their processors or libraries of \
                different kinds?";
            self.world.same(self.fingerprint(), || Error::failed(apart))
        })?;
        if self.is_first() {
            watchdog.during("writing a checkpoint", Limit::Usual, || self.write_checkpoint())
        } else {
            Ok(())
        }
    }

    fn write_checkpoint(&self) -> Result<()> {
        let logits = Tensor::from_slice(&self.seen_logits).view([-1, CLASSES as i64]);
        let losses = Tensor::from_slice(&self.seen_losses);
        let mut more = vec![("seen.logits", logits), ("seen.losses", losses)];
        more.extend(self.optimizer.state());
        if let Some(ema) = &self.ema {
            more.extend(ema.state());
            more.push(("ema.updates", Tensor::from_slice(&[ema.updates() as i64])));
        }
        let mut checkpoint = self.weights();
        let more = more.into_iter().map(|(name, tensor)| (name.to_string(), tensor));
        checkpoint.tensors.extend(more);
        self.folder.save(&checkpoint)
    }

    /// The state, and the weights that are in the network now.
    fn weights(&self) -> Checkpoint {
        let tensors = [
            ("parameters".to_string(), self.network.flat_parameters()),
            ("buffers".to_string(), self.network.flat_buffers()),
        ];
        Checkpoint { state: self.state.clone(), tensors: tensors.into() }
    }

    /// Writes the weights as validation uses them: averaged, if there is an average. By the first
    /// rank.
    pub fn write_weights(&mut self, path: &Path) -> Result<()> {
        if !self.is_first() {
            return Ok(());
        }
        self.with_average(|session| {
            let watchdog = session.world.watchdog();
            watchdog.during("writing weights", Limit::Usual, || session.weights().write(path))
        })
    }

    /// At the end: writes the weights of the last epoch again if they were lost, and those at
    /// `path`, which are kept, if they are of the last epoch, too.
    ///
    /// # Errors
    /// Data, if those at `path` are lost and of an earlier epoch, or of another fold or run.
    pub fn ensure_weights(&mut self, path: &Path) -> Result<()> {
        if !self.is_first() {
            return Ok(());
        }
        let last = self.folder.last();
        if Checkpoint::read(&last).is_err() {
            self.write_weights(&last)?;
        }
        let e = match Checkpoint::read(path) {
            Ok(weights) => {
                return self.must_continue(&weights.state).map_err(|e| Error::data(path, e));
            }
            Err(e) => e,
        };
        if self.config.train.keep == Keep::Best
            && self.state.best.is_none_or(|(_, epoch)| epoch != self.state.epoch)
        {
            let what =
                "the weights of the best epoch are lost: train into a new run with --run NAME";
            return Err(Error::data(path, format!("{e}; {what}")));
        }
        self.write_weights(path)
    }
}
