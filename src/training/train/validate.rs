//! Validation and out-of-fold predictions: each rank predicts its part, all hear of the whole.

use std::time::Instant;

use ndarray::Array2;

use super::{
    Outcome, data::FoldData, macro_f1_at_half, mean_average_precision, one_hot, state::Session,
    tensor, weights_path,
};
use crate::{
    base::{
        Error, Result,
        progress::{Progress, duration},
        stop::Stop,
    },
    config::{Keep, Method, Tta},
    data::labels::{CLASSES, Labels},
    distributed::{
        batch_share,
        watchdog::{self, Limit},
    },
    network::{
        loss,
        predictor::{self, Predictor, sigmoid},
    },
    scoring::{metrics, prediction_file::Predictions, thresholds},
    training::{
        history::{Row, Samples},
        run_folder::Run,
    },
};

/// Samples of a rank between two looks at whether the others go on.
const ROUND: usize = 64;

/// The whole resized images of the validation samples, one view each.
pub fn validate(session: &Session, data: &FoldData, row: &mut Row, stop: &Stop) -> Result<()> {
    let config = session.config;
    let (network, normalization) = (&session.network, &session.state.normalization);
    let predictor =
        Predictor { network, precision: session.precision(), normalization, config, stop };
    let logits = logits(session, data, &predictor, Tta::None, "validation")?;
    let labels: Vec<Labels> = data.valid.iter().map(|&s| data.store.labels(s)).collect();
    let probabilities = logits.mapv(sigmoid);
    // In parts of a training batch, so that losses over whole batches are comparable with training.
    let mut sum = 0.0;
    for (at, part) in labels.chunks(config.train.batch).enumerate() {
        let from = at * config.train.batch;
        let logits = tensor(&logits.slice(ndarray::s![from..from + part.len(), ..]).to_owned());
        sum += loss::total(&logits, &one_hot(part), &config.train.loss).double_value(&[])
            * part.len() as f64;
    }
    row.valid_loss = Some(sum / labels.len() as f64);
    let counts = metrics::counts(probabilities.view(), &labels, &[0.5; CLASSES]);
    row.macro_f1 = Some(metrics::macro_f1(&counts));
    session
        .board
        .as_ref()
        .map_or(Ok(()), |board| board.validation(session.state.step, &probabilities, &counts))?;
    let own: Vec<usize> = (0..labels.len()).collect();
    row.macro_f1_fitted = Some(
        thresholds::cross_fitted(Method::Shrunken, probabilities.view(), &labels, &own, 2, 0)
            .macro_f1,
    );
    row.map = Some(mean_average_precision(&probabilities, &labels));
    write_samples(session, data, row.epoch, "val", &data.valid, &labels, &logits)
}

/// Out-of-fold predictions with the weights that are used afterwards and full test-time
/// augmentation: the fold's last file.
pub fn predict_validation(
    session: &Session,
    data: &FoldData,
    run: &Run,
    start: Instant,
    stop: &Stop,
) -> Result<Outcome> {
    let config = session.config;
    let path = weights_path(config, run, session.fold);
    let trained = predictor::load(&path, config, session.world.device)?;
    let predictor = trained.predictor(config, stop);
    let probabilities =
        logits(session, data, &predictor, config.predict.tta, "out-of-fold predictions")?
            .mapv(sigmoid);
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
    if session.leads() {
        let ids = data.valid.iter().map(|&s| data.store.id(s).to_string()).collect();
        Predictions { ids, probabilities }
            .write(&run.validation(session.fold), predictor::source(config, &[path])?)?;
    }
    log::info!(
        "fold {} is done in {}: out-of-fold macro F1 {:.3}, mAP {:.3}",
        outcome.fold,
        duration(outcome.seconds),
        outcome.macro_f1,
        outcome.map
    );
    Ok(outcome)
}

/// Logits `[n, 28]` of all validation samples, on every rank.
fn logits(
    session: &Session,
    data: &FoldData,
    predictor: &Predictor,
    tta: Tta,
    what: &'static str,
) -> Result<Array2<f32>> {
    let world = session.world;
    let mine = batch_share::part(data.valid.len(), world.rank(), world.size());
    let progress =
        Progress::new(format!("fold {} {what}", session.fold), "samples", mine.len() as u64);
    let mut all = Array2::zeros((data.valid.len(), CLASSES));
    // In as many rounds on every rank, after each of which they hear of a stop; alone, the
    // predictor hears of it itself.
    let rounds = if world.size() > 1 { data.valid.len().div_ceil(world.size() * ROUND) } else { 1 };
    for round in 0..rounds {
        let part = batch_share::part(mine.len(), round, rounds);
        let part = mine.start + part.start..mine.start + part.end;
        let result = watchdog::during(what, Limit::None, || {
            predictor.logits(&data.store, &data.valid[part.clone()], tta, Some(&progress))
        });
        // A rank that fails for another reason ends the job, and the others with it.
        let stopped = matches!(result, Err(Error::Stopped(_)));
        if !stopped {
            all.slice_mut(ndarray::s![part, ..]).assign(&result?);
        }
        if watchdog::during("agreeing on the next round", Limit::Usual, || world.any(stopped))? {
            watchdog::agreed();
            return Err(Error::Stopped(
                "stopped while predicting; run the same command again to go on".into(),
            ));
        }
    }
    watchdog::during("gathering what was predicted", Limit::Usual, || session.gather(&mut all))?;
    Ok(all)
}

/// The log of some samples, by rank 0.
pub fn write_samples(
    session: &Session,
    data: &FoldData,
    epoch: usize,
    part: &str,
    samples: &[usize],
    labels: &[Labels],
    logits: &Array2<f32>,
) -> Result<()> {
    if !session.leads() {
        return Ok(());
    }
    let losses = loss::per_sample(&tensor(logits), &one_hot(labels), &session.config.train.loss);
    let samples = Samples {
        ids: samples.iter().map(|&s| data.store.id(s)).collect(),
        labels: labels.to_vec(),
        probabilities: logits.iter().map(|&l| sigmoid(l)).collect(),
        losses: losses.into_iter().map(|(name, t)| (name, predictor::to_vec(&t))).collect(),
    };
    session.logs.write_samples(epoch, part, &samples)
}
