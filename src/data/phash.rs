//! Perceptual hashes, bit for bit those of Python's `imagehash` 4.3.2 on Pillow 13.
//!
//! Both resize with Pillow's Lanczos filter first. [`phash`]: to 32x32, two-dimensional DCT-II, the
//! 8x8 lowest frequencies, DC included, each bit "above their median". [`ahash`]: to 8x8, each bit
//! "above the mean". The most significant bit is the upper left one.
//!
//! Samples are hashed by channel, from the decoded image, before it is resized for the
//! shard, so that the hashes do not depend on `preprocess.size`.

use std::sync::LazyLock;

use crate::data::image::{Plane, luma};

mod lanczos;

use lanczos::Resize;

const SIDE: usize = 32;
const LOW: usize = 8;

/// The DCT hash of a channel whose rows come some at a time.
pub struct Phash(Resize);

impl Phash {
    pub fn new(width: usize, height: usize) -> Self {
        Self(Resize::new(width, height, SIDE))
    }

    /// Takes the next rows, from the top.
    pub fn push(&mut self, rows: &[u8]) {
        self.0.push(rows);
    }

    /// The hash, after all rows.
    pub fn finish(self) -> u64 {
        of(&self.0.finish())
    }
}

/// The DCT hash of one channel.
pub fn phash(plane: &Plane) -> u64 {
    of(&resized(plane, SIDE))
}

fn resized(plane: &Plane, side: usize) -> Vec<u8> {
    let mut resize = Resize::new(plane.width, plane.height, side);
    resize.push(&plane.pixels);
    resize.finish()
}

/// The hash of a resized channel.
fn of(small: &[u8]) -> u64 {
    // Along the columns first, then along the rows, as imagehash does; only the low frequencies are
    // needed.
    let mut columns = [[0.0; SIDE]; LOW];
    for x in 0..SIDE {
        let line: [f64; SIDE] = std::array::from_fn(|y| f64::from(small[y * SIDE + x]));
        for (row, value) in columns.iter_mut().zip(dct(line)) {
            row[x] = value;
        }
    }
    let low: [[f64; LOW]; LOW] = columns.map(dct);
    let flat: [f64; LOW * LOW] = std::array::from_fn(|i| low[i / LOW][i % LOW]);
    let mut sorted = flat;
    sorted.sort_unstable_by(f64::total_cmp);
    let median = (sorted[31] + sorted[32]) / 2.0;
    bits(flat.iter().map(|&v| v > median))
}

/// The average hash of one channel.
pub fn ahash(plane: &Plane) -> u64 {
    let small = resized(plane, LOW);
    let sum: u32 = small.iter().map(|&v| u32::from(v)).sum();
    bits(small.iter().map(|&v| u32::from(v) * 64 > sum))
}

/// What the original hashed: red, green and blue as one colour image turned to gray; yellow, its
/// alpha, has no influence. `None` where the planes differ in size.
pub fn composite([red, green, blue]: [&Plane; 3]) -> Option<Plane> {
    let same = |p: &Plane| (p.width, p.height) == (red.width, red.height);
    (same(green) && same(blue)).then(|| Plane {
        width: red.width,
        height: red.height,
        pixels: red
            .pixels
            .iter()
            .zip(&green.pixels)
            .zip(&blue.pixels)
            .map(|((&r, &g), &b)| luma(r, g, b))
            .collect(),
    })
}

fn bits(it: impl Iterator<Item = bool>) -> u64 {
    it.fold(0, |hash, bit| hash << 1 | u64::from(bit))
}

/// `cos(pi k (2 i + 1) / 2 n)` for the odd k below 8 of a transform of length n, at `[level][k /
/// 2][i]`; the level is the number of times that the length was halved.
static COSINES: LazyLock<[[[f64; SIDE / 2]; LOW / 2]; 3]> = LazyLock::new(|| {
    std::array::from_fn(|level| {
        let n = (SIDE >> level) as f64;
        std::array::from_fn(|m| {
            std::array::from_fn(|i| {
                (std::f64::consts::PI * (2 * m + 1) as f64 * (2 * i + 1) as f64 / (2.0 * n)).cos()
            })
        })
    })
});

/// The first 8 coefficients of the unnormalised DCT-II, `2 sum x_i cos(pi k (2 i + 1) / 64)`.
/// Folding gives the even ones as a transform of half the length; what is symmetric gives exact
/// zeros, as an FFT does, so that blank images have equal hashes.
fn dct(line: [f64; SIDE]) -> [f64; LOW] {
    let mut out = [0.0; LOW];
    let mut x = line;
    let mut n = SIDE;
    // Level l yields the coefficients 2^l, 3 2^l, 5 2^l, ...
    for (level, cosines) in COSINES.iter().enumerate() {
        let half = n / 2;
        let difference: [f64; SIDE / 2] =
            std::array::from_fn(|i| if i < half { x[i] - x[n - 1 - i] } else { 0.0 });
        for (m, cosines) in cosines.iter().enumerate() {
            let k = (2 * m + 1) << level;
            if k < LOW {
                out[k] = 2.0 * (0..half).map(|i| difference[i] * cosines[i]).sum::<f64>();
            }
        }
        for i in 0..half {
            x[i] += x[n - 1 - i];
        }
        n = half;
    }
    out[0] = 2.0 * x[..n].iter().sum::<f64>();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_the_plain_sum() {
        let line: [f64; SIDE] = std::array::from_fn(|i| ((i * i * 7 + 3 * i) % 256) as f64);
        for (k, got) in dct(line).into_iter().enumerate() {
            let angle = |i: usize| std::f64::consts::PI * k as f64 * (2 * i + 1) as f64 / 64.0;
            let want = 2.0 * line.iter().enumerate().map(|(i, x)| x * angle(i).cos()).sum::<f64>();
            assert!((got - want).abs() < 1e-9, "{k}: {got} {want}");
        }
        // A blank line has no frequencies, not even rounding errors.
        assert_eq!(dct([7.0; SIDE])[1..], [0.0; 7]);
    }
}
