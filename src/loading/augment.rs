//! From a stored image to the views that the network sees: random changes for training, fixed crops
//! for prediction. Images are u8 `[side, side, 4]`, red, green, blue and yellow interleaved.

pub mod geometry;
pub mod tone;
pub mod warp;

use std::ops::Range;

use fast_image_resize::Resizer;
use rand::RngExt;

use crate::{
    base::{Result, rng::Rng},
    config::{Augment, Tta},
};
use geometry::Window;
use tone::{Tone, Tones};
use warp::Affine;

/// Buffers that a worker keeps between images.
#[derive(Default)]
pub struct Scratch {
    resizer: Resizer,
    resized: Vec<u8>,
    cropped: Vec<u8>,
}

/// The side in pixels to which `elastic_affine`, `elastic_alpha` and `elastic_sigma` refer.
const ELASTIC_SIDE: f64 = 512.0;

/// Views that [`views`] makes of one image.
pub fn view_count(tta: Tta) -> usize {
    match tta {
        Tta::None => 1,
        Tta::FiveCrop => 5,
        Tta::FiveCropD4 => 40,
    }
}

/// Side of these views in pixels.
pub fn view_side(augment: &Augment, tta: Tta) -> usize {
    match tta {
        Tta::None => augment.resize as usize,
        Tta::FiveCrop | Tta::FiveCropD4 => augment.crop as usize,
    }
}

/// The rows of an image of `side` pixels that [`random`] will read with the same `rng`.
pub fn rows(augment: &Augment, rng: &Rng, side: usize) -> Range<usize> {
    if side != augment.resize as usize {
        return 0..side;
    }
    let [top, _] = random_corner(augment, &mut rng.clone());
    top..top + augment.crop as usize
}

/// Fills `out` `[crop, crop, 4]` with a random version of `image` `[side, side, 4]`: resized,
/// cropped, turned, flipped, its brightness and contrast changed, distorted, in this order.
pub fn random(
    augment: &Augment,
    rng: &mut Rng,
    image: &[u8],
    side: usize,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<()> {
    let Scratch { resizer, resized, cropped } = scratch;
    let (image, side) = fit(augment, resizer, resized, image, side)?;
    let crop = augment.crop as usize;
    let [top, left] = random_corner(augment, rng);
    let mut window = Window::new(side, top, left, crop);
    if happens(rng, augment.rot90) {
        window = window.turned(rng.random_range(0..4));
    }
    if happens(rng, augment.flip) {
        window = match rng.random_range(0..3) {
            0 => window.flipped_vertically(),
            1 => window.flipped_horizontally(),
            _ => window.flipped_vertically().flipped_horizontally(),
        };
    }
    let tones = happens(rng, augment.brightness_contrast).then(|| random_tones(augment, rng));
    let distorted = happens(rng, augment.elastic);
    let out = pixels_mut(out);
    let before = if distorted {
        cropped.resize(crop * crop * 4, 0);
        pixels_mut(cropped)
    } else {
        &mut *out
    };
    window.copy(image.as_chunks().0, before);
    if let Some(tones) = tones {
        tone::apply(before, tones);
    }
    if distorted {
        let scale = crop as f64 / ELASTIC_SIDE;
        let map =
            Affine::from_jitter(crop, warp::random_jitter(rng, augment.elastic_affine * scale));
        let shift = (augment.elastic_alpha > 0.0).then(|| {
            warp::random_shift(
                rng,
                crop,
                augment.elastic_sigma * scale,
                augment.elastic_alpha * scale,
            )
        });
        warp::warp(cropped.as_chunks().0, crop, map, shift.as_ref(), out);
    }
    Ok(())
}

/// Fills `out` `[views, view side, view side, 4]` with the views of `image` `[side, side, 4]` that
/// are predicted and averaged: the whole resized image, or its crops top left, top right, bottom
/// left, bottom right and centre, or each of these in its eight symmetries (turned by 0, 90, 180
/// and 270 degrees, each of them also mirrored).
pub fn views(
    augment: &Augment,
    tta: Tta,
    image: &[u8],
    side: usize,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<()> {
    let (image, side) = fit(augment, &mut scratch.resizer, &mut scratch.resized, image, side)?;
    let (image, crop) = (image.as_chunks().0, view_side(augment, tta));
    let (far, middle) = (side - crop, (side - crop) / 2);
    let corners = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
        .map(|(top, left)| Window::new(side, top, left, crop));
    let windows: Vec<Window> = match tta {
        Tta::None => vec![Window::new(side, 0, 0, side)],
        Tta::FiveCrop => corners.to_vec(),
        Tta::FiveCropD4 => corners
            .into_iter()
            .flat_map(|w| {
                (0..4).flat_map(move |k| [w.turned(k), w.turned(k).flipped_horizontally()])
            })
            .collect(),
    };
    assert_eq!(out.len(), windows.len() * crop * crop * 4);
    for (window, out) in windows.into_iter().zip(out.chunks_exact_mut(crop * crop * 4)) {
        window.copy(image, pixels_mut(out));
    }
    Ok(())
}

/// The image at the side `augment.resize`, and this side; not copied where it is stored with it.
fn fit<'a>(
    augment: &Augment,
    resizer: &mut Resizer,
    resized: &'a mut Vec<u8>,
    image: &'a [u8],
    side: usize,
) -> Result<(&'a [u8], usize)> {
    assert_eq!(image.len(), side * side * 4, "image of {side} pixels");
    let to = augment.resize as usize;
    if side == to {
        return Ok((image, side));
    }
    resized.resize(to * to * 4, 0);
    geometry::resize(resizer, image, side, resized, to)?;
    Ok((resized, to))
}

fn happens(rng: &mut Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// Row and column at which the crop begins in the resized image.
fn random_corner(augment: &Augment, rng: &mut Rng) -> [usize; 2] {
    let last = (augment.resize - augment.crop) as usize;
    [(); 2].map(|()| rng.random_range(0..=last))
}

fn random_tones(augment: &Augment, rng: &mut Rng) -> Tones {
    let mut within = |limit: f64| ((2.0 * rng.random::<f64>() - 1.0) * limit) as f32;
    let mut tone =
        || Tone { alpha: 1.0 + within(augment.contrast), beta: within(augment.brightness) };
    if augment.per_channel {
        Tones::Each(std::array::from_fn(|_| tone()))
    } else {
        Tones::All(tone())
    }
}

fn pixels_mut(bytes: &mut [u8]) -> &mut [[u8; 4]] {
    bytes.as_chunks_mut().0
}

#[cfg(test)]
mod tests;
