//! Small images of samples: hundreds of them fit into the page.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use ndarray::Array2;
use rayon::prelude::*;

use crate::{
    base::{Error, Result},
    data::{manifest::Part, shard::Store, work_folder::WorkFolder},
};

/// Side of a thumbnail in pixels.
pub const SIDE: usize = 96;
/// JPEG quality.
const QUALITY: u8 = 82;

/// The shards of both parts, or why they cannot be read.
pub struct Thumbnails {
    pub train: std::result::Result<Arc<Store>, String>,
    test: std::result::Result<Arc<Store>, String>,
}

impl Thumbnails {
    pub fn open(work: &WorkFolder) -> Self {
        let open = |part| work.store(part).cloned().map_err(|e| e.to_string());
        Self { train: open(Part::Train), test: open(Part::Test) }
    }

    /// Why there are no images of training samples.
    pub fn missing(&self) -> Option<&str> {
        self.train.as_ref().err().map(String::as_str)
    }

    /// By id, the `data:` URIs of these samples, without those that are in no shard.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn of(&self, part: Part, ids: Vec<&str>) -> Result<HashMap<String, String>> {
        let store = if part == Part::Train { &self.train } else { &self.test };
        let Ok(store) = store else { return Ok(HashMap::new()) };
        let mut places: Vec<(&str, usize)> =
            ids.into_iter().filter_map(|id| Some((id, store.find(id)?))).collect();
        places.sort_unstable();
        places.dedup();
        places.into_par_iter().map(|(id, i)| Ok((id.to_string(), colour(store, i)?))).collect()
    }
}

/// The store's image `i` as a `data:` URI: red, green and blue as they are, yellow added to red and
/// green at half strength.
///
/// # Errors
/// As [`Store::read`].
pub fn colour(store: &Store, i: usize) -> Result<String> {
    uri(&composite(&small(store, i)?))
}

/// The store's image `i` in gray, overlaid in orange with a map `[h, w]`, 0 to 1.
///
/// # Errors
/// As [`Store::read`].
pub fn heat(store: &Store, i: usize, map: &Array2<f32>) -> Result<String> {
    uri(&overlay(&composite(&small(store, i)?), map))
}

/// `[SIDE, SIDE, 4]`
fn small(store: &Store, i: usize) -> Result<Vec<u8>> {
    let side = store.size();
    let mut image = vec![0; side * side * 4];
    store.read(i, &mut image)?;
    resize(&image, side)
}

fn resize(image: &[u8], side: usize) -> Result<Vec<u8>> {
    let from =
        ImageRef::new(side as u32, side as u32, image, PixelType::U8x4).map_err(Error::failed)?;
    let mut to = Image::new(SIDE as u32, SIDE as u32, PixelType::U8x4);
    // The fourth channel is yellow, not transparency.
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box)).use_alpha(false);
    Resizer::new().resize(&from, &mut to, &options).map_err(Error::failed)?;
    Ok(to.into_vec())
}

/// `[n, 4]` red, green, blue, yellow → `[n, 3]`.
fn composite(image: &[u8]) -> Vec<u8> {
    image
        .as_chunks()
        .0
        .iter()
        .flat_map(|&[r, g, b, y]: &[u8; 4]| [r.saturating_add(y / 2), g.saturating_add(y / 2), b])
        .collect()
}

/// `rgb` `[SIDE, SIDE, 3]` in gray, with orange where `map` is high.
fn overlay(rgb: &[u8], map: &Array2<f32>) -> Vec<u8> {
    const ORANGE: [f32; 3] = [255.0, 150.0, 0.0];
    let pixel = |(i, rgb): (usize, &[u8])| {
        let gray = rgb.iter().map(|&v| f32::from(v)).sum::<f32>() / 3.0;
        let weight =
            0.7 * at(map, (i / SIDE) as f32 / SIDE as f32, (i % SIDE) as f32 / SIDE as f32);
        ORANGE.map(|o| (gray + weight * (o - gray)) as u8)
    };
    rgb.chunks_exact(3).enumerate().flat_map(pixel).collect()
}

/// The map at `(y, x)`, 0 to 1 each from the top left, by bilinear interpolation between the
/// centres of its cells.
fn at(map: &Array2<f32>, y: f32, x: f32) -> f32 {
    let (h, w) = map.dim();
    let cell = |v: f32, n: usize| {
        let v = ((v + 0.5 / SIDE as f32) * n as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        (v as usize, (v as usize + 1).min(n - 1), v.fract())
    };
    let ((top, bottom, down), (left, right, across)) = (cell(y, h), cell(x, w));
    let row = |y: usize| map[[y, left]] * (1.0 - across) + map[[y, right]] * across;
    row(top) * (1.0 - down) + row(bottom) * down
}

/// `[SIDE, SIDE, 3]` as a JPEG in a URI.
fn uri(rgb: &[u8]) -> Result<String> {
    let mut jpeg = Vec::new();
    let side = SIDE as u32;
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(rgb, side, side, ExtendedColorType::Rgb8)
        .map_err(Error::failed)?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbnail_is_the_mean_of_its_pixels() {
        // Four quarters of plain colours at four times the side.
        let side = 4 * SIDE;
        let of = |y: usize, x: usize| {
            [[200, 0, 0, 0], [0, 180, 0, 0], [0, 0, 160, 0], [10, 20, 30, 100]]
                [2 * (2 * y / side) + 2 * x / side]
        };
        let image: Vec<u8> = (0..side * side).flat_map(|i| of(i / side, i % side)).collect();
        let small = resize(&image, side).unwrap();
        assert_eq!(small[..4], [200, 0, 0, 0]);
        let rgb = composite(&small);
        let uri = uri(&rgb).unwrap();
        let bytes =
            BASE64_STANDARD.decode(uri.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
        let back = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!((back.width(), back.height()), (96, 96));
        for (place, want) in [
            ((20, 20), [200u8, 0, 0]),
            ((70, 20), [0, 180, 0]),
            ((20, 70), [0, 0, 160]),
            ((70, 70), [60, 70, 30]),
        ] {
            let got = back.get_pixel(place.0, place.1).0;
            assert!(
                got.iter().zip(want).all(|(a, b)| a.abs_diff(b) <= 4),
                "{place:?}: {got:?} {want:?}"
            );
        }
        // Alternate black and white columns become gray.
        let stripes: Vec<u8> =
            (0..side * side).flat_map(|i| [if i % 2 == 0 { 0 } else { 200 }; 4]).collect();
        assert!(resize(&stripes, side).unwrap().iter().all(|v| v.abs_diff(100) <= 1));
    }

    #[test]
    fn a_map_is_interpolated_over_the_image() {
        let map = ndarray::array![[0.0, 0.0], [0.0, 1.0]];
        assert_eq!((at(&map, 0.0, 0.0), at(&map, 0.99, 0.99)), (0.0, 1.0));
        assert!((at(&map, 0.495, 0.495) - 0.25).abs() < 0.02, "the middle lies between all four");
        let shown = overlay(&vec![90; SIDE * SIDE * 3], &map);
        assert_eq!(shown[..3], [90, 90, 90]);
        let last = &shown[shown.len() - 3..];
        assert!(last[0] > 190 && last[2] < 40, "{last:?}");
    }
}
