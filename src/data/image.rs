//! Pictures in: one channel of a sample from PNG, JPEG or TIFF, 8 or 16 bit, gzipped or not, as
//! 8-bit gray.
//!
//! What a file is is told from its bytes, never from its name. Dimensions are read and checked
//! before memory is taken. A gray picture is taken as it is, 16 bit scaled to 8 (`v / 257`,
//! rounded, so that an 8-bit value times 257 gives that value again). In a coloured one the signal
//! lies in the plane of its channel: red in R, green in G, blue in B, yellow in `(R + G) / 2`,
//! halves to even so that dark pictures get no brighter; reading those as gray would darken blue
//! eightfold.

use std::{
    fs,
    io::Read,
    ops::{Add, Mul},
    path::Path,
};

use fast_image_resize as fir;
use flate2::read::MultiGzDecoder;
use multiversion::multiversion;

use crate::base::{Error, Result};

mod decode;
mod gray;
mod jpeg;
mod rgby;

use decode::Raster;
pub use decode::reuse;

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
/// Names the file: it cannot be read, is no picture of a known kind, is broken or cut short, or is
/// wider or higher than `max_side` pixels.
pub fn read_channel(path: &Path, channel: usize, max_side: u32) -> Result<Plane> {
    Ok(Encoded::read(path, max_side)?.channel(channel)?.whole())
}

impl<'a> Encoded<'a> {
    /// Reads a file (inflates it where it is gzipped) and looks at its header.
    pub fn read(path: &'a Path, max_side: u32) -> Result<Self> {
        let largest = largest(max_side);
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_or(0, |m| m.len().min(largest));
        // one more, so that its end is seen without growing
        let mut bytes = Vec::with_capacity(length as usize + 1);
        file.take(largest + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Self::new(path, bytes, max_side)
    }

    /// As [`read`](Self::read), of a file's content; `path` is what messages call it.
    pub fn new(path: &'a Path, mut bytes: Vec<u8>, max_side: u32) -> Result<Self> {
        let largest = largest(max_side);
        if bytes.len() as u64 > largest {
            return Err(Error::data(
                path,
                format!(
                    "is larger than any picture of {max_side} pixels a side \
                        (preprocess.max_pixels_side)"
                ),
            ));
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
            return Err(Error::data(
                path,
                format!(
                    "{w}x{h} pixels, above preprocess.max_pixels_side = {max_side}; it was not \
                        decoded"
                ),
            ));
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
    pub fn channel(self, channel: usize) -> Result<Channel> {
        if self.is_jpeg()
            && let Some(planes) =
                jpeg::Planes::decode(&self.bytes).map_err(|what| Error::data(self.path, what))?
        {
            let [width, height] = [self.header.width, self.header.height].map(|side| side as usize);
            return Ok(Channel { width, height, rows: Rows::Computed(planes, channel) });
        }
        let Plane { width, height, pixels } = match channel {
            0 => self.plane(|rgb| rgb[0]),
            1 => self.plane(|rgb| rgb[1]),
            2 => self.plane(|rgb| rgb[2]),
            _ => self.plane(|rgb| halved(rgb[0], rgb[1])),
        }?;
        Ok(Channel { width, height, rows: Rows::Decoded(pixels) })
    }

    /// Decodes to brightness as Pillow's `convert("L")` does: gray as it is, colours by [`luma`].
    pub fn luma(self) -> Result<Plane> {
        self.plane(|rgb| luma(rgb[0], rgb[1], rgb[2]))
    }

    fn plane(self, pick: impl Fn(&[u8]) -> u8) -> Result<Plane> {
        let Raster { step, pixels } = decode::decode(self.bytes, &self.header)
            .map_err(|what| Error::data(self.path, what))?;
        let (width, height) = (self.header.width as usize, self.header.height as usize);
        if pixels.len() != width * height * step {
            return Err(Error::data(
                self.path,
                "a picture layout that is not supported; convert it to PNG",
            ));
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

/// No picture within the limit has more bytes than its 16-bit RGB pixels plus some headers.
fn largest(max_side: u32) -> u64 {
    u64::from(max_side).pow(2) * 6 + (1 << 20)
}

/// One channel of a picture, decoded as far as is needed to have its rows.
pub struct Channel {
    width: usize,
    height: usize,
    rows: Rows,
}

enum Rows {
    Decoded(Vec<u8>),
    /// Of which channel.
    Computed(jpeg::Planes, usize),
}

impl Channel {
    /// Hands out the rows from the top, `rows` at a time; the last band may have fewer. What is
    /// done with a band while it is in the processor's cache need not fetch it from memory again.
    pub fn bands(self, rows: usize, mut each: impl FnMut(&[u8])) {
        let length = rows.min(self.height) * self.width;
        match self.rows {
            Rows::Decoded(pixels) => {
                pixels.chunks(length).for_each(each);
                reuse(pixels);
            }
            Rows::Computed(planes, channel) => {
                let mut band = decode::buffer(length);
                for first in (0..self.height).step_by(rows) {
                    let band = &mut band[..rows.min(self.height - first) * self.width];
                    planes.rows(channel, first, band);
                    each(band);
                }
                reuse(band);
                planes.reuse();
            }
        }
    }

    /// All rows.
    pub fn whole(self) -> Plane {
        let (width, height) = (self.width, self.height);
        let pixels = match self.rows {
            Rows::Decoded(pixels) => pixels,
            Rows::Computed(planes, channel) => {
                let mut pixels = decode::buffer(width * height);
                planes.rows(channel, 0, &mut pixels);
                planes.reuse();
                pixels
            }
        };
        Plane { width, height, pixels }
    }
}

/// The mean, halves to even.
#[inline(always)]
fn halved(a: u8, b: u8) -> u8 {
    let sum = u16::from(a) + u16::from(b);
    (sum / 2 + (sum & (sum / 2) & 1)) as u8
}

/// One value of each pixel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn picked<const STEP: usize>(pixels: &[[u8; STEP]], pick: impl Fn(&[u8]) -> u8) -> Vec<u8> {
    pixels.iter().map(|pixel| pick(pixel)).collect()
}

/// Inflates at most `largest` bytes, and where less would do at most 64 MiB or a hundred times the
/// packed size: a bomb inflates a thousandfold, a dark 16-bit microscope picture some tenfold.
fn inflate(packed: &[u8], largest: u64) -> Result<Vec<u8>, String> {
    let limit = largest.min((64 << 20).max(packed.len() as u64 * 100));
    let mut bytes = Vec::new();
    MultiGzDecoder::new(packed)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("broken gzip data: {e}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!(
            "inflates to more than {limit} bytes, more than a picture within \
                preprocess.max_pixels_side needs"
        ));
    }
    Ok(bytes)
}

/// Brightness of a colour (ITU-R 601) in Pillow's fixed-point arithmetic.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Scales to `side` x `side` pixels: area averaging where neither side grows, else bilinear (with
/// its support widened along a side that shrinks). The aspect is not kept: the data is square, and
/// a picture that is not must fill the same frame in all four channels.
pub fn resize(plane: &Plane, side: usize) -> Plane {
    if plane.width == side && plane.height == side {
        return plane.clone();
    }
    if let Some(mean) = AreaMean::new(plane.width, plane.height, side) {
        let mut pixels = Vec::new();
        mean.rows(&plane.pixels, &mut pixels);
        return Plane { width: side, height: side, pixels };
    }
    let size = |n: usize| u32::try_from(n).expect("sides are checked when read");
    let from = fir::images::ImageRef::new(
        size(plane.width),
        size(plane.height),
        &plane.pixels,
        fir::PixelType::U8,
    )
    .expect("a plane holds width x height bytes");
    let mut to = fir::images::Image::new(size(side), size(side), fir::PixelType::U8);
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new().resize(&from, &mut to, &options).expect("both images are 8-bit gray");
    Plane { width: side, height: side, pixels: to.into_vec() }
}

/// Averaging to fewer pixels: the exact mean over the area of each new one, rounded once, halves to
/// even. Rounding after each direction, as resizers of 8-bit pictures do, would brighten the dark
/// pictures of this data by a percent.
pub struct AreaMean {
    width: usize,
    side: usize,
    across: Ratio,
    down: Ratio,
    /// Where the ratio is not one that is known to the compiler.
    columns: Option<Columns>,
}

/// By new column, the first old one that it covers and how much of it and of the next ones, `taps`
/// in all.
struct Columns {
    taps: usize,
    starts: Vec<usize>,
    weights: Vec<u32>,
}

impl Columns {
    fn new(across: Ratio, side: usize) -> Self {
        let taps = across.old.div_ceil(across.new) + usize::from(across.new > 1);
        let taps = if taps <= 4 { 4 } else { taps.next_multiple_of(8) };
        let mut weights = vec![0; side * taps];
        for (x, weights) in weights.chunks_exact_mut(taps).enumerate() {
            weights
                .iter_mut()
                .zip(across.covered(x))
                .for_each(|(weight, (_, covered))| *weight = covered as u32);
        }
        let starts = (0..side).map(|x| x * across.old / across.new).collect();
        Self { taps, starts, weights }
    }
}

impl AreaMean {
    /// From `width` x `height` to `side` x `side` pixels; `None` where a side would grow.
    pub fn new(width: usize, height: usize, side: usize) -> Option<Self> {
        if width < side || height < side {
            return None;
        }
        let (across, down) = (Ratio::new(width, side), Ratio::new(height, side));
        let columns =
            (!USUAL.contains(&(across.old, across.new))).then(|| Columns::new(across, side));
        Some(Self { width, side, across, down, columns })
    }

    /// Rows that stay in a second-level cache together with what is made of them, and that whole
    /// new rows can be made of.
    pub fn band(&self) -> usize {
        (BAND / self.width).max(1).next_multiple_of(self.down.old)
    }

    /// Makes the new rows of a whole number of [bands](Self::band), behind what `out` has.
    pub fn rows(&self, pixels: &[u8], out: &mut Vec<u8>) {
        // The narrowest numbers that hold the largest sum: a processor takes the more of them at a
        // time.
        match 255 * self.across.old * self.down.old {
            ..=0xffff => average::<u16>(self, pixels, out),
            0x1_0000..=0xffff_ffff => average::<u32>(self, pixels, out),
            _ => average::<u64>(self, pixels, out),
        }
    }
}

/// Ratios of columns that [`average`] has loops of its own for.
const USUAL: [(usize, usize); 4] = [(2, 1), (4, 1), (8, 1), (8, 3)];

/// Pixels of a band.
const BAND: usize = 128 << 10;

/// How many old pixels lie beside how many new ones, in lowest terms.
#[derive(Clone, Copy)]
struct Ratio {
    old: usize,
    new: usize,
}

impl Ratio {
    fn new(old: usize, new: usize) -> Self {
        let (mut divisor, mut rest) = (old, new);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        Self { old: old / divisor, new: new / divisor }
    }

    /// The old pixels that new pixel `i` covers, and how much of each. In units of 1 / `new` of an
    /// old pixel, it lies from `i * old` to `(i + 1) * old` and old pixel j from `j * new` to `(j +
    /// 1) * new`.
    fn covered(self, i: usize) -> impl Iterator<Item = (usize, usize)> {
        let (Self { old, new }, from) = (self, i * self.old);
        let to = from + old;
        (from / new..to.div_ceil(new)).map(move |j| (j, to.min((j + 1) * new) - from.max(j * new)))
    }
}

/// Whole numbers in which means are summed, wide enough for what they hold.
trait Whole: Copy + Default + Add<Output = Self> + Mul<Output = Self> + From<u8> {
    fn new(v: usize) -> Self;

    /// `self / by`, rounded, halves to even. A quotient is the nearest floating-point number, near
    /// enough not to miss a half as long as both are exact in it; its sum with 2^23 (f32) or 2^52
    /// (f64) is rounded to a whole number, whose last bits are the result.
    fn mean(self, by: usize) -> u8;
}

macro_rules! whole {
    ($($t:ty: $float:ty, $bits:literal;)*) => {$(
        impl Whole for $t {
            #[inline(always)]
            fn new(v: usize) -> Self {
                v as Self
            }
            #[inline(always)]
            fn mean(self, by: usize) -> u8 {
                (self as $float / by as $float + (1u64 << $bits) as $float).to_bits() as u8
            }
        }
    )*};
}
whole!(u16: f32, 23; u32: f64, 52; u64: f64, 52;);

/// Old columns that are summed at a time, in registers.
const COLUMNS: usize = 128;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn average<T: Whole>(mean: &AreaMean, pixels: &[u8], out: &mut Vec<u8>) {
    let &AreaMean { width, side, across, down, ref columns } = mean;
    let (taps, starts) =
        columns.as_ref().map_or((0, &[][..]), |columns| (columns.taps, &columns.starts));
    let weights: Vec<T> = columns
        .iter()
        .flat_map(|columns| &columns.weights)
        .map(|&weight| T::new(weight as usize))
        .collect();
    let area = across.old * down.old;
    let at = out.len();
    out.resize(at + pixels.len() / width / down.old * down.new * side, 0);
    let (mut sums, mut totals) = (vec![T::default(); width + taps], vec![T::default(); side]);
    for (y, out) in out[at..].chunks_exact_mut(side).enumerate() {
        for (at, sums) in sums[..width].chunks_mut(COLUMNS).enumerate() {
            let mut part = [T::default(); COLUMNS];
            for (row, covered) in down.covered(y) {
                let pixels = &pixels[row * width + at * COLUMNS..][..sums.len()];
                match pixels.first_chunk::<COLUMNS>() {
                    Some(pixels) => add(&mut part, pixels, T::new(covered)),
                    None => add(&mut part, pixels, T::new(covered)),
                }
            }
            sums.copy_from_slice(&part[..sums.len()]);
        }
        match (across.old, across.new) {
            (2, 1) => group::<T, 2, 1>(&sums, &mut totals),
            (4, 1) => group::<T, 4, 1>(&sums, &mut totals),
            (8, 1) => group::<T, 8, 1>(&sums, &mut totals),
            (8, 3) => group::<T, 8, 3>(&sums, &mut totals),
            _ => {
                for ((total, weights), &start) in
                    totals.iter_mut().zip(weights.chunks_exact(taps)).zip(starts)
                {
                    *total = weighted(weights, &sums[start..][..taps]);
                }
            }
        }
        out.iter_mut().zip(&totals).for_each(|(mean, total)| *mean = total.mean(area));
    }
}

#[inline(always)]
fn add<T: Whole>(sums: &mut [T; COLUMNS], pixels: &[u8], weight: T) {
    sums.iter_mut().zip(pixels).for_each(|(sum, &p)| *sum = *sum + weight * T::from(p));
}

/// The totals where the ratio is known to the compiler, ten times as fast: of 2048 or 1024 pixels
/// to 1024, 768, 512 or 256.
#[inline(always)]
fn group<T: Whole, const OLD: usize, const NEW: usize>(sums: &[T], totals: &mut [T]) {
    let covered = |new: usize, old: usize| {
        ((new + 1) * OLD).min((old + 1) * NEW).saturating_sub((new * OLD).max(old * NEW))
    };
    for (sums, totals) in sums.as_chunks::<OLD>().0.iter().zip(totals.as_chunks_mut::<NEW>().0) {
        for (new, total) in totals.iter_mut().enumerate() {
            *total = T::default();
            for (old, &sum) in sums.iter().enumerate() {
                if covered(new, old) > 0 {
                    *total = *total + T::new(covered(new, old)) * sum;
                }
            }
        }
    }
}

#[inline(always)]
fn weighted<T: Whole>(weights: &[T], sums: &[T]) -> T {
    let plain = |weights: &[T], sums: &[T]| {
        weights.iter().zip(sums).fold(T::default(), |total, (&w, &s)| total + w * s)
    };
    match (weights.as_array::<4>(), sums.as_array::<4>()) {
        (Some(weights), Some(sums)) => plain(weights, sums), // the usual case, without a loop
        _ => plain(weights, sums),
    }
}

#[cfg(test)]
mod tests;
