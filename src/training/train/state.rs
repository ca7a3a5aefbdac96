//! What a training carries from step to step, and how it becomes a checkpoint and back.

use std::{path::Path, time::Instant};

use ndarray::Array2;
use tch::Tensor;

use super::{board::Board, data::FoldData};
use crate::{
    base::{Error, Result, checksum},
    config::{Config, Keep, Train},
    data::labels::CLASSES,
    distributed::{
        World,
        batch_share::Share,
        watchdog::{self, Limit},
    },
    loading::{
        normalization::Normalization,
        sampler::{self, Draw},
    },
    network::{
        model::{ComputeMode, Network, Precision, Spec},
        optim::{Ema, Optimizer, Schedule},
        predictor,
        weights::{self, Weights},
    },
    training::{
        checkpoint::{Checkpoint, Conditions, Folder, State},
        history::Logs,
        run_folder::{Run, processor},
    },
};

pub struct Session<'a> {
    pub config: &'a Config,
    pub fold: usize,
    pub world: &'static World,
    /// `config.train` with this fold's seed.
    pub train: Train,
    pub network: Network,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub ema: Option<Ema>,
    pub state: State,
    /// Logits `[samples so far, 28]` of the epoch at hand, as they were in training. From
    /// `gathered` on, those of the other ranks are zero.
    pub seen_logits: Vec<f32>,
    gathered: usize,
    /// Loss of each step of the epoch at hand.
    pub seen_losses: Vec<f32>,
    pub logs: Logs,
    /// TensorBoard's log, on the first rank where it is wanted.
    pub board: Option<Board>,
    pub folder: Folder,
    started: Instant,
    /// Epochs that were complete when this process took over.
    completed: usize,
}

impl<'a> Session<'a> {
    /// At the start of a training, whose network computes in `form`; writes nothing.
    pub fn new(
        config: &'a Config,
        run: &Run,
        fold: usize,
        data: &FoldData,
        compute_mode: ComputeMode,
        world: &'static World,
    ) -> Result<Self> {
        let mut train = config.train.clone();
        // folds differ, so that their mean gains
        train.seed = config.train.seed.wrapping_mul(1000).wrapping_add(fold as u64);
        let spec = Spec::of(&config.model);
        let folder = Folder::of(&run.fold(fold));
        let initial = if folder.is_begun() { None } else { initial_weights(config)? };
        let network = match initial {
            Some(path) => {
                let (network, notes) = Weights::open(path)?.network(
                    &spec,
                    train.seed,
                    compute_mode.channels_last,
                    world.device,
                )?;
                notes.iter().for_each(|note| log::warn!("{}: {note}", path.display()));
                network
            }
            None => Network::new(&spec, train.seed, compute_mode.channels_last, world.device)?,
        };
        let state = State {
            spec,
            normalization: Normalization::of(train.normalize, &data.store),
            epoch: 0,
            step_in_epoch: 0,
            step: 0,
            optimizer_steps: 0,
            skipped: 0,
            best: None,
            history: Vec::new(),
            conditions: Conditions {
                threads: config.threads(),
                ranks: world.size(),
                compute_mode,
                processor: processor(),
            },
            data: data.hash,
        };
        Ok(Self {
            config,
            fold,
            world,
            optimizer: Optimizer::new(&train, &network),
            schedule: Schedule::new(&train, steps_per_epoch(data.train.len(), train.batch)),
            ema: (train.ema > 0.0).then(|| Ema::new(&network, train.ema)),
            network,
            train,
            state,
            seen_logits: Vec::new(),
            gathered: 0,
            seen_losses: Vec::new(),
            logs: Logs::of(&run.fold(fold)),
            board: None,
            folder,
            started: Instant::now(),
            completed: 0,
        })
    }

    /// Goes on from the newest checkpoint, if there is one.
    pub fn resume(&mut self, newest: Option<Checkpoint>, data: &FoldData) -> Result<()> {
        match newest {
            Some(checkpoint) => {
                self.restore(checkpoint)?;
                self.rewind_logs(data)?;
            }
            None => match Checkpoint::read(&self.folder.last()) {
                // Finished, and what was needed on the way is gone.
                Ok(last)
                    if last.state.data == self.state.data && last.state.spec == self.state.spec =>
                {
                    predictor::set(
                        &self.network,
                        last.tensor("parameters")?,
                        last.tensor("buffers")?,
                    );
                    self.ema = None; // they are the averaged ones
                    self.state = last.state;
                }
                _ => self.rewind_logs(data)?,
            },
        }
        self.completed = self.state.epoch;
        Ok(())
    }

    /// The batches of an epoch: positions in the store and the keys of their randomness. The last
    /// one may be short; one sample alone, on which batch norm cannot work, is left out.
    pub fn batches(&self, data: &FoldData, epoch: usize) -> Vec<Vec<Draw>> {
        let order = sampler::epoch_order(&self.train, &data.labels, epoch as u64);
        let order: Vec<Draw> =
            order.iter().map(|d| Draw { sample: data.train[d.sample], key: d.key }).collect();
        order.chunks(self.train.batch).filter(|b| b.len() > 1).map(<[Draw]>::to_vec).collect()
    }

    /// How long the epochs to come will take, in seconds, by those of this process.
    pub fn left(&self) -> f64 {
        let (done, to_do) =
            (self.state.epoch - self.completed, self.config.train.epochs - self.state.epoch);
        self.started.elapsed().as_secs_f64() / done.max(1) as f64 * to_do as f64
    }

    /// In which numbers the network computes.
    pub fn precision(&self) -> Precision {
        self.state.conditions.compute_mode.precision
    }

    /// Whether this rank writes the files.
    pub fn leads(&self) -> bool {
        self.world.rank() == 0
    }

    /// Tells the network's weights from others; 0 where there is nobody to compare with.
    pub fn fingerprint(&self) -> u64 {
        if self.world.size() == 1 {
            0
        } else {
            weights::with_bytes(&self.network.flat_parameters(), checksum::of)
        }
    }

    /// Takes in the logits of this rank's share of a step.
    pub fn saw(&mut self, share: &Share, logits: &[f32]) {
        let from = self.seen_logits.len();
        self.seen_logits.resize(from + share.of * CLASSES, 0.0);
        if share.counts {
            let at = from + share.samples.start * CLASSES;
            self.seen_logits[at..at + logits.len()].copy_from_slice(logits);
        }
    }

    /// Brings the logits of all ranks together.
    pub fn gather_seen(&mut self) -> Result<()> {
        let rows = (self.seen_logits.len() - self.gathered) / CLASSES;
        let mut new =
            Array2::from_shape_vec((rows, CLASSES), self.seen_logits.split_off(self.gathered))
                .map_err(Error::failed)?;
        watchdog::during("gathering the logs", Limit::Usual, || self.gather(&mut new))?;
        self.seen_logits.extend(new);
        self.gathered = self.seen_logits.len();
        Ok(())
    }

    /// The next epoch has seen nothing yet.
    pub fn forget_seen(&mut self) {
        self.seen_logits.clear();
        self.gathered = 0;
        self.seen_losses.clear();
    }

    /// Each rank fills in some rows and leaves the others zero; afterwards all have all.
    pub fn gather(&self, rows: &mut Array2<f32>) -> Result<()> {
        if self.world.size() > 1 && !rows.is_empty() {
            let flat: Vec<f32> = rows.iter().copied().collect();
            let sum = Tensor::from_slice(&flat).to_device(self.world.device);
            self.world.begin(&sum).and_then(|ticket| self.world.finish(ticket))?;
            rows.iter_mut().zip(predictor::to_vec(&sum)).for_each(|(row, sum)| *row = sum);
        }
        Ok(())
    }

    /// A checkpoint, written by rank 0 of what all ranks agree on.
    pub fn save(&mut self) -> Result<()> {
        self.gather_seen()?;
        watchdog::during("agreeing on the weights", Limit::Usual, || {
            let apart = "the ranks' weights have come apart; are their processors or libraries of \
                different kinds?";
            self.world.same(self.fingerprint(), || Error::failed(apart))
        })?;
        if self.leads() {
            watchdog::during("writing a checkpoint", Limit::Usual, || self.write_checkpoint())
        } else {
            Ok(())
        }
    }

    fn write_checkpoint(&self) -> Result<()> {
        let mut tensors: Vec<(String, Tensor)> = vec![
            ("parameters".into(), self.network.flat_parameters()),
            ("buffers".into(), self.network.flat_buffers()),
            (
                "seen.logits".into(),
                Tensor::from_slice(&self.seen_logits).view([-1, CLASSES as i64]),
            ),
            ("seen.losses".into(), Tensor::from_slice(&self.seen_losses)),
        ];
        tensors.extend(self.optimizer.state().into_iter().map(|(n, t)| (n.to_string(), t)));
        if let Some(ema) = &self.ema {
            tensors.extend(ema.state().into_iter().map(|(n, t)| (n.to_string(), t)));
            tensors.push(("ema.updates".into(), Tensor::from_slice(&[ema.updates() as i64])));
        }
        self.folder
            .save(&Checkpoint { state: self.state.clone(), tensors: tensors.into_iter().collect() })
    }

    /// The weights as validation sees them: averaged, if there is an average. By rank 0.
    pub fn write_weights(&mut self, path: &Path) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        self.with_average(|session| {
            let tensors = [
                ("parameters", session.network.flat_parameters()),
                ("buffers", session.network.flat_buffers()),
            ];
            let tensors = tensors.into_iter().map(|(n, t)| (n.to_string(), t)).collect();
            let checkpoint = Checkpoint { state: session.state.clone(), tensors };
            watchdog::during("writing weights", Limit::Usual, || checkpoint.write(path))
        })
    }

    /// At the end: writes the weights of the last epoch again where they were lost.
    ///
    /// # Errors
    /// Data, if they are lost and of an earlier epoch.
    pub fn ensure_weights(&mut self, path: &Path) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        let Err(e) = Checkpoint::read(path) else { return Ok(()) };
        if self.config.train.keep == Keep::Best
            && self.state.best.is_none_or(|(_, epoch)| epoch != self.state.epoch)
        {
            return Err(Error::data(
                path,
                format!(
                    "{e}; the weights of the best epoch are lost: train into a new run with --run \
                        NAME"
                ),
            ));
        }
        self.write_weights(path)
    }

    /// Runs `work` with the averaged weights in the network, if there are any.
    pub fn with_average<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let swap = |session: &mut Self| {
            if let Some(ema) = &mut session.ema {
                ema.swap(&session.network);
            }
        };
        swap(self);
        let result = work(self);
        swap(self);
        result
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let theirs = &checkpoint.state;
        if theirs.data != self.state.data || theirs.spec != self.state.spec {
            return Err(Error::usage(format!(
                "the checkpoints in {} are of other data (shards, folds.csv) or another network; \
                    train into a new run with --run NAME",
                self.folder.0.display()
            )));
        }
        if theirs.conditions.compute_mode.channels_last
            != self.state.conditions.compute_mode.channels_last
        {
            return Err(Error::usage(format!(
                "the checkpoints in {} have the other memory layout; set train.layout as in the \
                    run's config.toml",
                self.folder.0.display()
            )));
        }
        if self.leads() && theirs.conditions != self.state.conditions {
            log::warn!(
                "resuming under other conditions than before ({:?}, now {:?}): the results will \
                    not be equal to the last bit",
                theirs.conditions,
                self.state.conditions
            );
        }
        predictor::set(
            &self.network,
            checkpoint.tensor("parameters")?,
            checkpoint.tensor("buffers")?,
        );
        let tensors: Vec<(String, Tensor)> =
            checkpoint.tensors.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        self.optimizer.set_state(&tensors, theirs.optimizer_steps)?;
        if let Some(ema) = &mut self.ema {
            let updates = checkpoint.tensor("ema.updates")?.int64_value(&[0]) as u64;
            ema.set_state(&tensors, updates)?;
        }
        self.seen_logits = predictor::to_vec(checkpoint.tensor("seen.logits")?);
        self.gathered = self.seen_logits.len();
        self.seen_losses = predictor::to_vec(checkpoint.tensor("seen.losses")?);
        self.state = State { conditions: self.state.conditions.clone(), ..checkpoint.state };
        let s = &self.state;
        log::info!(
            "fold {}: going on after epoch {}, step {}",
            self.fold,
            s.epoch,
            s.step_in_epoch
        );
        Ok(())
    }

    /// What is on disk goes as far as the state at hand.
    fn rewind_logs(&mut self, data: &FoldData) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        self.logs.rewind_metrics(self.state.step)?;
        if self.state.step > 0 {
            self.logs.write_history(&self.state.history)?;
        }
        if self.train.tensorboard {
            self.board = Some(Board::open(self.logs.folder(), &self.state, data)?);
        }
        Ok(())
    }
}

/// In which form the training began whose newest checkpoint, or weights where it is finished,
/// `folder` has.
pub fn began_as(folder: &Folder, newest: Option<&Checkpoint>) -> Option<ComputeMode> {
    let compute_mode = |checkpoint: &Checkpoint| checkpoint.state.conditions.compute_mode;
    newest
        .map(compute_mode)
        .or_else(|| Checkpoint::read(&folder.last()).ok().as_ref().map(compute_mode))
}

/// The file to start from, if there shall be one.
pub fn initial_weights(config: &Config) -> Result<Option<&Path>> {
    match config.model.weights.as_deref() {
        Some(path) if !path.exists() => Err(Error::usage(format!(
            "model.weights: {} does not exist; `atlas weights import` makes such a file",
            path.display()
        ))),
        path => Ok(path),
    }
}

/// As [`Session::batches`] makes them.
fn steps_per_epoch(samples: usize, batch: usize) -> usize {
    samples / batch + usize::from(samples % batch > 1)
}
