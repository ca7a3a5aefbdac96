//! What the training of one fold carries from step to step.

mod checkpoints;

use std::{path::Path, time::Instant};

use ndarray::Array2;
use tch::Tensor;

use super::{
    backward::SyncedGradients,
    checkpoint::{Checkpoint, CheckpointFolder, Conditions, TrainingState},
    fold_data::FoldData,
    history::Logs,
    provenance::processor,
    tensorboard_log::TensorBoardLog,
};
use crate::{
    base::{Error, Result, advice, checksum, fault, stop_request::Stop},
    config::{Config, Model, Train},
    data::labels::CLASSES,
    distributed::{World, batch_share::Share, watchdog::Limit},
    loading::{
        loader::{Loader, Make},
        normalization::Normalization,
        sampler::{self, Draw},
    },
    network::{
        model::{ComputeMode, Network, Precision, Spec},
        optim::{Ema, Optimizer, Schedule},
        predictor,
        weights::{self, NetworkState, Weights},
    },
};

pub struct Session<'a> {
    /// From [`config_of_fold`].
    pub config: &'a Config,
    pub world: &'static World,
    pub stop: &'a Stop,
    pub data: FoldData,
    pub network: Network,
    pub gradients: SyncedGradients,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub ema: Option<Ema>,
    pub state: TrainingState,
    /// Logits `[samples so far, 28]`, flat, of the current epoch, as they were in training. From
    /// `gathered` on, those of the other ranks are zero.
    pub seen_logits: Vec<f32>,
    gathered: usize,
    /// Loss of each step of the current epoch.
    pub seen_losses: Vec<f32>,
    pub logs: Logs,
    /// On the first rank, with `train.tensorboard`.
    pub tensorboard: Option<TensorBoardLog>,
    pub folder: CheckpointFolder,
    /// When this process began with the training.
    pub started: Instant,
    /// Epochs that were complete then.
    completed: usize,
}

/// The configuration with the number of threads and with the seed of the fold. Folds have different
/// seeds, which makes the mean of their predictions better.
pub fn config_of_fold(config: &Config, fold: usize, world: &World) -> Config {
    let seed = config.train.seed.wrapping_mul(1000).wrapping_add(fold as u64);
    let train = Train { seed, ..config.train.clone() };
    Config { threads: Some(config.threads.unwrap_or(world.cores)), train, ..config.clone() }
}

impl<'a> Session<'a> {
    /// At the start of a training, which keeps its files in `folder`; writes nothing. `config` is
    /// from [`config_of_fold`].
    pub fn new(
        config: &'a Config,
        folder: &Path,
        data: FoldData,
        compute_mode: ComputeMode,
        world: &'static World,
        stop: &'a Stop,
    ) -> Result<Self> {
        let train = &config.train;
        let checkpoints = CheckpointFolder::of(folder);
        let spec = Spec::of(&config.model);
        let weights = if checkpoints.is_begun() { None } else { initial_weights(&config.model)? };
        let network = initial_network(&spec, weights, train.seed, compute_mode, world)?;
        let normalization = Normalization::of(train.normalize, &data.store);
        let conditions = Conditions {
            threads: config.threads(),
            ranks: world.size(),
            compute_mode,
            processor: processor(),
        };
        let network_state = NetworkState { spec, normalization };
        Ok(Self {
            config,
            world,
            stop,
            gradients: SyncedGradients::new(&network, world, config.comm.wire),
            optimizer: Optimizer::new(train, &network),
            schedule: Schedule::new(train, steps_per_epoch(data.train.len(), train.batch)),
            ema: (train.ema > 0.0).then(|| Ema::new(&network, train.ema)),
            network,
            state: TrainingState::new(network_state, conditions, data.hash),
            data,
            seen_logits: Vec::new(),
            gathered: 0,
            seen_losses: Vec::new(),
            logs: Logs::of(folder),
            tensorboard: None,
            folder: checkpoints,
            started: Instant::now(),
            completed: 0,
        })
    }

    /// The batches of an epoch: indices into the store and the keys of their randomness. The last
    /// batch may be short, but a single sample is left out, as batch norm needs two.
    pub fn batches(&self, epoch: usize) -> Vec<Vec<Draw>> {
        let (train, data) = (&self.config.train, &self.data);
        let order = sampler::epoch_order(train, &data.labels, epoch as u64);
        let order: Vec<Draw> =
            order.iter().map(|d| Draw { sample: data.train[d.sample], key: d.key }).collect();
        order.chunks(train.batch).filter(|b| b.len() > 1).map(<[Draw]>::to_vec).collect()
    }

    /// This rank's shares of `batches`, which are of the current epoch, and their samples.
    pub fn load(&self, batches: &[Vec<Draw>]) -> (Vec<Share>, Loader) {
        let (train, world) = (&self.config.train, self.world);
        let share = |batch: &Vec<Draw>| {
            Share::new(batch.len(), world.rank(), world.size(), train.micro_batch)
        };
        let shares: Vec<Share> = batches.iter().map(share).collect();
        let mine = batches.iter().zip(&shares);
        let mine = mine.map(|(batch, share)| batch[share.samples.clone()].to_vec()).collect();
        let make = Make::Train {
            augment: self.config.augment.clone(),
            seed: train.seed,
            epoch: self.state.epoch as u64,
        };
        (shares, Loader::new(self.data.store.clone(), mine, make, self.config.threads(), 4))
    }

    /// Estimated seconds for the epochs to come, by those of this process.
    pub fn seconds_remaining(&self) -> f64 {
        let done = self.state.epoch - self.completed;
        let to_do = self.config.train.epochs - self.state.epoch;
        self.started.elapsed().as_secs_f64() / done.max(1) as f64 * to_do as f64
    }

    /// The kind of number that the network computes in.
    pub fn precision(&self) -> Precision {
        self.state.conditions.compute_mode.precision
    }

    /// Whether this rank writes the files.
    pub fn is_first(&self) -> bool {
        self.world.rank() == 0
    }

    /// Whether ATLAS_FAULT names `what` for this rank and step.
    pub fn injected(&self, what: &str) -> bool {
        fault::injected(what, self.world.rank(), self.state.step)
    }

    /// A hash of the network's weights; 0 where there is no other rank to compare it with.
    pub fn fingerprint(&self) -> u64 {
        if self.world.size() == 1 {
            0
        } else {
            weights::with_bytes(&self.network.flat_parameters(), checksum::of)
        }
    }

    /// Adds the logits of this rank's share of a step, `[n, 28]`, flat.
    pub fn add_logits(&mut self, share: &Share, logits: &[f32]) {
        let from = self.seen_logits.len();
        self.seen_logits.resize(from + share.of * CLASSES, 0.0);
        if share.counts {
            let at = from + share.samples.start * CLASSES;
            self.seen_logits[at..at + logits.len()].copy_from_slice(logits);
        }
    }

    /// Completes the logits so far with those of the other ranks.
    pub fn gather_seen(&mut self) -> Result<()> {
        let new = self.seen_logits.split_off(self.gathered);
        let rows = new.len() / CLASSES;
        let mut new = Array2::from_shape_vec((rows, CLASSES), new).map_err(Error::failed)?;
        let watchdog = self.world.watchdog();
        watchdog.during("gathering the logs", Limit::Usual, || self.gather(&mut new))?;
        self.seen_logits.extend(new);
        self.gathered = self.seen_logits.len();
        Ok(())
    }

    /// At the start of the next epoch.
    pub fn clear_seen(&mut self) {
        self.seen_logits.clear();
        self.gathered = 0;
        self.seen_losses.clear();
    }

    /// Completes `rows`, of which each rank has filled in some and left the others zero.
    pub fn gather(&self, rows: &mut Array2<f32>) -> Result<()> {
        if self.world.size() > 1 && !rows.is_empty() {
            let flat: Vec<f32> = rows.iter().copied().collect();
            let sum = Tensor::from_slice(&flat).to_device(self.world.device);
            self.world.begin(&sum).and_then(|ticket| self.world.finish(ticket))?;
            rows.iter_mut().zip(predictor::to_vec(&sum)).for_each(|(row, sum)| *row = sum);
        }
        Ok(())
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
}

/// The compute mode in which a training began: of its `newest` checkpoint, or of its weights where
/// it is finished.
pub fn mode_at_start(
    folder: &CheckpointFolder,
    newest: &Option<Checkpoint>,
) -> Option<ComputeMode> {
    let mode = |checkpoint: &Checkpoint| checkpoint.state.conditions.compute_mode;
    let last = || Checkpoint::read(&folder.last()).ok();
    newest.as_ref().map(mode).or_else(|| last().as_ref().map(mode))
}

/// The file to start from, if the configuration names one.
pub fn initial_weights(model: &Model) -> Result<Option<&Path>> {
    match model.weights.as_deref() {
        Some(path) if !path.exists() => Err(Error::usage(format!(
            "model.weights: {} does not exist; `atlas weights import FILE --output {}` \
                makes it from a state dict",
            path.display(),
            advice::quoted(path.display())
        ))),
        path => Ok(path),
    }
}

/// A network with the weights of a file, or with fresh ones from `seed`.
fn initial_network(
    spec: &Spec,
    weights: Option<&Path>,
    seed: u64,
    compute_mode: ComputeMode,
    world: &World,
) -> Result<Network> {
    let nhwc = compute_mode.channels_last;
    let Some(path) = weights else { return Network::new(spec, seed, nhwc, world.device) };
    let (network, notes) = Weights::open(path)?.network(spec, seed, nhwc, world.device)?;
    notes.iter().for_each(|note| log::warn!("{}: {note}", path.display()));
    Ok(network)
}

/// The number of [`Session::batches`].
fn steps_per_epoch(samples: usize, batch: usize) -> usize {
    samples / batch + usize::from(samples % batch > 1)
}
