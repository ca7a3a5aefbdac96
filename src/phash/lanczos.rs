//! Pillow's resize of 8-bit gray pictures with the Lanczos filter, bit for bit (libImaging/Resample.c): coefficients in
//! fixed point with 22 bits, rows first, rounded and clipped to 8 bits after each pass.

use crate::image::Plane;

const PRECISION: u32 = 32 - 8 - 2;
const SUPPORT: f64 = 3.0;

/// The source pixels of one target pixel: where they start and their weights.
struct Window {
    start: usize,
    weights: Vec<i32>,
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
    let windows = windows(width, side);
    let line = |row: &[u8]| {
        let sums = windows.iter().map(|w| w.weights.iter().zip(&row[w.start..]).map(|(&k, &p)| k * i32::from(p)).sum());
        sums.map(round).collect::<Vec<u8>>()
    };
    pixels.chunks_exact(width).flat_map(line).collect()
}

/// Resizes each column from `height` to `side` pixels.
fn down(pixels: &[u8], width: usize, height: usize, side: usize) -> Vec<u8> {
    if height == side {
        return pixels.to_vec();
    }
    let mut out = Vec::with_capacity(side * width);
    let mut sums = vec![0i32; width];
    for window in windows(height, side) {
        sums.fill(0);
        for (&k, row) in window.weights.iter().zip(pixels[window.start * width..].chunks_exact(width)) {
            for (sum, &p) in sums.iter_mut().zip(row) {
                *sum += k * i32::from(p);
            }
        }
        out.extend(sums.iter().map(|&s| round(s)));
    }
    out
}

fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
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
