//! Pillow's resize of 8-bit gray pictures with the Lanczos filter, bit for bit (libImaging/Resample.c): coefficients in
//! fixed point with 22 bits, rows first, rounded and clipped to 8 bits after each pass.

use std::{cell::RefCell, rc::Rc};

use multiversion::multiversion;

use crate::image::Plane;

const PRECISION: u32 = 32 - 8 - 2;
const SUPPORT: f64 = 3.0;

/// The source pixels of one target pixel: where they start, and their weights times 2^22.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Windows whose weighted sums are plain sums of products of 16-bit numbers, of which a processor takes the most at a time. A
/// pixel less 128 is signed as they are; weights beyond 16 bits, as they stand in the middle of a window, are split as
/// `256 * high + low`.
struct Packed {
    low: Products,
    high: Products,
    /// By window, what the shift of the pixels took from its sum.
    shifts: Vec<i32>,
}

/// The same number of products for every window.
struct Products {
    /// Per window, some [`BLOCK`]s.
    taps: usize,
    /// [`taps`](Self::taps) per window, with zeros where it has fewer.
    weights: Vec<i16>,
    /// By window, the first pixel that it is multiplied with, a multiple of [`ALIGN`].
    starts: Vec<usize>,
}

/// Products that compile without a loop.
const BLOCK: usize = 64;
/// 16 bytes, as far as memory is aligned.
const ALIGN: usize = 8;

impl Packed {
    fn new(windows: &[Window]) -> Self {
        let fits = |w: i32| i16::try_from(w).ok();
        Self {
            low: Products::new(windows, |w| fits(w).unwrap_or((w & 0xff) as i16)),
            high: Products::new(windows, |w| if fits(w).is_some() { 0 } else { (w >> 8) as i16 }),
            shifts: windows.iter().map(|w| 128 * w.weights.iter().sum::<i32>()).collect(),
        }
    }
}

impl Products {
    fn new(windows: &[Window], part: impl Fn(i32) -> i16) -> Self {
        let parts = |w: &Window| -> (usize, Vec<i16>) {
            let all: Vec<i16> = w.weights.iter().map(|&w| part(w)).collect();
            let used = |i: &usize| all[*i] != 0;
            let (first, last) = ((0..all.len()).find(used).unwrap_or(0), (0..all.len()).rfind(used).map_or(0, |i| i + 1));
            (w.start + first, all[first..last.max(first)].to_vec())
        };
        let parts: Vec<_> = windows.iter().map(parts).collect();
        let taps = parts.iter().map(|(start, part)| start % ALIGN + part.len()).max().unwrap_or(0).next_multiple_of(BLOCK);
        let mut weights = vec![0; parts.len() * taps];
        for (i, (start, part)) in parts.iter().enumerate() {
            weights[i * taps + start % ALIGN..][..part.len()].copy_from_slice(part);
        }
        Self { taps, weights, starts: parts.iter().map(|(start, _)| start / ALIGN * ALIGN).collect() }
    }

    /// The sum of window `i`.
    #[inline(always)]
    fn sum(&self, i: usize, pixels: &[i16]) -> i32 {
        let (weights, pixels) = (&self.weights[i * self.taps..][..self.taps], &pixels[self.starts[i]..][..self.taps]);
        let mut sum = 0;
        for (weights, pixels) in weights.as_chunks().0.iter().zip(pixels.as_chunks().0) {
            sum += dot(weights, pixels);
        }
        sum
    }
}

/// A function that is always inlined: the closure of an iterator need not be compiled for the processor as `across_by` is.
#[inline(always)]
fn dot(a: &[i16; BLOCK], b: &[i16; BLOCK]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Resizes to `side` x `side`, row by row. A pass that would not change the size is skipped, as in Pillow.
pub(super) fn resize(plane: &Plane, side: usize) -> Vec<u8> {
    let (width, height) = (plane.width, plane.height);
    // Since version 13, Pillow shrinks the height first where that takes away more than twice what the width loses.
    if height > side && height + side > 2 * width {
        let flat = down(&plane.pixels, width, height, side);
        return across(&flat, width, side);
    }
    let narrow = across(&plane.pixels, width, side);
    down(&narrow, side, height, side)
}

/// Resizes each row from `width` to `side` pixels.
fn across(pixels: &[u8], width: usize, side: usize) -> Vec<u8> {
    if width == side {
        return pixels.to_vec();
    }
    across_by(pixels, width, &kept(width, side).1)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn across_by(pixels: &[u8], width: usize, Packed { low, high, shifts }: &Packed) -> Vec<u8> {
    let mut out = vec![0; pixels.len() / width * shifts.len()];
    let mut shifted = vec![0; width + low.taps.max(high.taps)];
    for (row, out) in pixels.chunks_exact(width).zip(out.chunks_exact_mut(shifts.len())) {
        shifted.iter_mut().zip(row).for_each(|(shifted, &p)| *shifted = i16::from(p) - 128);
        for (i, (out, shift)) in out.iter_mut().zip(shifts).enumerate() {
            *out = round((high.sum(i, &shifted) << 8) + low.sum(i, &shifted) + shift);
        }
    }
    out
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

#[inline(always)]
fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// From and to how many pixels, and the windows.
type Kept = (usize, usize, Rc<(Vec<Window>, Packed)>);

thread_local! {
    /// The last windows made: pictures of one size follow each other, and the sines take longer than the sums.
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

fn kept(from: usize, to: usize) -> Rc<(Vec<Window>, Packed)> {
    LAST.with_borrow_mut(|last| match last {
        Some((a, b, windows)) if (*a, *b) == (from, to) => windows.clone(),
        _ => {
            let windows = windows(from, to);
            let packed = Packed::new(&windows);
            last.insert((from, to, Rc::new((windows, packed)))).2.clone()
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
