//! One fold, from shards and folds to checkpoints and out-of-fold predictions. Killed at any moment, it goes on from the
//! newest checkpoint and ends with the same bits.

mod data;
mod state;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use ndarray::Array2;
use serde_json::json;
use tch::{Kind, Tensor};

use self::{data::FoldData, state::Session};
use crate::{
    checkpoint::{Checkpoint, Folder},
    config::{Config, Keep, Method, Tta},
    error::{Error, Result},
    history::{Row, Samples},
    infer::{self, Predictor, sigmoid},
    labels::{CLASSES, Labels},
    loader::{Batch, Loader, Make},
    loss, metrics,
    model::{DropKeys, Mode, Spec},
    predictions::Predictions,
    progress::{Progress, duration},
    results::Run,
    thresholds,
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
pub enum Standing {
    /// Not begun, interrupted, or its predictions are missing or made with other `predict` keys.
    ToDo,
    Done,
    /// Begun or finished on other data than the shards and folds.csv at hand.
    Stale,
}

/// Looks at the weights and checkpoints of every fold.
pub fn standings(config: &Config, run: &Run) -> Result<Vec<Standing>> {
    let of = |fold: usize| {
        let checkpoint = match Checkpoint::read(&weights_path(config, run, fold)) {
            Ok(weights) => Some(weights),
            Err(_) => Folder::of(&run.fold(fold)).newest()?,
        };
        Ok(match checkpoint {
            Some(checkpoint) if checkpoint.state.data != FoldData::open(config, fold)?.hash => Standing::Stale,
            Some(_) if has_predictions(config, run, fold) => Standing::Done,
            _ => Standing::ToDo,
        })
    };
    (0..config.split.folds).map(of).collect()
}

/// Whether the out-of-fold predictions are there and were made with the weights and settings at hand.
pub fn has_predictions(config: &Config, run: &Run, fold: usize) -> bool {
    let path = run.validation(fold);
    path.exists() && infer::source(config, &[weights_path(config, run, fold)]).is_ok_and(|source| Predictions::is_fresh(&path, source))
}

/// Whether a training can begin at all: what is cheap to see before hours of preprocessing.
///
/// # Errors
/// Usage, for an unknown architecture or missing weights to start from.
pub fn check(config: &Config) -> Result<()> {
    Spec::of(&config.model).shapes()?;
    state::initial_weights(config).map(drop)
}

/// Trains fold `fold` of `run` to its end, resuming where it stands. `stop` ends it at the next step with a checkpoint.
///
/// # Errors
/// [`Error::Stopped`] after `stop`; [`Error::Data`] for a broken shard; [`Error::Failed`] when gradients stay non-finite.
pub fn train(config: &Config, run: &Run, fold: usize, stop: &AtomicBool) -> Result<Outcome> {
    tch::set_num_threads(config.threads() as i32);
    let start = Instant::now();
    let data = FoldData::open(config, fold)?;
    log::info!("fold {fold}: {} samples to train, {} to validate", data.train.len(), data.valid.len());
    let mut session = Session::new(config, run, fold, &data)?;
    run.begin(config)?;
    let _lock = run.lock(fold)?;
    session.resume()?;
    if run.is_finished(fold) && (session.state.epoch < config.train.epochs || !has_predictions(config, run, fold)) {
        let path = run.validation(fold);
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    while session.state.epoch < config.train.epochs {
        let draws = train_epoch(&mut session, &data, stop)?;
        end_epoch(&mut session, &data, &draws, stop)?;
    }
    session.ensure_weights(&weights_path(config, run, fold))?;
    predict_validation(&session, &data, run, start, stop)
}

/// The steps of one epoch that are still to do. Returns the samples of the whole epoch in their order.
fn train_epoch(session: &mut Session, data: &FoldData, stop: &AtomicBool) -> Result<Vec<usize>> {
    let (config, epoch) = (session.config, session.state.epoch);
    let batches = session.batches(data, epoch);
    let todo: Vec<_> = batches[session.state.step_in_epoch..].to_vec();
    let name = format!("fold {} epoch {}/{}", session.fold, epoch + 1, config.train.epochs);
    let progress = Progress::going_on(name, "steps", session.state.step_in_epoch as u64, batches.len() as u64);
    let make = Make::Train { augment: config.augment.clone(), seed: session.train.seed, epoch: epoch as u64 };
    let mut meter = Meter::new(batches.len());
    for batch in Loader::new(data.store.clone(), todo, make, config.threads(), 4) {
        let batch = batch?;
        let (norm, lr) = train_step(session, &batch)?;
        meter.step(&batch, norm);
        progress.add(1);
        let s = &mut session.state;
        s.step_in_epoch += 1;
        s.step += 1;
        if s.step_in_epoch.is_multiple_of(meter.interval) || s.step_in_epoch == batches.len() {
            session.logs.metrics(&meter.line(session, lr))?;
        }
        if stop.load(Ordering::Relaxed) {
            session.save()?;
            let s = &session.state;
            return Err(Error::Stopped(format!(
                "stopped at epoch {}, step {}; run the same command again to go on",
                epoch + 1,
                s.step_in_epoch
            )));
        }
        let every = config.train.checkpoint_steps;
        if every > 0 && session.state.step_in_epoch.is_multiple_of(every) && session.state.step_in_epoch < batches.len() {
            session.save()?;
        }
    }
    Ok(batches.iter().flatten().map(|d| d.sample).collect())
}

/// Forward, backward, step. Returns the gradient's norm and the learning rate.
fn train_step(session: &mut Session, batch: &Batch) -> Result<(f64, f64)> {
    let config = session.config;
    let n = batch.samples.len();
    let micro = if config.train.micro_batch == 0 { n } else { config.train.micro_batch.min(n) };
    let side = config.augment.crop as usize;
    let image = side * side * 4;
    let statistics = session.network.flat_buffers().copy();
    session.network.zero_gradients();
    let (mut sum, mut at) = (0.0, 0);
    while at < n {
        // Batch norm cannot work on one sample alone: a last one goes with those before it.
        let end = if n - at <= micro + 1 { n } else { at + micro };
        let x = session.state.normalization.apply(&batch.images[at * image..end * image], side, session.network.device());
        let targets = one_hot(&batch.labels[at..end]);
        let keys = DropKeys { seed: session.train.seed, epoch: session.state.epoch as u64, keys: &batch.keys[at..end] };
        let logits = session.network.forward(&x, Mode::Train(keys), config.train.precision);
        // Each part counts by its samples. Losses over sets (`batch`, `class`) take the sets of the part.
        let loss = loss::total(&logits, &targets, &config.train.loss) * ((end - at) as f64 / n as f64);
        loss.backward();
        sum += loss.double_value(&[]);
        session.seen_logits.extend(infer::to_vec(&logits));
        at = end;
    }
    session.seen_losses.push(sum as f32);
    let rates = session.schedule.at(session.state.step as usize);
    let step = session.optimizer.step(&session.network, rates);
    session.state.optimizer_steps = session.optimizer.steps();
    if step.skipped {
        // The forward pass may have put what is not finite into the running statistics, too.
        tch::no_grad(|| session.network.flat_buffers().copy_(&statistics));
        session.state.skipped += 1;
        log::warn!("step {}: the gradient is not finite; the step is skipped ({} so far)", session.state.step + 1, session.state.skipped);
        if session.state.skipped > config.train.max_skipped_steps {
            return Err(Error::failed(format!(
                "{} steps had a gradient that is not finite, more than train.max_skipped_steps = {}; try a smaller train.lr",
                session.state.skipped, config.train.max_skipped_steps
            )));
        }
    } else if let Some(ema) = &mut session.ema {
        ema.update(&session.network);
    }
    Ok((step.norm, rates.lr))
}

/// Logs, validation, the best weights so far, and a checkpoint at the start of the next epoch.
fn end_epoch(session: &mut Session, data: &FoldData, draws: &[usize], stop: &AtomicBool) -> Result<()> {
    let (config, epoch) = (session.config, session.state.epoch + 1);
    let labels: Vec<Labels> = draws.iter().map(|&s| data.store.labels(s)).collect();
    let seen = Array2::from_shape_vec((draws.len(), CLASSES), session.seen_logits.clone()).map_err(Error::failed)?;
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
        "fold {} epoch {epoch}/{}: train loss {}, valid loss {}, macro F1 {} (fitted {}), mAP {}, about {} left",
        session.fold,
        config.train.epochs,
        text(row.train_loss),
        text(row.valid_loss),
        text(row.macro_f1),
        text(row.macro_f1_fitted),
        text(row.map),
        duration(session.left())
    );
    session.seen_logits.clear();
    session.seen_losses.clear();
    session.logs.write_history(&session.state.history)?;
    if better {
        session.write_weights(&session.folder.best())?;
    }
    if last {
        session.write_weights(&session.folder.last())?;
    }
    session.save()
}

/// The whole resized images of the validation samples, one view each.
fn validate(session: &Session, data: &FoldData, row: &mut Row, stop: &AtomicBool) -> Result<()> {
    let config = session.config;
    let progress = Progress::new(format!("fold {} validation", session.fold), "samples", data.valid.len() as u64);
    let predictor = Predictor { network: &session.network, normalization: &session.state.normalization, config, stop };
    let logits = predictor.logits(&data.store, &data.valid, Tta::None, Some(&progress))?;
    let labels: Vec<Labels> = data.valid.iter().map(|&s| data.store.labels(s)).collect();
    let probabilities = logits.mapv(sigmoid);
    // In parts of a training batch, so that losses over whole batches are comparable with training.
    let mut sum = 0.0;
    for (at, part) in labels.chunks(config.train.batch).enumerate() {
        let from = at * config.train.batch;
        let logits = tensor(&logits.slice(ndarray::s![from..from + part.len(), ..]).to_owned());
        sum += loss::total(&logits, &one_hot(part), &config.train.loss).double_value(&[]) * part.len() as f64;
    }
    row.valid_loss = Some(sum / labels.len() as f64);
    row.macro_f1 = Some(macro_f1_at_half(&probabilities, &labels));
    let own: Vec<usize> = (0..labels.len()).collect();
    row.macro_f1_fitted = Some(thresholds::cross_fitted(Method::Shrunken, probabilities.view(), &labels, &own, 2, 0).macro_f1);
    row.map = Some(mean_average_precision(&probabilities, &labels));
    write_samples(session, data, row.epoch, "val", &data.valid, &labels, &logits)
}

fn write_samples(
    session: &Session,
    data: &FoldData,
    epoch: usize,
    part: &str,
    samples: &[usize],
    labels: &[Labels],
    logits: &Array2<f32>,
) -> Result<()> {
    let losses = loss::per_sample(&tensor(logits), &one_hot(labels), &session.config.train.loss);
    let samples = Samples {
        ids: samples.iter().map(|&s| data.store.id(s)).collect(),
        labels: labels.to_vec(),
        probabilities: logits.iter().map(|&l| sigmoid(l)).collect(),
        losses: losses.into_iter().map(|(name, t)| (name, infer::to_vec(&t))).collect(),
    };
    session.logs.write_samples(epoch, part, &samples)
}

/// Out-of-fold predictions with the weights that are used afterwards and full test-time augmentation: the fold's last file.
fn predict_validation(session: &Session, data: &FoldData, run: &Run, start: Instant, stop: &AtomicBool) -> Result<Outcome> {
    let config = session.config;
    let path = weights_path(config, run, session.fold);
    let (network, normalization) = infer::load(&path, config)?;
    let progress = Progress::new(format!("fold {} out-of-fold predictions", session.fold), "samples", data.valid.len() as u64);
    let predictor = Predictor { network: &network, normalization: &normalization, config, stop };
    let probabilities = predictor.logits(&data.store, &data.valid, config.predict.tta, Some(&progress))?.mapv(sigmoid);
    let labels: Vec<Labels> = data.valid.iter().map(|&s| data.store.labels(s)).collect();
    let outcome = Outcome {
        fold: session.fold,
        epochs: session.state.epoch,
        epoch_used: if config.train.keep == Keep::Best {
            session.state.best.map_or(session.state.epoch, |b| b.1)
        } else {
            session.state.epoch
        },
        map: mean_average_precision(&probabilities, &labels),
        macro_f1: macro_f1_at_half(&probabilities, &labels),
        seconds: start.elapsed().as_secs_f64(),
    };
    let ids = data.valid.iter().map(|&s| data.store.id(s).to_string()).collect();
    Predictions { ids, probabilities }.write(&run.validation(session.fold), infer::source(config, &[path])?)?;
    log::info!(
        "fold {} is done in {}: out-of-fold macro F1 {:.3}, mAP {:.3}",
        outcome.fold,
        duration(outcome.seconds),
        outcome.macro_f1,
        outcome.map
    );
    Ok(outcome)
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

/// Counts what `metrics.jsonl` reports per interval.
struct Meter {
    interval: usize,
    since: Instant,
    samples: usize,
    waited: f64,
    norm: f64,
}

impl Meter {
    /// About ten intervals per epoch.
    fn new(steps: usize) -> Self {
        Self { interval: steps.div_ceil(10).max(1), since: Instant::now(), samples: 0, waited: 0.0, norm: 0.0 }
    }

    fn step(&mut self, batch: &Batch, norm: f64) {
        self.samples += batch.samples.len();
        self.waited += batch.waited.as_secs_f64();
        self.norm = norm;
    }

    fn line(&mut self, session: &Session, lr: f64) -> serde_json::Value {
        let seconds = self.since.elapsed().as_secs_f64();
        let s = &session.state;
        // The losses are those of the whole interval, also where a part of it lies before a restart.
        let from = (s.step_in_epoch - 1) / self.interval * self.interval;
        let line = json!({
            "epoch": s.epoch + 1, "step": s.step, "lr": lr, "loss": mean(&session.seen_losses[from..]), "gradient_norm": self.norm,
            "samples_per_s": self.samples as f64 / seconds, "samples_per_s_without_waiting": self.samples as f64 / (seconds - self.waited).max(1e-9),
            "data_wait": self.waited / seconds, "skipped_steps": s.skipped, "resident_mib": resident_mib(),
        });
        *self = Self { interval: self.interval, ..Self::new(1) };
        line
    }
}

/// Resident memory of this process in MiB.
fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| (pages * 4096) >> 20)
}
