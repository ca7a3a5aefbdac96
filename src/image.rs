//! Pictures in: one channel of a sample from PNG, JPEG or TIFF, 8 or 16 bit, gzipped or not, as 8-bit gray.
//!
//! What a file is is told from its bytes, never from its name. Dimensions are read and checked before memory is taken.
//! A gray picture is taken as it is, 16 bit scaled to 8 (`v / 257`, rounded, so that an 8-bit value times 257 gives that
//! value again). In a coloured one the signal lies in the plane of its channel: red in R, green in G, blue in B, yellow
//! in `(R + G) / 2`, halves to even
//! so that dark pictures get no brighter; reading those as gray would darken blue eightfold.

use std::{fs, io::Read, path::Path};

use fast_image_resize as fir;
use flate2::read::MultiGzDecoder;
use multiversion::multiversion;

use crate::error::{Error, Result};

mod decode;

use decode::Raster;

/// One gray channel, row by row, on the scale 0 to 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

/// A picture's file in memory, recognised and measured but not yet decoded.
pub struct Encoded<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    header: decode::Header,
}

/// Decodes `channel` (0 red, 1 green, 2 blue, 3 yellow) of the picture at `path`.
///
/// # Errors
/// Names the file: it cannot be read, is no picture of a known kind, is broken or cut short, or is wider or higher than
/// `max_side` pixels.
pub fn read_channel(path: &Path, channel: usize, max_side: u32) -> Result<Plane> {
    Encoded::read(path, max_side)?.channel(channel)
}

impl<'a> Encoded<'a> {
    /// Reads a file (inflates it where it is gzipped) and looks at its header.
    pub fn read(path: &'a Path, max_side: u32) -> Result<Self> {
        // No picture within the limit is larger than its 16-bit RGB pixels plus some headers.
        let largest = u64::from(max_side).pow(2) * 6 + (1 << 20);
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_or(0, |m| m.len().min(largest));
        let mut bytes = Vec::with_capacity(length as usize + 1); // one more, so that its end is seen without growing
        file.take(largest + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if bytes.len() as u64 > largest {
            return Err(Error::data(path, format!("is larger than any picture of {max_side} pixels a side (preprocess.max_pixels_side)")));
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = inflate(&bytes, largest).map_err(|what| Error::data(path, what))?;
        }
        let header = decode::header(&bytes).map_err(|what| Error::data(path, what))?;
        let (w, h) = (header.width, header.height);
        if w == 0 || h == 0 {
            return Err(Error::data(path, format!("the picture is empty ({w}x{h} pixels)")));
        }
        if w.max(h) > max_side {
            return Err(Error::data(path, format!("{w}x{h} pixels, above preprocess.max_pixels_side = {max_side}; it was not decoded")));
        }
        Ok(Self { path, bytes, header })
    }

    /// Width and height in pixels.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.header.width, self.header.height)
    }

    /// Whether it is a JPEG, which takes longer per pixel.
    pub fn is_jpeg(&self) -> bool {
        self.header.format == decode::Format::Jpeg
    }

    /// About how many bytes of memory decoding takes at its peak.
    pub fn memory(&self) -> u64 {
        u64::from(self.header.width) * u64::from(self.header.height) * self.header.bytes_per_pixel
    }

    /// Decodes the plane that holds `channel` (0 red, 1 green, 2 blue, 3 yellow).
    pub fn channel(self, channel: usize) -> Result<Plane> {
        match channel {
            0 => self.plane(|rgb| rgb[0]),
            1 => self.plane(|rgb| rgb[1]),
            2 => self.plane(|rgb| rgb[2]),
            _ => self.plane(|rgb| {
                let sum = u16::from(rgb[0]) + u16::from(rgb[1]);
                (sum / 2 + ((sum & 1) & ((sum / 2) & 1))) as u8
            }),
        }
    }

    /// Decodes to brightness as Pillow's `convert("L")` does: gray as it is, colours by [`luma`].
    pub fn luma(self) -> Result<Plane> {
        self.plane(|rgb| luma(rgb[0], rgb[1], rgb[2]))
    }

    fn plane(self, pick: impl Fn(&[u8]) -> u8) -> Result<Plane> {
        let Raster { step, pixels } = decode::decode(self.bytes, &self.header).map_err(|what| Error::data(self.path, what))?;
        let (width, height) = (self.header.width as usize, self.header.height as usize);
        if pixels.len() != width * height * step {
            return Err(Error::data(self.path, "a picture layout that is not supported; convert it to PNG"));
        }
        let plane = match step {
            1 => return Ok(Plane { width, height, pixels }),
            2 => picked(pixels.as_chunks::<2>().0, |p| p[0]), // gray and alpha
            3 => picked(pixels.as_chunks::<3>().0, pick),
            _ => picked(pixels.as_chunks::<4>().0, pick),
        };
        decode::reuse(pixels);
        Ok(Plane { width, height, pixels: plane })
    }
}

/// One value of each pixel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn picked<const STEP: usize>(pixels: &[[u8; STEP]], pick: impl Fn(&[u8]) -> u8) -> Vec<u8> {
    pixels.iter().map(|pixel| pick(pixel)).collect()
}

/// Inflates at most `largest` bytes, and where less would do at most 64 MiB or a hundred times the packed size: a bomb
/// inflates a thousandfold, a dark 16-bit microscope picture some tenfold.
fn inflate(packed: &[u8], largest: u64) -> Result<Vec<u8>, String> {
    let limit = largest.min((64 << 20).max(packed.len() as u64 * 100));
    let mut bytes = Vec::new();
    MultiGzDecoder::new(packed).take(limit + 1).read_to_end(&mut bytes).map_err(|e| format!("broken gzip data: {e}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("inflates to more than {limit} bytes, more than a picture within preprocess.max_pixels_side needs"));
    }
    Ok(bytes)
}

/// Brightness of a colour (ITU-R 601) in Pillow's fixed-point arithmetic.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Scales to `side` x `side` pixels: area averaging where neither side grows, else bilinear (with its support widened
/// along a side that shrinks). The aspect is not kept: the data is square, and a picture that is not must fill the same
/// frame in all four channels.
pub fn resize(plane: &Plane, side: usize) -> Plane {
    if plane.width == side && plane.height == side {
        return plane.clone();
    }
    if plane.width >= side && plane.height >= side {
        return Plane { width: side, height: side, pixels: average(plane, side) };
    }
    let size = |n: usize| u32::try_from(n).expect("sides are checked when read");
    let from = fir::images::ImageRef::new(size(plane.width), size(plane.height), &plane.pixels, fir::PixelType::U8)
        .expect("a plane holds width x height bytes");
    let mut to = fir::images::Image::new(size(side), size(side), fir::PixelType::U8);
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new().resize(&from, &mut to, &options).expect("both images are 8-bit gray");
    Plane { width: side, height: side, pixels: to.into_vec() }
}

/// Old columns that are summed at a time, in registers.
const COLUMNS: usize = 64;

/// The exact mean over the area of each new pixel, rounded once, halves to even. Rounding after each direction, as
/// resizers of 8-bit pictures do, would brighten the dark pictures of this data by a percent.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn average(plane: &Plane, side: usize) -> Vec<u8> {
    let (width, height) = (plane.width, plane.height);
    // In units of 1 / side of an old pixel, new pixel i covers i * n .. (i + 1) * n and old pixel j j * side .. (j + 1) * side.
    let overlaps = |i: usize, n: usize| {
        let (from, to) = (i * n, (i + 1) * n);
        (from / side..to.div_ceil(side)).map(move |j| (j, to.min((j + 1) * side) - from.max(j * side)))
    };
    let across: Vec<(usize, Vec<u64>)> =
        (0..side).map(|x| (x * width / side, overlaps(x, width).map(|(_, weight)| weight as u64).collect())).collect();
    // Whole numbers below 2^53, and a quotient is correctly rounded: no half is missed.
    let area = (width * height) as f64;
    let mut out = vec![0; side * side];
    let (mut sums, mut totals) = (vec![0u32; width], vec![0.0; side]);
    for (y, out) in out.chunks_exact_mut(side).enumerate() {
        for (at, sums) in sums.chunks_mut(COLUMNS).enumerate() {
            let mut part = [0; COLUMNS];
            for (row, weight) in overlaps(y, height) {
                let pixels = &plane.pixels[row * width + at * COLUMNS..][..sums.len()];
                match pixels.first_chunk::<COLUMNS>() {
                    Some(pixels) => add(&mut part, pixels, weight as u32),
                    None => add(&mut part, pixels, weight as u32),
                }
            }
            sums.copy_from_slice(&part[..sums.len()]);
        }
        for (total, (start, weights)) in totals.iter_mut().zip(&across) {
            *total = weights.iter().zip(&sums[*start..]).map(|(w, &s)| w * u64::from(s)).sum::<u64>() as f64;
        }
        out.iter_mut().zip(&totals).for_each(|(mean, total)| *mean = (total / area).round_ties_even() as u8);
    }
    out
}

#[inline(always)]
fn add(sums: &mut [u32; COLUMNS], pixels: &[u8], weight: u32) {
    for (sum, &p) in sums.iter_mut().zip(pixels) {
        *sum += weight * u32::from(p);
    }
}

#[cfg(test)]
mod tests;
