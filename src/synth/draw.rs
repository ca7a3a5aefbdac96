//! Random draws, smooth noise and soft brushes, with which the scenes are painted.

use rand::Rng as _;

use crate::base::rng::Rng;

/// Random draws with short names.
pub trait RandomDraw {
    /// Uniform in `[low, high)`.
    fn range(&mut self, low: f32, high: f32) -> f32;

    /// Uniform whole number in `low..=high`.
    fn count(&mut self, low: usize, high: usize) -> usize {
        low + (self.range(0.0, (high - low + 1) as f32) as usize).min(high - low)
    }

    fn chance(&mut self, probability: f32) -> bool {
        self.range(0.0, 1.0) < probability
    }

    fn angle(&mut self) -> f32 {
        self.range(0.0, std::f32::consts::TAU)
    }

    /// Log-uniform in `[low, high)`, for exposures and brightness, which vary by factors.
    fn log_range(&mut self, low: f32, high: f32) -> f32 {
        self.range(low.ln(), high.ln()).exp()
    }

    /// Approximately normal with mean 0 and standard deviation 1 (the sum of four uniform draws,
    /// good up to three standard deviations).
    fn normal(&mut self) -> f32;
}

impl RandomDraw for Rng {
    fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next_u64() >> 40) as f32 / (1u32 << 24) as f32)
    }

    fn normal(&mut self) -> f32 {
        let bits = self.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
    }
}

/// Smooth noise in `[0, 1)`: values on a lattice, interpolated, repeating every 64 lattice steps.
pub struct Noise {
    lattice: Vec<f32>,
}

impl Noise {
    const SIDE: usize = 64;

    pub fn new(rng: &mut Rng) -> Self {
        Self { lattice: (0..Self::SIDE * Self::SIDE).map(|_| rng.range(0.0, 1.0)).collect() }
    }

    /// Value at a place given in lattice steps.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (tx, ty) = (smooth(x - fx), smooth(y - fy));
        let mask = Self::SIDE - 1;
        let (x0, y0) = (fx as i32 as usize & mask, fy as i32 as usize & mask);
        let (x1, y1) = ((x0 + 1) & mask, (y0 + 1) & mask);
        let at = |x: usize, y: usize| self.lattice[y * Self::SIDE + x];
        let top = at(x0, y0) + tx * (at(x1, y0) - at(x0, y0));
        let bottom = at(x0, y1) + tx * (at(x1, y1) - at(x0, y1));
        top + ty * (bottom - top)
    }

    /// A net of thin bright lines in `[0, 1]`, where the noise is near 0.5.
    pub fn net(&self, x: f32, y: f32) -> f32 {
        (1.0 - 5.0 * (self.at(x, y) - 0.5).abs()).max(0.0)
    }
}

/// One square plane of brightness, 1 being a fully labelled structure.
pub struct Canvas {
    pub size: usize,
    pub data: Vec<f32>,
}

impl Canvas {
    pub fn new(size: usize) -> Self {
        Self { size, data: vec![0.0; size * size] }
    }

    /// Calls `f` with every pixel within `radius` of a place and its squared distance.
    fn around(&mut self, x: f32, y: f32, radius: f32, mut f: impl FnMut(&mut f32, f32)) {
        let limit = self.size as f32 - 1.0;
        if x + radius < 0.0 || y + radius < 0.0 || x - radius > limit || y - radius > limit {
            return;
        }
        let span = |c: f32| {
            ((c - radius).ceil().max(0.0) as usize, (c + radius).floor().min(limit) as usize)
        };
        let ((x0, x1), (y0, y1)) = (span(x), span(y));
        for py in y0..=y1 {
            let dy = py as f32 - y;
            for px in x0..=x1 {
                let dx = px as f32 - x;
                f(&mut self.data[py * self.size + px], dx * dx + dy * dy);
            }
        }
    }

    /// A soft dot; brightness falls to half at about `radius`. Where strokes overlap, the brighter
    /// one is kept, so that a line drawn as a row of dots is even.
    pub fn dot(&mut self, x: f32, y: f32, radius: f32, brightness: f32) {
        let reach = (radius * 1.8).max(1.0);
        let inverse = 1.0 / (reach * reach);
        self.around(x, y, reach, |p, d2| {
            let t = (1.0 - d2 * inverse).max(0.0);
            *p = p.max(brightness * t * t * (2.0 - t));
        });
    }

    /// A disc with a sharp edge.
    pub fn disc(&mut self, x: f32, y: f32, radius: f32, brightness: f32) {
        self.around(x, y, radius + 0.5, |p, d2| {
            *p = p.max(brightness * (radius + 0.5 - d2.sqrt()).clamp(0.0, 1.0))
        });
    }

    /// A ring of the given radius and half-width.
    pub fn ring(&mut self, x: f32, y: f32, radius: f32, width: f32, brightness: f32) {
        self.around(x, y, radius + 1.8 * width, |p, d2| {
            let t = (d2.sqrt() - radius) / (1.8 * width);
            *p = p.max(brightness * (1.0 - t * t).max(0.0));
        });
    }

    /// Removes up to `share` of the brightness inside a disc.
    pub fn shade(&mut self, x: f32, y: f32, radius: f32, share: f32) {
        self.around(x, y, radius + 1.0, |p, d2| {
            *p *= 1.0 - share * (radius + 1.0 - d2.sqrt()).clamp(0.0, 1.0)
        });
    }

    /// A straight stroke.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), radius: f32, brightness: f32) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let steps = ((dx * dx + dy * dy).sqrt() / (0.6 * radius).max(0.5)).ceil().max(1.0);
        for i in 0..=steps as usize {
            let t = i as f32 / steps;
            self.dot(from.0 + t * dx, from.1 + t * dy, radius, brightness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Use, stream};

    #[test]
    fn draws_have_the_stated_range_and_moments() {
        let mut rng = stream(Use::Synth, 5, 0, 0);
        let n = 40_000i32;
        let counts = (0..n).fold([0; 3], |mut all, _| {
            all[rng.count(4, 6) - 4] += 1;
            all
        });
        assert!(counts.iter().all(|&c| (c - n / 3).abs() < 400), "{counts:?}");
        let normal: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
        let mean = normal.iter().sum::<f32>() / n as f32;
        let variance = normal.iter().map(|v| v * v).sum::<f32>() / n as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        assert!((0..n).map(|_| rng.log_range(0.5, 8.0)).all(|v| (0.4999..8.001).contains(&v)));
    }

    #[test]
    fn noise_is_smooth_and_repeats() {
        let noise = Noise::new(&mut stream(Use::Synth, 5, 0, 1));
        for i in 0..500 {
            let (x, y) = (i as f32 * 0.37 - 80.0, i as f32 * 0.11);
            assert!((noise.at(x, y) - noise.at(x + 0.01, y)).abs() < 0.03);
            assert!((noise.at(x, y) - noise.at(x + 64.0, y - 64.0)).abs() < 1e-2);
        }
    }

    #[test]
    fn brushes_change_only_their_place() {
        let mut canvas = Canvas::new(32);
        canvas.ring(16.0, 16.0, 8.0, 1.0, 0.7);
        let at = |c: &Canvas, x: usize, y: usize| c.data[y * 32 + x];
        assert_eq!((at(&canvas, 16, 16), at(&canvas, 24, 16), at(&canvas, 16, 8)), (0.0, 0.7, 0.7));
        canvas.dot(-50.0, 10.0, 3.0, 1.0); // outside, not drawn and no panic
        canvas.disc(31.0, 31.0, 2.0, 1.0);
        canvas.shade(31.0, 31.0, 2.0, 0.5);
        assert_eq!(at(&canvas, 31, 31), 0.5);
        assert_eq!(canvas.data.iter().filter(|v| **v > 0.99).count(), 0);
    }
}
