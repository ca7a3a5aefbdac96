//! The learning-rate range test (Smith 2017, "Cyclical learning rates for training neural
//! networks"), as fastai does it: a training whose learning rate grows exponentially, until the
//! loss has gone up.

use std::path::{Path, PathBuf};

pub use super::find_lr_chart::Point;
use super::{
    auto_compute_mode,
    backward::LossNotFinite,
    find_lr_chart,
    fold_data::FoldData,
    run_folder::Run,
    session::{Session, config_of_fold},
    train,
    train_step::train_step,
};
use crate::{
    base::{Error, Result, atomic_file, csv_file, progress::Progress, stop_request::Stop},
    config::{Config, Train},
    data::work_folder::WorkFolder,
    distributed::{World, device},
    network::optim::Rates,
};

/// The first learning rate and the one after [`STEPS`] steps.
const FROM: f64 = 1e-7;
const TO: f64 = 10.0;
const STEPS: usize = 200;

/// The weight of the running mean of the loss before a step. (fastai's 0.98 lags so far behind that
/// its steepest descent lies where single steps already rise.)
const SMOOTHING: f64 = 0.9;

/// The test ends where the smoothed loss is this many times its least value.
const TOO_MUCH: f64 = 4.0;

/// First points that suggest nothing, as their running mean is over few steps.
const SKIPPED: usize = 10;

/// A slope is taken from this many steps before to as many after, a third of a decade each: the
/// loss of single batches is noisy.
const REACH: usize = 8;

/// The learning rates that the curve suggests.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Suggestion {
    /// Where the smoothed loss falls fastest over the logarithm of the learning rate.
    pub steepest: f64,
    /// A tenth of where it is least.
    pub tenth_of_minimum: f64,
}

/// A finished test.
pub struct RangeTest {
    pub points: Vec<Point>,
    pub suggestion: Suggestion,
    pub table: PathBuf,
    pub chart: PathBuf,
}

/// Tests on the training samples of a fold, with the configured recipe but for its learning rates,
/// and writes `find_lr.csv` and `find_lr.svg` to `results/find_lr/fold_K/`. `world` has one rank.
/// Changes no run and no checkpoint.
///
/// # Errors
/// Stopped after `stop`; Failed where the loss never falls.
pub fn find_lr(
    config: &Config,
    fold: usize,
    world: &'static World,
    stop: &Stop,
) -> Result<RangeTest> {
    train::check(&config.model)?;
    // A gradient that is not finite ends the test.
    let recipe = Train { max_skipped_steps: usize::MAX, ..config.train.clone() };
    let config = &config_of_fold(&Config { train: recipe, ..config.clone() }, fold, world);
    device::set_up_cpu(config.threads())?;
    let work = WorkFolder::of(config);
    let data = FoldData::open(&work, &config.split, config.train.max_samples, fold)?;
    let run = Run { folder: config.paths.results.join("find_lr") };
    let compute_mode = auto_compute_mode::settle(config, world, None)?;
    let mut session = Session::new(config, &run.fold(fold), data, compute_mode, world, stop)?;
    let points = measure_curve(&mut session)?;
    let folder = run.fold(fold);
    let (table, chart) = (folder.join("find_lr.csv"), folder.join("find_lr.svg"));
    write(&table, &points)?;
    let suggestion = suggest(&points).ok_or_else(|| {
        let why = "the loss never falls, so that no learning rate can be suggested; look at the \
            data, train.loss and model.weights";
        Error::failed(format!("{why} ({})", table.display()))
    })?;
    let lines = [
        (suggestion.steepest, "steepest descent"),
        (suggestion.tenth_of_minimum, "a tenth of the minimum"),
    ];
    let title = format!("Learning-rate range test of fold {fold}");
    atomic_file::write(&chart, find_lr_chart::draw(&title, &points, lines)?)?;
    Ok(RangeTest { points, suggestion, table, chart })
}

/// The running mean of the losses so far.
#[derive(Default)]
struct Curve {
    points: Vec<Point>,
    mean: f64,
}

impl Curve {
    /// Adds a step; whether the test is over, as the loss is too large or the learning rate at its
    /// end.
    fn add(&mut self, lr: f64, loss: f64) -> bool {
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * loss;
        let smoothed = self.mean / (1.0 - SMOOTHING.powi(self.points.len() as i32 + 1));
        self.points.push(Point { lr, loss, smoothed });
        let least = self.points.iter().map(|p| p.smoothed).fold(f64::INFINITY, f64::min);
        smoothed > TOO_MUCH * least || self.points.len() == STEPS
    }
}

/// Trains until the loss is too large or not finite, or the learning rate at its end.
fn measure_curve(session: &mut Session) -> Result<Vec<Point>> {
    let momentum = session.schedule.at(0).momentum;
    let name = format!("learning rates on fold {}", session.data.fold);
    let progress = Progress::new(name, "steps", STEPS as u64);
    let mut curve = Curve::default();
    for epoch in 0.. {
        session.state.epoch = epoch;
        session.clear_seen();
        let mut batches = session.batches(epoch);
        batches.truncate(STEPS - curve.points.len());
        let (shares, mut loader) = session.load(&batches);
        for share in &shares {
            if session.stop.asked() {
                let what = "stopped; run the same command again to begin anew";
                return Err(Error::Stopped(what.into()));
            }
            let batch = loader.next().expect("as many batches as shares")?;
            let lr = rate(curve.points.len());
            let step = match train_step(session, &batch, share, Rates { lr, momentum }, false)? {
                Err(LossNotFinite) if !curve.points.is_empty() => return Ok(curve.points),
                step => step?,
            };
            progress.add(1);
            if step.skipped || curve.add(lr, step.loss) {
                return Ok(curve.points);
            }
        }
    }
    unreachable!("the number of steps is limited")
}

/// The learning rate of a step.
fn rate(step: usize) -> f64 {
    FROM * (TO / FROM).powf(step as f64 / (STEPS - 1) as f64)
}

/// The suggestion of a curve whose learning rates grow; `None` where the loss does not fall.
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
    let row = |p: &Point| (format!("{:e}", p.lr), p.loss.to_string(), p.smoothed.to_string());
    csv_file::write(path, &["lr", "loss", "smoothed_loss"], points.iter().map(row))
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
    fn suggestions_are_at_the_steepest_point_and_before_the_minimum() {
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
