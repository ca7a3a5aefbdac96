//! The learning-rate range test (Smith 2017, "Cyclical learning rates for training neural
//! networks"), as fastai does it: a training whose learning rate grows exponentially, until the
//! loss has gone up.

use std::path::{Path, PathBuf};

use super::{
    compute_mode, data::FoldData, meter::Meter, state::Session, step::NOT_FINITE, train_step,
};
use crate::{
    base::{Error, Result, atomic_file, progress::Progress, stop::Stop},
    config::{Config, Train},
    data::work_folder::WorkFolder,
    distributed::{World, batch_share::Share, device, gradient_sync::GradientSync},
    loading::loader::{Loader, Make},
    network::optim::Rates,
    scoring::plot,
    training::run_folder::Run,
};

/// The first learning rate and the one after [`STEPS`] steps.
const FROM: f64 = 1e-7;
const TO: f64 = 10.0;
const STEPS: usize = 200;

/// How much of the running mean of the loss stays in a step. (fastai's 0.98 lags so far behind that
/// its steepest descent lies where single steps already rise.)
const SMOOTHING: f64 = 0.9;

/// How many times the least smoothed loss ends the test.
const TOO_MUCH: f64 = 4.0;

/// First points, in which the running mean is still that of few, that suggest nothing.
const SKIPPED: usize = 10;

/// A slope is taken from so many steps before to as many after, a third of a decade each: the loss
/// of single batches is noisy.
const REACH: usize = 8;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub lr: f64,
    /// Over the step's batch.
    pub loss: f64,
    /// Running mean, corrected for its start at 0 (as Adam's).
    pub smoothed: f64,
}

/// What the curve says.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Suggestion {
    /// Where the smoothed loss falls fastest over the logarithm of the learning rate.
    pub steepest: f64,
    /// A tenth of where it is least.
    pub tenth_of_minimum: f64,
}

/// A finished test.
pub struct Found {
    pub points: Vec<Point>,
    pub suggestion: Suggestion,
    pub table: PathBuf,
    pub chart: PathBuf,
}

/// Tests on the training samples of a fold, with the configured recipe but for its learning rates,
/// and writes `find_lr.csv` and `find_lr.svg` to `results/find_lr/fold_K/`. `world` has one rank.
/// No run and no checkpoint is touched.
///
/// # Errors
/// Stopped after `stop`; Failed where the loss never falls.
pub fn find_lr(config: &Config, fold: usize, world: &'static World, stop: &Stop) -> Result<Found> {
    // A gradient that is not finite ends the test.
    let train = Train { max_skipped_steps: usize::MAX, ..config.train.clone() };
    let config =
        &Config { threads: Some(config.threads.unwrap_or(world.cores)), train, ..config.clone() };
    device::set_up_cpu(config.threads());
    super::check(config)?;
    let work = WorkFolder::open(&config.paths.work);
    let data = FoldData::open(&work, &config.split, config.train.max_samples, fold)?;
    let run = Run { folder: config.paths.results.join("find_lr") };
    let compute_mode = compute_mode::settle(config, world, None)?;
    let mut session = Session::new(config, &run, fold, &data, compute_mode, world)?;
    let points = walk(&mut session, &data, stop)?;
    let folder = run.fold(fold);
    let (table, chart) = (folder.join("find_lr.csv"), folder.join("find_lr.svg"));
    write(&table, &points)?;
    let suggestion = suggest(&points).ok_or_else(|| {
        let why = "the loss never falls, so that no learning rate can be suggested; look at the \
            data, train.loss and model.weights";
        Error::failed(format!("{why} ({})", table.display()))
    })?;
    let tried: Vec<plot::Tried> = points.iter().map(|p| (p.lr, p.loss, p.smoothed)).collect();
    let lines = [
        (suggestion.steepest, "steepest descent"),
        (suggestion.tenth_of_minimum, "a tenth of the minimum"),
    ];
    atomic_file::write(
        &chart,
        plot::find_lr(&format!("Learning-rate range test of fold {fold}"), &tried, lines)?,
    )?;
    Ok(Found { points, suggestion, table, chart })
}

/// The steps until the loss is too large or the learning rate at its end.
fn walk(session: &mut Session, data: &FoldData, stop: &Stop) -> Result<Vec<Point>> {
    let config = session.config;
    let gradient_sync = GradientSync::new(&session.network, session.world, config.comm.wire);
    let progress =
        Progress::new(format!("learning rates on fold {}", session.fold), "steps", STEPS as u64);
    let (momentum, mut points) = (session.schedule.at(0).momentum, Vec::new());
    let (mut meter, mut mean, mut least) = (Meter::new(STEPS), 0.0, f64::INFINITY);
    for epoch in 0.. {
        session.state.epoch = epoch;
        session.forget_seen();
        let mut batches = session.batches(data, epoch);
        batches.truncate(STEPS - points.len());
        let shares: Vec<Share> =
            batches.iter().map(|b| Share::new(b.len(), 0, 1, config.train.micro_batch)).collect();
        let make = Make::Train {
            augment: config.augment.clone(),
            seed: session.train.seed,
            epoch: epoch as u64,
        };
        let mut loader = Loader::new(data.store.clone(), batches, make, config.threads(), 4);
        for share in &shares {
            if stop.asked() {
                return Err(Error::Stopped(
                    "stopped; run the same command again to begin anew".into(),
                ));
            }
            let batch = loader.next().expect("as many batches as shares")?;
            let lr = rate(points.len());
            let done = match train_step(
                session,
                &gradient_sync,
                &batch,
                share,
                Rates { lr, momentum },
                &mut meter,
                false,
            ) {
                Err(Error::Failed(what)) if what == NOT_FINITE && !points.is_empty() => {
                    return Ok(points);
                }
                done => done?,
            };
            if done.skipped {
                return Ok(points);
            }
            progress.add(1);
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * done.loss;
            let smoothed = mean / (1.0 - SMOOTHING.powi(points.len() as i32 + 1));
            points.push(Point { lr, loss: done.loss, smoothed });
            least = least.min(smoothed);
            if smoothed > TOO_MUCH * least || points.len() == STEPS {
                return Ok(points);
            }
        }
    }
    unreachable!("the steps are counted")
}

/// The learning rate of a step.
fn rate(step: usize) -> f64 {
    FROM * (TO / FROM).powf(step as f64 / (STEPS - 1) as f64)
}

/// Of a curve whose learning rates grow. `None` where it does not fall.
pub fn suggest(points: &[Point]) -> Option<Suggestion> {
    let loss = |i: usize| points[i].smoothed;
    let bottom = (0..points.len()).reduce(|best, i| if loss(i) < loss(best) { i } else { best })?;
    let slope = |i: usize| {
        (loss(i + REACH) - loss(i - REACH)) / (points[i + REACH].lr / points[i - REACH].lr).ln()
    };
    let steepest = (SKIPPED.max(REACH)..(bottom + 1).saturating_sub(REACH))
        .reduce(|best, i| if slope(i) < slope(best) { i } else { best })?;
    let falls = slope(steepest) < 0.0;
    falls.then(|| Suggestion {
        steepest: points[steepest].lr,
        tenth_of_minimum: points[bottom].lr / 10.0,
    })
}

fn write(path: &Path, points: &[Point]) -> Result<()> {
    let mut text = String::from("lr,loss,smoothed_loss\n");
    points.iter().for_each(|p| text += &format!("{:e},{},{}\n", p.lr, p.loss, p.smoothed));
    atomic_file::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A curve over log10(lr) of known shape.
    fn curve(loss: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..STEPS)
            .map(rate)
            .map(|lr| Point { lr, loss: loss(lr.log10()), smoothed: loss(lr.log10()) })
            .collect()
    }

    #[test]
    fn rates_grow_by_one_factor_from_end_to_end() {
        assert!((rate(0) - 1e-7).abs() < 1e-20 && (rate(STEPS - 1) - 10.0).abs() < 1e-9);
        let factor = rate(1) / rate(0);
        assert!((1..STEPS).all(|i| (rate(i) / rate(i - 1) / factor - 1.0).abs() < 1e-9));
    }

    #[test]
    fn the_suggestions_are_where_the_curve_has_them() {
        // A logistic fall around 1e-3 and an exponential rise: the steepest point and the minimum
        // in closed form.
        let falling = curve(|x| 1.0 / (1.0 + (3.0 * (x + 3.0)).exp()) + 1e-9 * (x + 7.0).exp());
        let is = suggest(&falling).unwrap();
        assert!((is.steepest.log10() + 3.0).abs() < 0.05, "{is:?}");
        let parabola = curve(|x| 2.0 + (x + 1.5).powi(2));
        assert!((suggest(&parabola).unwrap().tenth_of_minimum.log10() + 2.5).abs() < 0.05);
        // The slope of a parabola is largest at its start, of which the first points do not count.
        assert_eq!(suggest(&parabola).unwrap().steepest, parabola[SKIPPED].lr);
    }

    #[test]
    fn a_curve_that_does_not_fall_suggests_nothing() {
        assert_eq!(suggest(&[]), None);
        assert_eq!(suggest(&curve(|x| x)), None);
        assert_eq!(suggest(&curve(|_| 1.0)), None);
        assert_eq!(suggest(&curve(|x| -x)[..SKIPPED]), None);
    }
}
