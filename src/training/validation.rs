//! Validation and out-of-fold predictions: each rank predicts its part, and all get the whole.

use ndarray::Array2;
use tch::Tensor;

use super::{
    backward::one_hot,
    history::{EpochRow, Samples},
    run_folder::Run,
    session::Session,
    trained_network::TrainedNetwork,
};
use crate::{
    base::{
        Error, Result,
        progress::{Progress, duration},
        thrown,
    },
    config::{Config, Keep, Method, Tta},
    data::labels::{CLASSES, Labels},
    distributed::{batch_share, watchdog::Limit},
    network::{
        loss,
        predictor::{self, Predictor, sigmoid},
    },
    scoring::{metrics, prediction_file::Predictions, prediction_freshness, thresholds},
};

/// Samples of a rank between two agreements on whether to go on.
const ROUND: usize = 64;

/// The result of a finished fold.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FoldOutcome {
    pub fold: usize,
    pub epochs: usize,
    /// Epoch whose weights are used.
    pub epoch_used: usize,
    /// Out-of-fold mean average precision with test-time augmentation.
    pub map: f64,
    /// Out-of-fold macro F1 at 0.5 with test-time augmentation.
    pub macro_f1: f64,
    /// The same over the classes present, see [`metrics::macro_f1_present`].
    pub macro_f1_present: f64,
    pub classes_present: usize,
    pub seconds: f64,
}

/// Fills in the validation columns of `row`: predicts the whole resized validation images, one view
/// each.
pub fn validate(session: &Session, row: &mut EpochRow) -> Result<()> {
    let (config, data) = (session.config, &session.data);
    let predictor = Predictor {
        network: &session.network,
        precision: session.precision(),
        normalization: &session.state.network.normalization,
        augment: &config.augment,
        predict: &config.predict,
        threads: config.threads(),
        stop: session.stop,
    };
    let logits = logits(session, &predictor, Tta::None, "validation")?;
    let labels: Vec<Labels> = data.valid.iter().map(|&s| data.store.labels(s)).collect();
    let probabilities = logits.mapv(sigmoid);
    row.valid_loss = Some(mean_loss(session, &logits, &labels));
    let counts = metrics::counts(probabilities.view(), &labels, &[0.5; CLASSES]);
    row.macro_f1 = Some(metrics::macro_f1(&counts));
    if let Some(log) = &session.tensorboard {
        log.validation(session.state.step, &probabilities, &counts)?;
    }
    let own: Vec<usize> = (0..labels.len()).collect();
    let fitted =
        thresholds::cross_fitted(Method::Shrunken, probabilities.view(), &labels, &own, 2, 0);
    row.macro_f1_fitted = Some(fitted.macro_f1);
    row.map = Some(mean_average_precision(&probabilities, &labels));
    write_samples(session, row.epoch, "val", &data.valid, &logits)
}

/// In parts of a training batch, so that losses over whole batches are comparable with training.
fn mean_loss(session: &Session, logits: &Array2<f32>, labels: &[Labels]) -> f64 {
    let train = &session.config.train;
    let mut sum = 0.0;
    for (at, part) in labels.chunks(train.batch).enumerate() {
        let from = at * train.batch;
        let logits = tensor(&logits.slice(ndarray::s![from..from + part.len(), ..]).to_owned());
        sum +=
            loss::total(&logits, &one_hot(part), &train.loss).double_value(&[]) * part.len() as f64;
    }
    sum / labels.len() as f64
}

/// Out-of-fold predictions with the weights that are used afterwards and full test-time
/// augmentation: the fold's last file.
pub fn predict_validation(session: &Session, run: &Run) -> Result<FoldOutcome> {
    let (config, data, state) = (session.config, &session.data, &session.state);
    let Config { predict, augment, train, .. } = config;
    let path = run.weights(data.fold, train.keep);
    let trained = TrainedNetwork::from_checkpoint(&path, train, session.world.device)?;
    let predictor = trained.predictor(augment, predict, config.threads(), session.stop);
    let logits = logits(session, &predictor, predict.tta, "out-of-fold predictions")?;
    let probabilities = logits.mapv(sigmoid);
    let labels: Vec<Labels> = data.valid.iter().map(|&s| data.store.labels(s)).collect();
    let counts = metrics::counts(probabilities.view(), &labels, &[0.5; CLASSES]);
    let outcome = FoldOutcome {
        fold: data.fold,
        epochs: state.epoch,
        epoch_used: match (train.keep, state.best) {
            (Keep::Best, Some((_, epoch))) => epoch,
            _ => state.epoch,
        },
        map: mean_average_precision(&probabilities, &labels),
        macro_f1: metrics::macro_f1(&counts),
        macro_f1_present: metrics::macro_f1_present(&counts),
        classes_present: metrics::classes_present(&counts),
        seconds: session.started.elapsed().as_secs_f64(),
    };
    if session.is_first() {
        let ids = data.valid.iter().map(|&s| data.store.id(s).to_string()).collect();
        let source = prediction_freshness::source(predict, augment, train.precision, &[path])?;
        Predictions { ids, probabilities }.write(&run.validation(data.fold), source)?;
    }
    log::info!(
        "fold {} is done in {}: out-of-fold macro F1 {:.3}{}, mAP {:.3}",
        outcome.fold,
        duration(outcome.seconds),
        outcome.macro_f1,
        metrics::over_present(outcome.macro_f1_present, outcome.classes_present),
        outcome.map
    );
    Ok(outcome)
}

/// Logits `[n, 28]` of all validation samples, on every rank.
fn logits(
    session: &Session,
    predictor: &Predictor,
    tta: Tta,
    what: &'static str,
) -> Result<Array2<f32>> {
    let (world, data) = (session.world, &session.data);
    let mine = batch_share::part(data.valid.len(), world.rank(), world.size());
    let progress =
        Progress::new(format!("fold {} {what}", data.fold), "samples", mine.len() as u64);
    let mut all = Array2::zeros((data.valid.len(), CLASSES));
    // In equally many rounds on every rank, after each of which the ranks agree on whether one was
    // asked to stop; a rank without others checks that in the predictor alone.
    let rounds = if world.size() > 1 { data.valid.len().div_ceil(world.size() * ROUND) } else { 1 };
    for round in 0..rounds {
        let part = batch_share::part(mine.len(), round, rounds);
        let part = mine.start + part.start..mine.start + part.end;
        let result = world.watchdog().during(what, Limit::None, || {
            let samples = &data.valid[part.clone()];
            thrown::catch(&thrown::PREDICTION, || {
                predictor.logits(&data.store, samples, tta, Some(&progress))
            })
        });
        // A rank that fails for another reason ends the whole job.
        let stopped = matches!(result, Err(Error::Stopped(_)));
        if !stopped {
            all.slice_mut(ndarray::s![part, ..]).assign(&result?);
        }
        let agree = || world.any(stopped);
        if world.watchdog().during("agreeing on the next round", Limit::Usual, agree)? {
            world.watchdog().stop_agreed();
            let what = "stopped while predicting; run the same command again to go on";
            return Err(Error::Stopped(what.into()));
        }
    }
    let gather = || session.gather(&mut all);
    world.watchdog().during("gathering the predictions", Limit::Usual, gather)?;
    Ok(all)
}

/// Writes the log of `samples`, indices into the store with logits `[n, 28]`. By the first rank.
pub fn write_samples(
    session: &Session,
    epoch: usize,
    part: &str,
    samples: &[usize],
    logits: &Array2<f32>,
) -> Result<()> {
    if !session.is_first() {
        return Ok(());
    }
    let store = &session.data.store;
    let labels: Vec<Labels> = samples.iter().map(|&s| store.labels(s)).collect();
    let losses = loss::per_sample(&tensor(logits), &one_hot(&labels), &session.config.train.loss);
    let samples = Samples {
        ids: samples.iter().map(|&s| store.id(s)).collect(),
        labels,
        probabilities: logits.iter().map(|&l| sigmoid(l)).collect(),
        losses: losses.into_iter().map(|(name, t)| (name, predictor::to_vec(&t))).collect(),
    };
    session.logs.write_samples(epoch, part, &samples)
}

/// Macro F1 of probabilities `[n, 28]` at the threshold 0.5.
pub fn macro_f1_at_half(probabilities: &Array2<f32>, labels: &[Labels]) -> f64 {
    metrics::macro_f1(&metrics::counts(probabilities.view(), labels, &[0.5; CLASSES]))
}

fn mean_average_precision(probabilities: &Array2<f32>, labels: &[Labels]) -> f64 {
    metrics::mean_average_precision(&metrics::average_precision(probabilities.view(), labels))
}

fn tensor(values: &Array2<f32>) -> Tensor {
    let flat: Vec<f32> = values.iter().copied().collect();
    Tensor::from_slice(&flat).view([values.nrows() as i64, values.ncols() as i64])
}
