//! What `auto` comes to: before the first step of a fold, a few training passes of a network of its
//! kind are timed on the machine at hand. All that follows takes the answer from the checkpoints.

use std::{collections::BTreeMap, time::Instant};

use tch::{Kind, Tensor};

use crate::{
    base::Result,
    config::{Config, Layout, Losses, Precision, Train},
    data::labels::CLASSES,
    distributed::{
        World,
        batch_share::Share,
        device,
        watchdog::{self, Limit},
    },
    network::{
        loss,
        model::{ComputeMode, DropKeys, Mode, Network, Norms, Spec},
    },
};

/// How many times as fast as what is preferred to it a form has to be: noise must not decide a near
/// tie.
const MARGIN: f64 = 1.1;

/// Rounds in which each form is timed once; its best time counts.
const ROUNDS: usize = 3;

/// How many times as slow as the fastest on few pixels a form is given up.
const HOPELESS: f64 = 5.0;

/// Images of a timed pass, and their side in pixels, at most.
const IMAGES: usize = 16;
const SIDE: u32 = 96;

/// In which form a fold is trained: as the keys say. Where they leave it open, the form in which
/// the training began, and at its start the one that rank 0 finds fastest.
pub fn settle(config: &Config, world: &World, before: Option<ComputeMode>) -> Result<ComputeMode> {
    let compute_modes = allowed(&config.train);
    watchdog::during("choosing precision and layout", Limit::Start, || {
        let chosen = if world.rank() > 0 || compute_modes.len() == 1 {
            Ok(compute_modes[0])
        } else {
            choose(config, world, &compute_modes, before)
        };
        let chosen = world.agree(chosen)?;
        let mut which = [compute_modes.iter().position(|f| *f == chosen).unwrap_or_default() as u8];
        world.broadcast(&mut which)?;
        Ok(compute_modes[usize::from(which[0])])
    })
}

/// The forms that the keys allow, those that are preferred first; at least one.
fn allowed(train: &Train) -> Vec<ComputeMode> {
    ComputeMode::ALL.into_iter().filter(|f| ComputeMode::of(train, *f) == *f).collect()
}

fn choose(
    config: &Config,
    world: &World,
    compute_modes: &[ComputeMode],
    before: Option<ComputeMode>,
) -> Result<ComputeMode> {
    let key = match (config.train.precision, config.train.layout) {
        (Precision::Auto, Layout::Auto) => "train.precision and train.layout",
        (Precision::Auto, _) => "train.precision",
        _ => "train.layout",
    };
    if let Some(before) = before {
        let compute_mode = ComputeMode::of(&config.train, before);
        log::info!("{key} = \"auto\": {compute_mode}, as the training began");
        return Ok(compute_mode);
    }
    let (images, side) = (images(config, world), config.augment.crop.min(SIDE));
    let seconds = measure(config, world, compute_modes, images, side)?;
    let compute_mode = compute_modes[fastest(&seconds)];
    let text = |s: f64| if s.is_finite() { format!("{s:.3} s") } else { "far slower".into() };
    let each: Vec<String> =
        compute_modes.iter().zip(&seconds).map(|(f, s)| format!("{f} {}", text(*s))).collect();
    log::info!(
        "{key} = \"auto\": {compute_mode} ({}, per pass of {images} images of {side} px)",
        each.join(", ")
    );
    Ok(compute_mode)
}

/// As many as a forward pass of a rank takes, up to [`IMAGES`].
fn images(config: &Config, world: &World) -> usize {
    let share = Share::new(config.train.batch, 0, world.size(), config.train.micro_batch);
    share.passes().map(|pass| pass.len()).max().unwrap_or(IMAGES).min(IMAGES)
}

/// Seconds of a forward and backward pass in each form; infinite for what a look at few pixels
/// shows to be hopeless, as bf16 is on processors without instructions for it.
fn measure(
    config: &Config,
    world: &World,
    compute_modes: &[ComputeMode],
    images: usize,
    side: u32,
) -> Result<Vec<f64>> {
    let trial = Trial::new(config, world, compute_modes)?;
    let mut seconds = trial.seconds(compute_modes, images.min(4), side.min(SIDE / 2));
    let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let (places, worth): (Vec<usize>, Vec<ComputeMode>) =
        (0..).zip(compute_modes).filter(|(i, _)| seconds[*i] < HOPELESS * least).unzip();
    seconds.fill(f64::INFINITY);
    places.into_iter().zip(trial.seconds(&worth, images, side)).for_each(|(i, s)| seconds[i] = s);
    Ok(seconds)
}

/// Networks to be thrown away, one per layout.
struct Trial<'a> {
    networks: BTreeMap<bool, Network>,
    losses: &'a Losses,
}

impl<'a> Trial<'a> {
    fn new(config: &'a Config, world: &World, compute_modes: &[ComputeMode]) -> Result<Self> {
        let mut networks = BTreeMap::new();
        for compute_mode in compute_modes {
            networks.insert(
                compute_mode.channels_last,
                Network::new(
                    &Spec::of(&config.model),
                    0,
                    compute_mode.channels_last,
                    world.device,
                )?,
            );
        }
        Ok(Self { networks, losses: &config.train.loss })
    }

    /// The best time of each form in [`ROUNDS`] rounds of all, after one in which the first of a
    /// kind makes what later ones find.
    fn seconds(&self, compute_modes: &[ComputeMode], images: usize, side: u32) -> Vec<f64> {
        let mut seconds = vec![f64::INFINITY; compute_modes.len()];
        for round in 0..=ROUNDS {
            for (best, compute_mode) in seconds.iter_mut().zip(compute_modes) {
                let time = self.pass(compute_mode, images, side);
                if round > 0 {
                    *best = best.min(time);
                }
            }
        }
        seconds
    }

    /// Seconds of one pass over noise.
    fn pass(&self, compute_mode: &ComputeMode, images: usize, side: u32) -> f64 {
        let network = &self.networks[&compute_mode.channels_last];
        let (n, side, kind) = (images as i64, i64::from(side), (Kind::Float, network.device()));
        let x = Tensor::randn([n, network.spec().channels, side, side], kind);
        let targets = Tensor::rand([n, CLASSES as i64], kind).lt(0.1).to_kind(Kind::Float);
        let keys: Vec<u64> = (0..images as u64).collect();
        device::wait(network.device());
        let start = Instant::now();
        let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
        loss::total(&network.forward(&x, mode, compute_mode.precision), &targets, self.losses)
            .backward();
        device::wait(network.device());
        start.elapsed().as_secs_f64()
    }
}

/// The place of the least of `seconds`; a later one has to be faster than the best before it by
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
    fn a_form_has_to_be_a_tenth_faster_than_those_preferred_to_it() {
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
        let compute_modes =
            |precision, layout| allowed(&Train { precision, layout, ..Train::default() });
        assert_eq!(compute_modes(Precision::Auto, Layout::Auto), ComputeMode::ALL);
        let said = |precision, layout| {
            compute_modes(precision, layout)
                .iter()
                .map(ComputeMode::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(said(Precision::Auto, Layout::Nchw), "f32/nchw bf16/nchw");
        assert_eq!(said(Precision::Bf16, Layout::Auto), "bf16/nhwc bf16/nchw");
        for (precision, layout, compute_mode) in [
            (Precision::F32, Layout::Nhwc, "f32/nhwc"),
            (Precision::Bf16, Layout::Nchw, "bf16/nchw"),
        ] {
            assert_eq!(said(precision, layout), compute_mode);
        }
    }

    #[test]
    fn one_key_leaves_nothing_to_measure_and_a_training_goes_on_as_it_began() {
        let (world, mut config) = (World::alone(), Config::default());
        config.model.arch = "none".into(); // a network cannot be made: whoever measures fails
        let began = ComputeMode { precision: model::Precision::Bf16, channels_last: false };
        assert!(settle(&config, &world, None).is_err());
        assert_eq!(settle(&config, &world, Some(began)).unwrap(), began);
        config.train.layout = Layout::Nhwc;
        assert_eq!(settle(&config, &world, Some(began)).unwrap().to_string(), "bf16/nhwc");
        config.train.precision = Precision::F32;
        assert_eq!(settle(&config, &world, None).unwrap().to_string(), "f32/nhwc");
    }
}
