//! Random affine and elastic distortion (Simard, Steinkraus and Platt 2003), as one bilinear lookup
//! per pixel.

mod fixed_point;
mod line;

use rand::{Rng as _, RngExt};

use crate::base::rng::Rng;
use fixed_point::{FRACTION, bilinear};
use line::line;

/// A map from (x, y) of the output to (x, y) of the input: `x' = m[0] x + m[1] y + m[2]`, `y' =
/// m[3] x + m[4] y + m[5]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine([f64; 6]);

impl Affine {
    /// The inverse of the affine map that moves three points of an image of `side` pixels, its
    /// centre plus and minus a third of the side, by `jitter` (x, y) pixels each.
    pub fn from_jitter(side: usize, jitter: [[f64; 2]; 3]) -> Self {
        let (centre, reach) = ((side / 2) as f64, (side / 3) as f64);
        let points = [
            [centre + reach, centre + reach],
            [centre + reach, centre - reach],
            [centre - reach, centre - reach],
        ];
        let moved: [[f64; 2]; 3] =
            std::array::from_fn(|i| [points[i][0] + jitter[i][0], points[i][1] + jitter[i][1]]);
        let ([a, b, c], mut m) = (moved, [0.0; 6]);
        let (ab, ac) = ([b[0] - a[0], b[1] - a[1]], [c[0] - a[0], c[1] - a[1]]);
        let determinant = ab[0] * ac[1] - ab[1] * ac[0];
        // If jitter moves the points onto a line, the map has no inverse; every pixel then shows
        // the same point.
        let scale = if determinant == 0.0 { 0.0 } else { determinant.recip() };
        for axis in 0..2 {
            let (to, from) = (&mut m[3 * axis..], points.map(|p| p[axis]));
            let (db, dc) = (from[1] - from[0], from[2] - from[0]);
            to[0] = (db * ac[1] - dc * ab[1]) * scale;
            to[1] = (dc * ab[0] - db * ac[0]) * scale;
            to[2] = from[0] - to[0] * a[0] - to[1] * a[1];
        }
        Self(m)
    }
}

/// Displacement of the place that each output pixel shows, in pixels: x then y, each `[side,
/// side]`.
pub type Shift = [Vec<f32>; 2];

/// Noise U(-1, 1), smoothed by a Gaussian of `sigma` pixels and multiplied by `alpha`.
pub fn random_shift(rng: &mut Rng, side: usize, sigma: f64, alpha: f64) -> Shift {
    [(); 2].map(|()| {
        // The upper 24 bits are all that a float holds.
        let noise = (0..side * side)
            .map(|_| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        smooth(noise, side, sigma, alpha)
    })
}

/// Gaussian filter over both axes, cut off at four sigma, the image mirrored with its edge
/// repeated; times `alpha`.
fn smooth(mut field: Vec<f32>, side: usize, sigma: f64, alpha: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as isize;
    let taps: Vec<f64> =
        (-radius..=radius).map(|k| (-0.5 * (k as f64 / sigma).powi(2)).exp()).collect();
    let total: f64 = taps.iter().sum();
    if radius > 0 {
        for _ in 0..2 {
            // Filters the columns, whole rows at a time, and writes them as rows: the second pass
            // filters the other axis.
            let mut turned = vec![0.0; field.len()];
            let mut sum = vec![0.0f32; side];
            for row in 0..side {
                sum.fill(0.0);
                for (k, tap) in (-radius..=radius).zip(&taps) {
                    let from = mirror(row as isize + k, side) * side;
                    let tap = (tap / total) as f32;
                    sum.iter_mut().zip(&field[from..from + side]).for_each(|(s, x)| *s += tap * x);
                }
                sum.iter().enumerate().for_each(|(column, s)| turned[column * side + row] = *s);
            }
            field = turned;
        }
    }
    field.iter_mut().for_each(|x| *x *= alpha as f32);
    field
}

/// `... b a | a b c | c b ...`
fn mirror(i: isize, n: usize) -> usize {
    let at = i.rem_euclid(2 * n as isize) as usize;
    at.min(2 * n - 1 - at)
}

/// Fills `out` with `image` (both `[side, side]`) at the places that `shift` and then `map` give,
/// bilinear (to 1/256 of a pixel), mirrored at the edges without repeating them.
pub fn warp(
    image: &[[u8; 4]],
    side: usize,
    map: Affine,
    shift: Option<&Shift>,
    out: &mut [[u8; 4]],
) {
    assert!(image.len() == side * side && out.len() == side * side);
    // Casts saturate and sums wrap: extreme maps give places far outside, which are mirrored into
    // the image as well.
    let fixed = |v: f64| (v * (1u64 << FRACTION) as f64) as i64;
    let m = map.0;
    let step = [fixed(m[0]), fixed(m[3])];
    for (row, out) in out.chunks_exact_mut(side).enumerate() {
        let y = row as f64;
        match shift {
            None => line(image, side, [fixed(m[1] * y + m[2]), fixed(m[4] * y + m[5])], step, out),
            Some([dx, dy]) => {
                let aside = dx[row * side..].iter().zip(&dy[row * side..]);
                for ((pixel, column), (dx, dy)) in out.iter_mut().zip(0u32..).zip(aside) {
                    let (x, y) = (f64::from(column) + f64::from(*dx), y + f64::from(*dy));
                    *pixel = bilinear(
                        image,
                        side,
                        fixed(m[0] * x + m[1] * y + m[2]),
                        fixed(m[3] * x + m[4] * y + m[5]),
                    );
                }
            }
        }
    }
}

/// Three jitters U(-limit, limit) in pixels, (x, y) each.
pub fn random_jitter(rng: &mut Rng, limit: f64) -> [[f64; 2]; 3] {
    [(); 3].map(|()| [(); 2].map(|()| (2.0 * rng.random::<f64>() - 1.0) * limit))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{fixed_point::after, line::RUN, *};
    use crate::base::rng::{Use, stream};

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/feed.json")).unwrap()
    }

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    }

    fn pixels(value: &Value) -> Vec<[u8; 4]> {
        let flat: Vec<u8> = floats(value).iter().map(|&v| v as u8).collect();
        flat.as_chunks().0.to_vec()
    }

    fn assert_close(got: &[[u8; 4]], want: &[[u8; 4]], levels: u8) {
        let worst =
            got.as_flattened().iter().zip(want.as_flattened()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.unwrap() <= levels, "worst difference {worst:?}");
    }

    #[test]
    fn affine_equals_opencv() {
        let golden = golden();
        let (side, image) = (golden["side"].as_u64().unwrap() as usize, pixels(&golden["image"]));
        for case in golden["affine"].as_array().unwrap() {
            let jitter = std::array::from_fn(|i| {
                std::array::from_fn(|j| case["jitter"][i][j].as_f64().unwrap())
            });
            let mut out = vec![[0; 4]; side * side];
            warp(&image, side, Affine::from_jitter(side, jitter), None, &mut out);
            assert_close(&out, &pixels(&case["warped"]), 2);
        }
    }

    #[test]
    fn shift_equals_scipy_and_opencv() {
        let golden = golden();
        let (side, image) = (golden["side"].as_u64().unwrap() as usize, pixels(&golden["image"]));
        let (sigma, alpha) = (golden["sigma"].as_f64().unwrap(), golden["alpha"].as_f64().unwrap());
        let shift: Shift =
            std::array::from_fn(|i| smooth(floats(&golden["noise"][i]), side, sigma, alpha));
        for (got, want) in shift.iter().zip([0, 1].map(|i| floats(&golden["shift"][i]))) {
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4));
        }
        let mut out = vec![[0; 4]; side * side];
        warp(&image, side, Affine::from_jitter(side, [[0.0; 2]; 3]), Some(&shift), &mut out);
        assert_close(&out, &pixels(&golden["bent"]), 2);
    }

    #[test]
    fn random_numbers_fill_their_ranges() {
        let mut rng = stream(Use::Augment, 1, 2, 3);
        let [dx, dy] = random_shift(&mut rng, 64, 0.0, 2.0);
        assert_ne!(dx, dy);
        let (low, high) = dx.iter().fold((0f32, 0f32), |(l, h), &v| (l.min(v), h.max(v)));
        assert!((-2.0..-1.99).contains(&low) && (1.99..2.0).contains(&high), "{low} to {high}");
        let mean = dx.iter().sum::<f32>() / 4096.0;
        assert!(mean.abs() < 0.1, "{mean}");
        assert!(
            (0..100).flat_map(|_| random_jitter(&mut rng, 5.0)).flatten().all(|v| v.abs() <= 5.0)
        );
    }

    #[test]
    fn runs_of_pixels_equal_one_after_the_other() {
        let side = 5 * RUN + 9;
        let image: Vec<[u8; 4]> = (0..(side * side) as u32)
            .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        for seed in 0..6 {
            let map = Affine::from_jitter(
                side,
                random_jitter(&mut stream(Use::Augment, 1, seed, 3), 4.0 * (seed as f64).powi(2)),
            );
            let mut out = vec![[0; 4]; side * side];
            warp(&image, side, map, None, &mut out);
            let m = map.0.map(|v| (v * (1u64 << FRACTION) as f64) as i64);
            for (row, out) in out.chunks_exact(side).enumerate() {
                let place = [1, 4].map(|i| {
                    ((map.0[i] * row as f64 + map.0[i + 1]) * (1u64 << FRACTION) as f64) as i64
                });
                for (column, got) in out.iter().enumerate() {
                    let [x, y] = after(place, [m[0], m[3]], column);
                    let want = bilinear(&image, side, x, y);
                    assert_eq!(*got, want, "seed {seed}, row {row}, column {column}");
                }
            }
        }
    }

    #[test]
    fn absurd_maps_stay_inside_the_image() {
        let image = [[1; 4], [2; 4], [3; 4], [4; 4]];
        for map in [[1e300, 0.0, 0.0, 0.0, -1e300, 0.0], [0.0; 6], [f64::NAN; 6]] {
            let mut out = [[9; 4]; 4];
            warp(&image, 2, Affine(map), None, &mut out);
            assert_eq!(out[0], [1; 4]);
            assert!(out.iter().all(|p| (1..=4).contains(&p[0])));
        }
    }
}
