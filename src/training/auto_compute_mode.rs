//! What `train.precision = "auto"` and `train.layout = "auto"` stand for: before the first step of
//! a fold, a few training passes of a network of its kind are timed on this machine. The
//! checkpoints keep the answer for everything that follows.

use std::{collections::BTreeMap, time::Instant};

use tch::{Kind, Tensor};

use crate::{
    base::Result,
    config::{Config, Layout, Losses, Precision, Train},
    data::labels::CLASSES,
    distributed::{World, batch_share::Share, device, watchdog::Limit},
    network::{
        loss,
        model::{ComputeMode, DropKeys, Mode, Network, Norms, Spec},
    },
};

/// A compute mode is chosen over one that is preferred to it only if it is this many times as fast:
/// noise must not decide a near tie.
const MARGIN: f64 = 1.1;

/// Rounds in which each mode is timed once; its best time counts.
const ROUNDS: usize = 3;

/// A mode that is this many times as slow as the fastest on few pixels is not timed further.
const TOO_SLOW: f64 = 5.0;

/// Images of a timed pass, and their side in pixels, at most.
const IMAGES: usize = 16;
const SIDE: u32 = 96;

/// The compute mode of a fold's training. Where the keys are `auto`: the mode in which the training
/// began (`at_start`), or at its start the one that is fastest on rank 0.
pub fn settle(
    config: &Config,
    world: &World,
    at_start: Option<ComputeMode>,
) -> Result<ComputeMode> {
    let modes = allowed(&config.train);
    world.watchdog().during("choosing precision and layout", Limit::Start, || {
        let chosen = if world.rank() > 0 || modes.len() == 1 {
            Ok(modes[0])
        } else {
            choose(config, world, &modes, at_start)
        };
        let chosen = world.agree(chosen)?;
        let mut which = [modes.iter().position(|mode| *mode == chosen).unwrap_or_default() as u8];
        world.broadcast(&mut which)?;
        Ok(modes[usize::from(which[0])])
    })
}

/// The modes that the keys allow, preferred ones first; at least one.
fn allowed(train: &Train) -> Vec<ComputeMode> {
    ComputeMode::ALL.into_iter().filter(|mode| ComputeMode::of(train, *mode) == *mode).collect()
}

fn choose(
    config: &Config,
    world: &World,
    modes: &[ComputeMode],
    at_start: Option<ComputeMode>,
) -> Result<ComputeMode> {
    let key = match (config.train.precision, config.train.layout) {
        (Precision::Auto, Layout::Auto) => "train.precision and train.layout",
        (Precision::Auto, _) => "train.precision",
        _ => "train.layout",
    };
    if let Some(at_start) = at_start {
        let mode = ComputeMode::of(&config.train, at_start);
        log::info!("{key} = \"auto\": {mode}, as the training began");
        return Ok(mode);
    }
    let (images, side) = (images(&config.train, world), config.augment.crop.min(SIDE));
    let (spec, mut networks) = (Spec::of(&config.model), BTreeMap::new());
    for ComputeMode { channels_last, .. } in modes {
        networks.insert(*channels_last, Network::new(&spec, 0, *channels_last, world.device)?);
    }
    let trial = Trial { networks, losses: &config.train.loss };
    let seconds = measure(&trial, modes, images, side);
    let mode = modes[fastest(&seconds)];
    let text = |s: f64| if s.is_finite() { format!("{s:.3} s") } else { "far slower".into() };
    let each: Vec<String> =
        modes.iter().zip(&seconds).map(|(mode, s)| format!("{mode} {}", text(*s))).collect();
    log::info!(
        "{key} = \"auto\": {mode} ({}, per pass of {images} images of {side} px)",
        each.join(", ")
    );
    Ok(mode)
}

/// As many as a forward pass of a rank takes, up to [`IMAGES`].
fn images(train: &Train, world: &World) -> usize {
    let share = Share::new(train.batch, 0, world.size(), train.micro_batch);
    share.passes().map(|pass| pass.len()).max().unwrap_or(IMAGES).min(IMAGES)
}

/// Seconds of a forward and backward pass in each mode; infinite for modes that a trial on few
/// pixels shows to be too slow, as bf16 is on processors without instructions for it.
fn measure(trial: &Trial, modes: &[ComputeMode], images: usize, side: u32) -> Vec<f64> {
    let mut seconds = trial.seconds(modes, images.min(4), side.min(SIDE / 2));
    let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let (places, tried): (Vec<usize>, Vec<ComputeMode>) =
        (0..).zip(modes).filter(|(i, _)| seconds[*i] < TOO_SLOW * least).unzip();
    seconds.fill(f64::INFINITY);
    places.into_iter().zip(trial.seconds(&tried, images, side)).for_each(|(i, s)| seconds[i] = s);
    seconds
}

/// Temporary networks for the measurement.
struct Trial<'a> {
    /// By whether they are channels-last.
    networks: BTreeMap<bool, Network>,
    losses: &'a Losses,
}

impl Trial<'_> {
    /// The best time of each mode in [`ROUNDS`] rounds of all, after a round that fills caches and
    /// is not counted.
    fn seconds(&self, modes: &[ComputeMode], images: usize, side: u32) -> Vec<f64> {
        let mut seconds = vec![f64::INFINITY; modes.len()];
        for round in 0..=ROUNDS {
            for (best, mode) in seconds.iter_mut().zip(modes) {
                let time = self.pass(mode, images, side);
                if round > 0 {
                    *best = best.min(time);
                }
            }
        }
        seconds
    }

    /// Seconds of one pass over noise.
    fn pass(&self, mode: &ComputeMode, images: usize, side: u32) -> f64 {
        let network = &self.networks[&mode.channels_last];
        let (n, side, kind) = (images as i64, i64::from(side), (Kind::Float, network.device()));
        let x = Tensor::randn([n, network.spec().channels, side, side], kind);
        let targets = Tensor::rand([n, CLASSES as i64], kind).lt(0.1).to_kind(Kind::Float);
        let keys: Vec<u64> = (0..images as u64).collect();
        device::wait(network.device());
        let start = Instant::now();
        let train = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
        loss::total(&network.forward(&x, train, mode.precision), &targets, self.losses).backward();
        device::wait(network.device());
        start.elapsed().as_secs_f64()
    }
}

/// The index of the least of `seconds`; a later one has to be faster than the best before it by
/// [`MARGIN`].
fn fastest(seconds: &[f64]) -> usize {
    (1..seconds.len())
        .fold(0, |best, i| if seconds[i] * MARGIN <= seconds[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::model;

    #[test]
    fn a_mode_has_to_be_a_tenth_faster_than_those_preferred_to_it() {
        // f32/nhwc, f32/nchw, bf16/nhwc, bf16/nchw
        for (seconds, place) in [
            ([1.0, 1.0, 1.0, 1.0], 0),
            ([1.0, 0.92, 0.95, 0.92], 0),
            ([1.0, 0.9, 1.0, 1.0], 1),
            ([1.0, 1.2, 0.9, 1.2], 2),
            ([1.0, 1.2, 0.9, 0.85], 2),
            ([1.0, 0.9, 0.85, 1.2], 1),
            ([1.0, 0.9, 0.7, 0.6], 3),
            ([1.0, 2.0, f64::INFINITY, f64::INFINITY], 0),
            ([f64::INFINITY, f64::INFINITY, 1.0, 0.5], 3),
        ] {
            assert_eq!(fastest(&seconds), place, "{seconds:?}");
        }
        assert_eq!(fastest(&[5.0]), 0);
    }

    #[test]
    fn only_what_is_auto_varies() {
        let modes = |precision, layout| allowed(&Train { precision, layout, ..Train::default() });
        assert_eq!(modes(Precision::Auto, Layout::Auto), ComputeMode::ALL);
        for (precision, layout, names) in [
            (Precision::Auto, Layout::Nchw, "f32/nchw bf16/nchw"),
            (Precision::Bf16, Layout::Auto, "bf16/nhwc bf16/nchw"),
            (Precision::F32, Layout::Nhwc, "f32/nhwc"),
            (Precision::Bf16, Layout::Nchw, "bf16/nchw"),
        ] {
            let modes: Vec<_> =
                modes(precision, layout).iter().map(ComputeMode::to_string).collect();
            assert_eq!(modes.join(" "), names);
        }
    }

    #[test]
    fn only_a_new_training_with_auto_measures() {
        let (world, mut config) = (World::alone(), Config::default());
        config.model.arch = "none".into(); // so that a measurement fails
        let began = ComputeMode { precision: model::Precision::Bf16, channels_last: false };
        assert!(settle(&config, &world, None).is_err());
        assert_eq!(settle(&config, &world, Some(began)).unwrap(), began);
        config.train.layout = Layout::Nhwc;
        assert_eq!(settle(&config, &world, Some(began)).unwrap().to_string(), "bf16/nhwc");
        config.train.precision = Precision::F32;
        assert_eq!(settle(&config, &world, None).unwrap().to_string(), "f32/nhwc");
    }
}
