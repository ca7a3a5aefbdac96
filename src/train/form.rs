//! What `auto` comes to: before the first step of a fold, a few training passes of a network of its kind are timed on the
//! machine at hand. All that follows takes the answer from the checkpoints.

use std::{collections::BTreeMap, time::Instant};

use tch::{Kind, Tensor};

use crate::{
    comm::{World, share::Share, watch, watch::Limit},
    config::{Config, Layout, Precision, Train},
    device,
    error::Result,
    labels::CLASSES,
    loss,
    model::{DropKeys, Form, Mode, Network, Norms, Spec},
};

/// How many times as fast as what is preferred to it a form has to be: noise must not decide a near tie.
const MARGIN: f64 = 1.1;

/// Rounds in which each form is timed once; its best time counts.
const ROUNDS: usize = 3;

/// Images of a timed pass, and their side in pixels, at most.
const IMAGES: usize = 16;
const SIDE: u32 = 128;

/// In which form a fold is trained: as the keys say. Where they leave it open, the form in which the training began, and at its
/// start the one that rank 0 finds fastest.
pub fn settle(config: &Config, world: &World, before: Option<Form>) -> Result<Form> {
    let forms = allowed(&config.train);
    watch::during("choosing precision and layout", Limit::Start, || {
        let chosen = if world.rank() > 0 || forms.len() == 1 { Ok(forms[0]) } else { choose(config, world, &forms, before) };
        let chosen = world.agree(chosen)?;
        let mut which = [forms.iter().position(|f| *f == chosen).unwrap_or_default() as u8];
        world.broadcast(&mut which)?;
        Ok(forms[usize::from(which[0])])
    })
}

/// The forms that the keys allow, those that are preferred first; at least one.
fn allowed(train: &Train) -> Vec<Form> {
    Form::ALL.into_iter().filter(|f| Form::of(train, *f) == *f).collect()
}

fn choose(config: &Config, world: &World, forms: &[Form], before: Option<Form>) -> Result<Form> {
    let key = match (config.train.precision, config.train.layout) {
        (Precision::Auto, Layout::Auto) => "train.precision and train.layout",
        (Precision::Auto, _) => "train.precision",
        _ => "train.layout",
    };
    if let Some(before) = before {
        let form = Form::of(&config.train, before);
        log::info!("{key} = \"auto\": {form}, as the training began");
        return Ok(form);
    }
    let (images, side) = (images(config, world), config.augment.crop.min(SIDE));
    let seconds = measure(config, world, forms, images, side)?;
    let form = forms[fastest(&seconds)];
    let each: Vec<String> = forms.iter().zip(&seconds).map(|(f, s)| format!("{f} {s:.2} s")).collect();
    log::info!("{key} = \"auto\": {form} ({} per pass of {images} images of {side} px)", each.join(", "));
    Ok(form)
}

/// As many as a forward pass of a rank takes, up to [`IMAGES`].
fn images(config: &Config, world: &World) -> usize {
    let share = Share::new(config.train.batch, 0, world.size(), config.train.micro_batch);
    share.passes().map(|pass| pass.len()).max().unwrap_or(IMAGES).min(IMAGES)
}

/// Seconds of a forward and backward pass in each form.
fn measure(config: &Config, world: &World, forms: &[Form], images: usize, side: u32) -> Result<Vec<f64>> {
    let (spec, device, side) = (Spec::of(&config.model), world.device, i64::from(side));
    let mut networks = BTreeMap::new();
    for form in forms {
        networks.insert(form.channels_last, Network::new(&spec, 0, form.channels_last, device)?);
    }
    let x = Tensor::randn([images as i64, spec.channels, side, side], (Kind::Float, device));
    let targets = Tensor::rand([images as i64, CLASSES as i64], (Kind::Float, device)).lt(0.1).to_kind(Kind::Float);
    let keys: Vec<u64> = (0..images as u64).collect();
    let pass = |form: &Form| {
        let start = Instant::now();
        let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
        let out = networks[&form.channels_last].forward(&x, mode, form.precision);
        loss::total(&out, &targets, &config.train.loss).backward();
        device::wait(device);
        start.elapsed().as_secs_f64()
    };
    forms.iter().map(pass).for_each(drop); // the first of a kind also sets up what the later ones find
    let mut seconds = vec![f64::INFINITY; forms.len()];
    for _ in 0..ROUNDS {
        for (best, form) in seconds.iter_mut().zip(forms) {
            *best = best.min(pass(form));
        }
    }
    Ok(seconds)
}

/// The place of the least of `seconds`; a later one has to be faster than the best before it by [`MARGIN`].
fn fastest(seconds: &[f64]) -> usize {
    (1..seconds.len()).fold(0, |best, i| if seconds[i] * MARGIN <= seconds[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

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
            ([1.0, 2.0, 30.0, 40.0], 0),
        ] {
            assert_eq!(fastest(&seconds), place, "{seconds:?}");
        }
        assert_eq!(fastest(&[5.0]), 0);
    }

    #[test]
    fn only_what_is_auto_varies() {
        let forms = |precision, layout| allowed(&Train { precision, layout, ..Train::default() });
        assert_eq!(forms(Precision::Auto, Layout::Auto), Form::ALL);
        let said = |precision, layout| forms(precision, layout).iter().map(Form::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(said(Precision::Auto, Layout::Nchw), "f32/nchw bf16/nchw");
        assert_eq!(said(Precision::Bf16, Layout::Auto), "bf16/nhwc bf16/nchw");
        for (precision, layout, form) in [(Precision::F32, Layout::Nhwc, "f32/nhwc"), (Precision::Bf16, Layout::Nchw, "bf16/nchw")] {
            assert_eq!(said(precision, layout), form);
        }
    }

    #[test]
    fn one_key_leaves_nothing_to_measure_and_a_training_goes_on_as_it_began() {
        let (world, mut config) = (World::alone(), Config::default());
        config.model.arch = "none".into(); // a network cannot be made: whoever measures fails
        let began = Form { precision: model::Precision::Bf16, channels_last: false };
        assert!(settle(&config, &world, None).is_err());
        assert_eq!(settle(&config, &world, Some(began)).unwrap(), began);
        config.train.layout = Layout::Nhwc;
        assert_eq!(settle(&config, &world, Some(began)).unwrap().to_string(), "bf16/nhwc");
        config.train.precision = Precision::F32;
        assert_eq!(settle(&config, &world, None).unwrap().to_string(), "f32/nhwc");
    }
}
