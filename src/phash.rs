//! Perceptual hashes, bit-identical to Python's `imagehash` 4.3 with Pillow's `resize(LANCZOS)`.

use std::{f64::consts::PI, sync::LazyLock};

use crate::image::{Plane, luma};

/// Side of the image whose DCT is taken (hash size 8 times `highfreq_factor` 4) and of the hash.
const SIDE: usize = 32;
const BITS: usize = 8;

/// `imagehash.phash`: 32x32 Lanczos, DCT-II, the 8x8 lowest frequencies above their median; row by row from the highest bit.
pub fn phash(plane: &Plane) -> u64 {
    let small = lanczos(plane, SIDE);
    let cosines = &*COSINES;
    // Over rows first, as scipy's axis 0, then along them.
    let mut columns = [[0f64; SIDE]; BITS];
    for (k, row) in columns.iter_mut().enumerate() {
        for (x, out) in row.iter_mut().enumerate() {
            *out = (0..SIDE).map(|y| f64::from(small[y * SIDE + x]) * cosines[k][y]).sum();
        }
    }
    let mut low = [0f64; BITS * BITS];
    for (i, out) in low.iter_mut().enumerate() {
        *out = (0..SIDE).map(|x| columns[i / BITS][x] * cosines[i % BITS][x]).sum();
    }
    let mut sorted = low;
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[31] + sorted[32]) / 2.0;
    bits(low.iter().map(|&v| v > median))
}

/// `imagehash.average_hash`: 8x8 Lanczos, above the mean.
pub fn ahash(plane: &Plane) -> u64 {
    let small = lanczos(plane, BITS);
    let mean = small.iter().map(|&v| f64::from(v)).sum::<f64>() / (BITS * BITS) as f64;
    bits(small.iter().map(|&v| f64::from(v) > mean))
}

/// The original's hash of a sample: its four planes taken as a PIL RGBA image, so that only the luma of R, G, B counts.
/// The planes must be of one size.
pub fn stack(planes: &[Plane; 4]) -> Option<u64> {
    let [r, g, b, _] = planes;
    let same = planes.iter().all(|p| (p.width, p.height) == (r.width, r.height));
    same.then(|| {
        let pixels = r.pixels.iter().zip(&g.pixels).zip(&b.pixels).map(|((&r, &g), &b)| luma(r, g, b)).collect();
        phash(&Plane { width: r.width, height: r.height, pixels })
    })
}

fn bits(values: impl Iterator<Item = bool>) -> u64 {
    values.fold(0, |hash, bit| hash << 1 | u64::from(bit))
}

static COSINES: LazyLock<[[f64; SIDE]; BITS]> =
    LazyLock::new(|| std::array::from_fn(|k| std::array::from_fn(|n| 2.0 * (PI * k as f64 * (2 * n + 1) as f64 / (2 * SIDE) as f64).cos())));

/// Pillow's precision of filter coefficients in bits (32 - 8 - 2).
const PRECISION: u32 = 22;

/// `Image.resize((side, side), LANCZOS)` of an 8-bit image, with Pillow's fixed-point arithmetic: along rows first, then
/// along columns, each pass rounded to 8 bit.
fn lanczos(plane: &Plane, side: usize) -> Vec<u8> {
    let horizontal = coefficients(plane.width, side);
    let vertical = coefficients(plane.height, side);
    let mut rows = vec![0u8; plane.height * side];
    for (source, target) in plane.pixels.chunks_exact(plane.width).zip(rows.chunks_exact_mut(side)) {
        for ((from, weights), out) in horizontal.iter().zip(target) {
            *out = weighted(source[*from..].iter(), weights);
        }
    }
    let mut out = vec![0u8; side * side];
    for ((from, weights), target) in vertical.iter().zip(out.chunks_exact_mut(side)) {
        for (x, out) in target.iter_mut().enumerate() {
            *out = weighted(rows[from * side + x..].iter().step_by(side), weights);
        }
    }
    out
}

fn weighted<'a>(pixels: impl Iterator<Item = &'a u8>, weights: &[i32]) -> u8 {
    let sum: i32 = pixels.zip(weights).map(|(&p, &w)| i32::from(p) * w).sum();
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// Per output pixel the first input pixel and the weights (Pillow's `precompute_coeffs`, `normalize_coeffs_8bpc`).
fn coefficients(from: usize, to: usize) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 3.0 * stretch;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..last).map(|x| kernel((x as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |w: &f64| {
                let w = w / sum * f64::from(1u32 << PRECISION);
                (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
            };
            (first, weights.iter().map(fixed).collect())
        })
        .collect()
}

fn kernel(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns that tests/golden/phash.py makes too.
    fn pattern(width: usize, height: usize, seed: usize) -> Plane {
        let at = |x: usize, y: usize| ((x * x * (seed + 1) + y * (3 * seed + 5) + (x * y) / (seed + 2)) % 251) as u8;
        Plane { width, height, pixels: (0..width * height).map(|i| at(i % width, i / width)).collect() }
    }

    #[test]
    fn every_bit_equals_imagehash() {
        let golden = include_str!("../tests/golden/phash.csv");
        let mut rows = 0;
        for line in golden.lines().skip(1) {
            let f: Vec<&str> = line.split(',').collect();
            let n = |i: usize| f[i].parse::<usize>().unwrap();
            let plane = pattern(n(0), n(1), n(2));
            assert_eq!(format!("{:016x} {:016x}", phash(&plane), ahash(&plane)), format!("{} {}", f[3], f[4]), "{line}");
            rows += 1;
        }
        assert!(rows >= 20);
    }
}
