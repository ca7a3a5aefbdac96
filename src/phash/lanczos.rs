//! Pillow's resize of 8-bit gray pictures with the Lanczos filter, bit for bit (libImaging/Resample.c): coefficients in
//! fixed point with 22 bits, rows first, rounded and clipped to 8 bits after each pass.

use std::{cell::RefCell, rc::Rc};

use multiversion::multiversion;

use crate::image::Plane;

const PRECISION: u32 = 32 - 8 - 2;
const SUPPORT: f64 = 3.0;

/// The source pixels of one target pixel: where they start and their weights, each as `high * 2^SPLIT + low`, so that they can
/// be multiplied as 16-bit numbers, of which a processor takes the most at a time.
struct Window {
    start: usize,
    high: Vec<i16>,
    low: Vec<i16>,
}

const SPLIT: u32 = 11;

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
    across_by(pixels, width, &windows(width, side))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn across_by(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / width * windows.len());
    let mut wide = vec![0i16; width];
    for row in pixels.chunks_exact(width) {
        wide.iter_mut().zip(row).for_each(|(wide, &p)| *wide = i16::from(p));
        for Window { start, high, low } in windows {
            let pixels = &wide[*start..];
            out.push(round((dot(high, pixels) << SPLIT) + dot(low, pixels)));
        }
    }
    out
}

#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Resizes each column from `height` to `side` pixels.
fn down(pixels: &[u8], width: usize, height: usize, side: usize) -> Vec<u8> {
    if height == side {
        return pixels.to_vec();
    }
    down_by(pixels, width, &windows(height, side))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn down_by(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(windows.len() * width);
    let mut sums = vec![0i32; width];
    for window in windows {
        sums.fill(0);
        let rows = pixels[window.start * width..].chunks_exact(width);
        for ((&high, &low), row) in window.high.iter().zip(&window.low).zip(rows) {
            let k = (i32::from(high) << SPLIT) + i32::from(low);
            for (sum, &p) in sums.iter_mut().zip(row) {
                *sum += k * i32::from(p);
            }
        }
        out.extend(sums.iter().map(|&s| round(s)));
    }
    out
}

#[inline(always)]
fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

thread_local! {
    /// The last windows made, from and to how many pixels: pictures of one size follow each other, and the sines take longer
    /// than the sums.
    static LAST: RefCell<(usize, usize, Rc<[Window]>)> = RefCell::new((0, 0, Rc::new([])));
}

fn windows(from: usize, to: usize) -> Rc<[Window]> {
    LAST.with_borrow_mut(|last| {
        if (last.0, last.1) != (from, to) {
            *last = (from, to, new_windows(from, to));
        }
        last.2.clone()
    })
}

/// `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow.
fn new_windows(from: usize, to: usize) -> Rc<[Window]> {
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
        let parts = |w: f64| ((fixed(w) >> SPLIT) as i16, (fixed(w) & ((1 << SPLIT) - 1)) as i16);
        let (high, low) = weights.into_iter().map(parts).unzip();
        Window { start, high, low }
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
