//! Near-duplicates: the same image under another id, as if exported again.

use super::{draw::RandomDraw, sample::Planes};
use crate::base::{Error, Result, rng::Rng};

/// The image altered: brightness by up to 20 %, shift of up to 2 px at 512 px (in proportion at
/// other sizes), noise of standard deviation 2 and, for official copies, JPEG compression at a
/// quality of 85 to 95 (external files are JPEG anyway).
pub fn alter(original: &Planes, through_jpeg: bool, rng: &mut Rng) -> Result<Planes> {
    let size = original.size;
    let reach = 2.0 * size as f32 / 512.0;
    let (dx, dy) = (rng.range(-reach, reach), rng.range(-reach, reach));
    let brightness = rng.range(0.8, 1.2);
    let quality = quality(rng);
    let mut copy = original.clone();
    for (plane, source) in copy.planes.iter_mut().zip(&original.planes) {
        for y in 0..size {
            for x in 0..size {
                let v = between(source, size, x as f32 + dx, y as f32 + dy) * brightness
                    + 2.0 * rng.normal();
                plane[y * size + x] = v.round().clamp(0.0, 255.0) as u8;
            }
        }
        if through_jpeg {
            let bytes = encode_jpeg(plane, size, image::ExtendedColorType::L8, quality)?;
            let decoded = image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg)
                .map_err(Error::failed)?;
            *plane = decoded.into_luma8().into_raw();
        }
    }
    Ok(copy)
}

/// Random quality of a JPEG.
pub fn quality(rng: &mut Rng) -> u8 {
    rng.count(85, 95) as u8
}

pub fn encode_jpeg(
    pixels: &[u8],
    size: usize,
    colour: image::ExtendedColorType,
    quality: u8,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
    let side = size as u32;
    image::ImageEncoder::write_image(encoder, pixels, side, side, colour).map_err(Error::failed)?;
    Ok(bytes)
}

/// Bilinear interpolation; beyond the border the edge repeats.
fn between(plane: &[u8], size: usize, x: f32, y: f32) -> f32 {
    let limit = size as f32 - 1.0;
    let (x, y) = (x.clamp(0.0, limit), y.clamp(0.0, limit));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(size - 1), (y0 + 1).min(size - 1));
    let (tx, ty) = (x - x0 as f32, y - y0 as f32);
    let at = |x: usize, y: usize| f32::from(plane[y * size + x]);
    let top = at(x0, y0) + tx * (at(x1, y0) - at(x0, y0));
    let bottom = at(x0, y1) + tx * (at(x1, y1) - at(x0, y1));
    top + ty * (bottom - top)
}
