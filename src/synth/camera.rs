//! From painted brightness to an 8-bit plane: optics, exposure, photon and read noise.

use super::draw::{Canvas, RandomDraw};
use crate::base::rng::Rng;

/// How one channel of one image is taken.
pub struct Exposure {
    /// Gray value above which the brightest hundredth of the pixels should be.
    pub top: f32,
    /// Largest mean gray value.
    pub mean: f32,
    /// Out-of-focus light everywhere, in gray values.
    pub haze: f32,
    /// Variance of the photon noise per gray value.
    pub grain: f32,
    /// Standard deviation of the read noise, in gray values; negative values become zero, so the
    /// background is dark.
    pub read: f32,
    /// Share of the light lost in the corners.
    pub vignette: f32,
    /// Weight of each neighbour in the optics' blur, per axis.
    pub blur: f32,
}

impl Exposure {
    /// Draws the exposure of a channel (0 red to 3 yellow) of an image of `size` px.
    pub fn new(channel: usize, size: usize, rng: &mut Rng) -> Self {
        // Ranges as in the competition's images, without the extremes.
        let (low, high, mean) =
            [(80.0, 245.0, 42.0), (75.0, 200.0, 42.0), (95.0, 225.0, 24.0), (70.0, 235.0, 45.0)]
                [channel];
        // DNA is bright, so blue is taken with little gain and noise.
        let gain = if channel == 2 { 0.22 } else { 1.0 };
        // A small image represents a larger one scaled down, whose noise is averaged.
        let quiet = gain * (size as f32 / 512.0).sqrt().min(1.0);
        Self {
            top: rng.log_range(low, high),
            mean,
            haze: if rng.chance(0.15) { quiet * rng.range(0.5, 6.0) } else { 0.0 },
            grain: quiet * rng.log_range(0.25, 1.3),
            read: quiet * rng.range(0.6, 1.8),
            vignette: rng.range(0.0, 0.22),
            blur: rng.range(0.06, 0.16),
        }
    }

    /// Takes the image.
    pub fn expose(&self, mut canvas: Canvas, rng: &mut Rng) -> Vec<u8> {
        blur(&mut canvas, self.blur);
        let (mean, top) = mean_and_top(&canvas.data);
        let scale = (self.top / top.max(1e-3)).min(self.mean / mean.max(1e-4));
        let (size, centre) = (canvas.size, canvas.size as f32 / 2.0);
        let falloff = self.vignette / (2.0 * centre * centre);
        let mut pixels = Vec::with_capacity(size * size);
        for (y, row) in canvas.data.chunks_exact(size).enumerate() {
            let dy = y as f32 - centre;
            for (x, &v) in row.iter().enumerate() {
                let dx = x as f32 - centre;
                let v = (v * scale + self.haze) * (1.0 - falloff * (dx * dx + dy * dy));
                let noise = (self.grain * v + self.read * self.read).sqrt() * rng.normal();
                pixels.push((v + noise - 1.9 * self.read).round().clamp(0.0, 255.0) as u8);
            }
        }
        pixels
    }
}

/// The mean, and the value above which a hundredth of the data lies.
fn mean_and_top(data: &[f32]) -> (f32, f32) {
    const BINS: usize = 512;
    let (mut histogram, mut sum) = ([0usize; BINS], 0.0f64);
    for &v in data {
        sum += f64::from(v);
        histogram[((v * 200.0) as usize).min(BINS - 1)] += 1;
    }
    let (mut above, mut bin) = (0, BINS - 1);
    while bin > 0 && above + histogram[bin] < data.len() / 100 {
        above += histogram[bin];
        bin -= 1;
    }
    ((sum / data.len() as f64) as f32, (bin as f32 + 0.5) / 200.0)
}

/// A three-tap blur along both axes; the edges repeat.
fn blur(canvas: &mut Canvas, side: f32) {
    let (size, middle) = (canvas.size, 1.0 - 2.0 * side);
    for row in canvas.data.chunks_exact_mut(size) {
        let mut before = row[0];
        for x in 0..size {
            let (here, after) = (row[x], row[(x + 1).min(size - 1)]);
            row[x] = middle * here + side * (before + after);
            before = here;
        }
    }
    let mut before: Vec<f32> = canvas.data[..size].to_vec();
    for y in 0..size {
        let next = (y + 1).min(size - 1) * size;
        for (x, above) in before.iter_mut().enumerate() {
            let (here, after) = (canvas.data[y * size + x], canvas.data[next + x]);
            canvas.data[y * size + x] = middle * here + side * (*above + after);
            *above = here;
        }
    }
}
