//! Resizing of gray images.

use std::ops::{Add, Mul};

use fast_image_resize as fir;
use multiversion::multiversion;
use num_integer::gcd;

use super::Plane;

/// Scales to `side` x `side` pixels: area averaging where neither side grows, else bilinear (with
/// its support widened along a side that shrinks). The aspect is not kept: the data is square, and
/// an image that is not must fill the same frame in all four channels.
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
/// even. Rounding after each direction, as resizers of 8-bit images do, would brighten the dark
/// images of this data by a percent.
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

    /// Appends the new rows of a whole number of [bands](Self::band) to `out`.
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
        let divisor = gcd(old, new);
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
mod tests {
    use super::*;

    #[test]
    fn shrinking_averages_areas() {
        // Against the plain mean where sides divide, and over a fine grid of points where they do
        // not.
        let usual = [(64, 32, 32), (64, 32, 16), (64, 32, 8), (64, 32, 24), (288, 96, 96)];
        for (width, height, side) in
            [(160, 80, 40), (54, 40, 16), (17, 16, 16), (150, 131, 77)].into_iter().chain(usual)
        {
            let pixels = (0..width * height).map(|i| ((i * i) >> 5) as u8).collect();
            let plane = Plane { width, height, pixels };
            let small = resize(&plane, side);
            for (i, &got) in small.pixels.iter().enumerate() {
                let (x, y) = (i % side * width, i / side * height);
                let grid = (0..width * height).map(|k| (x + k % width, y + k / width));
                let mean = grid
                    .map(|(x, y)| f64::from(plane.pixels[y / side * width + x / side]))
                    .sum::<f64>()
                    / (width * height) as f64;
                let want = mean.round_ties_even() as u8;
                assert_eq!(got, want, "{width}x{height} to {side}, pixel {i}: {mean}");
            }
            assert_eq!(resize(&small, side), small);
            let (mean, mut in_bands) = (AreaMean::new(width, height, side).unwrap(), Vec::new());
            assert_eq!(mean.band() % mean.down.old, 0);
            plane
                .pixels
                .chunks(mean.down.old * width)
                .for_each(|rows| mean.rows(rows, &mut in_bands));
            assert!(in_bands == small.pixels, "{width}x{height} to {side}");
        }
    }

    #[test]
    fn wider_numbers_give_the_same_means() {
        let pixels = (0..40 * 24).map(|i| ((i % 40 * 7) ^ (i / 40 * 3)) as u8).collect();
        let plane = Plane { width: 40, height: 24, pixels };
        let (mean, mut made) = (AreaMean::new(40, 24, 15).unwrap(), [const { Vec::new() }; 3]);
        average::<u16>(&mean, &plane.pixels, &mut made[0]);
        average::<u32>(&mean, &plane.pixels, &mut made[1]);
        average::<u64>(&mean, &plane.pixels, &mut made[2]);
        assert!(made[0].len() == 15 * 15 && made[0] == made[1] && made[1] == made[2]);
    }

    #[test]
    fn enlarging_interpolates() {
        let ramp =
            Plane { width: 8, height: 8, pixels: (0..64).map(|i| (i % 8 * 30) as u8).collect() };
        let large = resize(&ramp, 32);
        for (x, &got) in large.pixels[..32].iter().enumerate() {
            let at = ((x as f64 + 0.5) / 4.0 - 0.5).clamp(0.0, 7.0);
            assert!((f64::from(got) - at * 30.0).abs() <= 1.0, "{x}: {got}");
        }
    }
}
