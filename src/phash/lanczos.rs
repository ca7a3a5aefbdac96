//! Pillow's resize of 8-bit gray pictures with the Lanczos filter, bit for bit (libImaging/Resample.c): coefficients in
//! fixed point with 22 bits, rows first, rounded and clipped to 8 bits after each pass.

use std::{cell::RefCell, rc::Rc};

use multiversion::multiversion;

const PRECISION: u32 = 32 - 8 - 2;
const SUPPORT: f64 = 3.0;

/// The source pixels of one target pixel: where they start, and their weights times 2^22.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Windows for sums of products of 16-bit numbers, of which a processor takes the most at a time: a pixel less 128 is signed as
/// they are, and of a weight only the upper 16 bits are taken. Where what is missing might change the result, the sum is made
/// again in full: once or twice in a hundred times.
struct Rough {
    /// What a weight was divided by, as a power of two.
    exponent: u32,
    /// Numbers per window, some [`BLOCK`]s.
    taps: usize,
    /// [`taps`](Self::taps) per window, with zeros where it has fewer.
    weights: Vec<i16>,
    /// By window, what the shift of the pixels took from its sum, and how far the sum can be off.
    shifts: Vec<(i32, i32)>,
}

/// Products that compile without a loop: those of a window of 512 pixels to 32.
const BLOCK: usize = 96;

impl Rough {
    fn new(windows: &[Window]) -> Self {
        let all = || windows.iter().flat_map(|w| &w.weights);
        let rounded = |w: i32, exponent: u32| (w + ((1 << exponent) >> 1)) >> exponent;
        let fits = |exponent: &u32| all().all(|&w| i16::try_from(rounded(w, *exponent)).is_ok());
        let exponent = (0..16).find(fits).unwrap_or(16);
        let taps = windows.iter().map(|w| w.weights.len()).max().unwrap_or(0).next_multiple_of(BLOCK);
        let mut weights = vec![0; windows.len() * taps];
        let mut shifts = Vec::new();
        for (window, to) in windows.iter().zip(weights.chunks_exact_mut(taps)) {
            let (mut total, mut error) = (0, 0);
            for (to, &w) in to.iter_mut().zip(&window.weights) {
                *to = rounded(w, exponent) as i16;
                total += w;
                error += (w - (i32::from(*to) << exponent)).abs();
            }
            shifts.push((128 * total, 128 * error));
        }
        Self { exponent, taps, weights, shifts }
    }
}

/// A picture on its way to `side` x `side`. A pass that would not change the size is skipped, as in Pillow.
pub(super) struct Resize {
    width: usize,
    height: usize,
    side: usize,
    /// What came in, resized along the rows unless that is to be done last.
    rows: Vec<u8>,
}

impl Resize {
    pub fn new(width: usize, height: usize, side: usize) -> Self {
        Self { width, height, side, rows: Vec::new() }
    }

    /// Since version 13, Pillow shrinks the height first where that takes away more than twice what the width loses.
    fn down_first(&self) -> bool {
        self.height > self.side && self.height + self.side > 2 * self.width
    }

    /// Takes the next rows, from the top.
    pub fn push(&mut self, rows: &[u8]) {
        if self.down_first() {
            self.rows.extend(rows);
        } else {
            across(rows, self.width, self.side, &mut self.rows);
        }
    }

    /// The resized picture, after all rows.
    pub fn finish(self) -> Vec<u8> {
        if !self.down_first() {
            return down(&self.rows, self.side, self.height, self.side);
        }
        let (flat, mut out) = (down(&self.rows, self.width, self.height, self.side), Vec::new());
        across(&flat, self.width, self.side, &mut out);
        out
    }
}

/// Resizes each row from `width` to `side` pixels, behind what `out` has.
fn across(pixels: &[u8], width: usize, side: usize, out: &mut Vec<u8>) {
    if width == side {
        return out.extend(pixels);
    }
    let kept = kept(width, side);
    across_by(pixels, width, &kept.0, &kept.1, out);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn across_by(pixels: &[u8], width: usize, windows: &[Window], rough: &Rough, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + pixels.len() / width * windows.len(), 0);
    let mut shifted = vec![0; width + rough.taps];
    for (row, out) in pixels.chunks_exact(width).zip(out[at..].chunks_exact_mut(windows.len())) {
        shifted.iter_mut().zip(row).for_each(|(shifted, &p)| *shifted = i16::from(p) - 128);
        let windows = windows.iter().zip(&rough.shifts).zip(rough.weights.chunks_exact(rough.taps));
        for (out, ((window, (shift, error)), weights)) in out.iter_mut().zip(windows) {
            let sum = (dot(weights, &shifted[window.start..][..rough.taps]) << rough.exponent) + shift;
            let (least, most) = (round(sum - error), round(sum + error));
            *out = if least == most { least } else { exact(window, row) };
        }
    }
}

/// Functions that are always inlined: the closure of an iterator need not be compiled for the processor as `across_by` is.
#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    let mut sum = 0;
    for (a, b) in a.as_chunks().0.iter().zip(b.as_chunks().0) {
        sum += block(a, b);
    }
    sum
}

#[inline(always)]
fn block(a: &[i16; BLOCK], b: &[i16; BLOCK]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Resizes each column from `height` to `side` pixels.
fn down(pixels: &[u8], width: usize, height: usize, side: usize) -> Vec<u8> {
    if height == side {
        return pixels.to_vec();
    }
    down_by(pixels, width, &kept(height, side).0)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn down_by(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(windows.len() * width);
    let mut sums = vec![0i32; width];
    for window in windows {
        sums.fill(0);
        for (&weight, row) in window.weights.iter().zip(pixels[window.start * width..].chunks_exact(width)) {
            sums.iter_mut().zip(row).for_each(|(sum, &p)| *sum += weight * i32::from(p));
        }
        out.extend(sums.iter().map(|&s| round(s)));
    }
    out
}

/// One pixel of a row.
#[cold]
fn exact(window: &Window, row: &[u8]) -> u8 {
    round(window.weights.iter().zip(&row[window.start..]).map(|(&w, &p)| w * i32::from(p)).sum())
}

#[inline(always)]
fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// From and to how many pixels, and the windows.
type Kept = (usize, usize, Rc<(Vec<Window>, Rough)>);

thread_local! {
    /// The last windows made: pictures of one size follow each other, and the sines take longer than the sums.
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

fn kept(from: usize, to: usize) -> Rc<(Vec<Window>, Rough)> {
    LAST.with_borrow_mut(|last| match last {
        Some((a, b, windows)) if (*a, *b) == (from, to) => windows.clone(),
        _ => {
            let windows = windows(from, to);
            let rough = Rough::new(&windows);
            last.insert((from, to, Rc::new((windows, rough)))).2.clone()
        }
    })
}

/// `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = SUPPORT * stretch;
    let window = |x: usize| {
        let center = (x as f64 + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let mut weights: Vec<f64> = (0..end - start).map(|i| lanczos(((i + start) as f64 - center + 0.5) * (1.0 / stretch))).collect();
        let total: f64 = weights.iter().sum();
        if total != 0.0 {
            weights.iter_mut().for_each(|w| *w /= total);
        }
        let fixed = |w: f64| (w * f64::from(1 << PRECISION) + if w < 0.0 { -0.5 } else { 0.5 }) as i32;
        Window { start, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

fn lanczos(x: f64) -> f64 {
    if (-SUPPORT..SUPPORT).contains(&x) { sinc(x) * sinc(x / SUPPORT) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rough sums and then exact ones where it matters give what exact ones give.
        #[test]
        fn rows_are_the_plain_sums(width in 1..700usize, side in 1..40usize, seed: u64, brightest in 1..=255u32) {
            let mut pixels = vec![0; 3 * width];
            rand::Rng::fill_bytes(&mut crate::rng::stream(crate::rng::Use::Synth, seed, 0, 0), &mut pixels);
            pixels.iter_mut().for_each(|p| *p = (u32::from(*p) * brightest / 255) as u8);
            let windows = windows(width, side);
            let plain = |row| windows.iter().map(move |window| exact(window, row));
            let want: Vec<u8> = pixels.chunks_exact(width).flat_map(plain).collect();
            let mut got = Vec::new();
            for row in pixels.chunks(width) {
                across_by(row, width, &windows, &Rough::new(&windows), &mut got);
            }
            prop_assert!(got == want);
        }
    }
}
