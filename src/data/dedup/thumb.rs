//! Thumbnails of samples and their correlation, which separates copies from images whose hashes are
//! near by chance.

/// Side of a thumbnail in pixels (smaller where the image is).
const SIDE: usize = 64;
/// Shifts that are tried, in thumbnail pixels to every side.
const SHIFT: isize = 2;
/// A channel whose standard deviation is below this many gray levels (of 255) in both thumbnails is
/// dark or empty: the rest is noise and compression artefacts, and the channel is ignored.
const LEAST_CONTRAST: f32 = 1.0;

/// Red, green and blue of one sample, f32 `[side, side]` each, smoothed.
pub struct Thumb {
    side: usize,
    planes: [Vec<f32>; 3],
}

impl Thumb {
    /// Area means of `image`, u8 `[size, size, 4]` in red, green, blue, yellow order, then a 3 x 3
    /// binomial filter, so that a shift by a part of a thumbnail pixel changes little.
    pub fn new(image: &[u8], size: usize) -> Self {
        assert_eq!(image.len(), size * size * 4, "a {size} x {size} image of four channels");
        let side = size.min(SIDE);
        let edge = |i: usize| i * size / side;
        let mut planes = [(); 3].map(|()| vec![0.0; side * side]);
        for y in 0..side {
            for x in 0..side {
                let mut sums = [0u32; 3];
                for row in edge(y)..edge(y + 1) {
                    for pixel in image[(row * size + edge(x)) * 4..(row * size + edge(x + 1)) * 4]
                        .chunks_exact(4)
                    {
                        (0..3).for_each(|c| sums[c] += u32::from(pixel[c]));
                    }
                }
                let area = ((edge(y + 1) - edge(y)) * (edge(x + 1) - edge(x))) as f32;
                (0..3).for_each(|c| planes[c][y * side + x] = sums[c] as f32 / area);
            }
        }
        Self { side, planes: planes.map(|plane| smooth(&plane, side)) }
    }

    /// Normalised correlation (Pearson's) of the overlap in the channel where it is lowest, at the
    /// shift where that is highest: 1 for copies, also brighter or darker ones. `None` where no
    /// channel has any contrast.
    pub fn correlation(&self, other: &Self) -> Option<f32> {
        assert_eq!(self.side, other.side, "thumbnails of images of one size");
        let shifts = (-SHIFT..=SHIFT).flat_map(|dy| (-SHIFT..=SHIFT).map(move |dx| (dy, dx)));
        shifts.filter_map(|(dy, dx)| self.lowest(other, dy, dx)).max_by(f32::total_cmp)
    }

    fn lowest(&self, other: &Self, dy: isize, dx: isize) -> Option<f32> {
        let at = |y: isize, x: isize| y as usize * self.side + x as usize;
        let side = self.side as isize;
        let (height, width) = (side - dy.abs(), side - dx.abs());
        let mut lowest: Option<f32> = None;
        for (a, b) in self.planes.iter().zip(&other.planes) {
            let mut sums = Sums::default();
            for y in 0..height {
                let a = &a[at(y + dy.max(0), dx.max(0))..][..width as usize];
                let b = &b[at(y + (-dy).max(0), (-dx).max(0))..][..width as usize];
                sums.add(a, b);
            }
            if let Some(r) = sums.correlation() {
                lowest = Some(lowest.map_or(r, |l| l.min(r)));
            }
        }
        lowest
    }
}

#[derive(Default)]
struct Sums {
    n: f64,
    a: f64,
    b: f64,
    aa: f64,
    bb: f64,
    ab: f64,
}

impl Sums {
    /// A row, in four interleaved sums each, which the processor adds at once.
    fn add(&mut self, a: &[f32], b: &[f32]) {
        let mut lanes = [[0f32; 4]; 5];
        for (a, b) in a.chunks(4).zip(b.chunks(4)) {
            for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
                for (lane, value) in lanes.iter_mut().zip([a, b, a * a, b * b, a * b]) {
                    lane[i] += value;
                }
            }
        }
        let [a_sum, b_sum, aa, bb, ab] = lanes.map(|l| f64::from(l.iter().sum::<f32>()));
        self.n += a.len() as f64;
        (self.a, self.b) = (self.a + a_sum, self.b + b_sum);
        (self.aa, self.bb, self.ab) = (self.aa + aa, self.bb + bb, self.ab + ab);
    }

    fn correlation(&self) -> Option<f32> {
        let (mean_a, mean_b) = (self.a / self.n, self.b / self.n);
        let var_a = (self.aa / self.n - mean_a * mean_a).max(0.0);
        let var_b = (self.bb / self.n - mean_b * mean_b).max(0.0);
        let least = f64::from(LEAST_CONTRAST).powi(2);
        if var_a < least && var_b < least {
            return None;
        }
        let covariance = self.ab / self.n - mean_a * mean_b;
        Some((covariance / (var_a * var_b).sqrt().max(1e-9)) as f32)
    }
}

/// Binomial filter 1 2 1 in both directions; the border is repeated.
fn smooth(plane: &[f32], side: usize) -> Vec<f32> {
    let pass = |from: &[f32], step: usize, place: fn(usize, usize) -> usize| -> Vec<f32> {
        (0..side * side)
            .map(|i| {
                let at = place(i, side);
                let before = if at > 0 { from[i - step] } else { from[i] };
                let after = if at + 1 < side { from[i + step] } else { from[i] };
                0.25 * before + 0.5 * from[i] + 0.25 * after
            })
            .collect()
    };
    let rows = pass(plane, 1, |i, side| i % side);
    pass(&rows, side, |i, side| i / side)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    /// Blobs of light on a dark ground; `shift` moves them, `gain` makes them brighter, noise has a
    /// sigma of about 2.
    fn blobs(size: usize, seed: u64, shift: f32, gain: f32, channels: usize) -> Vec<u8> {
        let mut rng = crate::base::rng::stream(crate::base::rng::Use::Synth, seed, 0, 0);
        let blobs: Vec<[f32; 4]> =
            (0..24).map(|_| std::array::from_fn(|_| rng.random::<f32>())).collect();
        let mut image = vec![0; size * size * 4];
        for (i, pixel) in image.chunks_exact_mut(4).enumerate() {
            let (y, x) = ((i / size) as f32, (i % size) as f32);
            for (c, value) in pixel.iter_mut().enumerate().take(channels) {
                let light: f32 = blobs
                    .iter()
                    .skip(c * 8)
                    .take(8)
                    .map(|b| {
                        let (dy, dx) =
                            (y - shift - b[0] * size as f32, x - shift - b[1] * size as f32);
                        120.0 * b[2] * (-(dy * dy + dx * dx) / (size as f32 * 0.06).powi(2)).exp()
                    })
                    .sum();
                let noise: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * 3.4;
                *value = (3.0 + gain * light + noise).clamp(0.0, 255.0) as u8;
            }
        }
        image
    }

    #[test]
    fn copies_are_alike_and_others_are_not() {
        for size in [512, 200, 128] {
            let shift = 2.0 * size as f32 / 512.0;
            let thumb = |seed, shift, gain| Thumb::new(&blobs(size, seed, shift, gain, 3), size);
            let copy = thumb(1, 0.0, 1.0).correlation(&thumb(1, shift, 0.8)).unwrap();
            assert!(copy > 0.95, "{size}: {copy}");
            let moved =
                thumb(1, 0.0, 1.0).correlation(&thumb(1, 2.0 * size as f32 / 64.0, 1.2)).unwrap();
            assert!(moved > 0.95, "{size}: {moved}");
            let other = thumb(1, 0.0, 1.0).correlation(&thumb(2, 0.0, 1.0)).unwrap();
            assert!(other < 0.6, "{size}: {other}");
        }
    }

    #[test]
    fn the_lowest_channel_decides_and_empty_ones_do_not() {
        let full = blobs(128, 1, 0.0, 1.0, 3);
        let mut one_differs = full.clone();
        let other = blobs(128, 2, 0.0, 1.0, 3);
        one_differs.chunks_exact_mut(4).zip(other.chunks_exact(4)).for_each(|(p, q)| p[1] = q[1]);
        let thumb = |image: &[u8]| Thumb::new(image, 128);
        assert!(thumb(&full).correlation(&thumb(&one_differs)).unwrap() < 0.6);

        let dark = blobs(128, 1, 0.0, 1.0, 2); // no blue
        let noisy = blobs(128, 1, 0.0, 0.9, 2);
        assert!(thumb(&dark).correlation(&thumb(&noisy)).unwrap() > 0.95);
        assert!(
            thumb(&full).correlation(&thumb(&dark)).unwrap() < 0.2,
            "blue is empty in one of them only"
        );
        assert_eq!(thumb(&[0; 128 * 128 * 4]).correlation(&thumb(&[9; 128 * 128 * 4])), None);
    }

    #[test]
    fn equals_the_definition_without_a_shift() {
        let (a, b) = (
            Thumb::new(&blobs(64, 3, 0.0, 1.0, 3), 64),
            Thumb::new(&blobs(64, 4, 0.0, 1.0, 3), 64),
        );
        for (dy, dx) in [(0, 0), (2, -1)] {
            let slow = (0..3).map(|c| {
                let mut pairs = Vec::new();
                for y in 0isize..64 {
                    for x in 0isize..64 {
                        if (0..64).contains(&(y - dy)) && (0..64).contains(&(x - dx)) {
                            pairs.push((
                                f64::from(a.planes[c][(y * 64 + x) as usize]),
                                f64::from(b.planes[c][((y - dy) * 64 + x - dx) as usize]),
                            ));
                        }
                    }
                }
                let n = pairs.len() as f64;
                let (ma, mb) = (
                    pairs.iter().map(|p| p.0).sum::<f64>() / n,
                    pairs.iter().map(|p| p.1).sum::<f64>() / n,
                );
                let sum = |f: &dyn Fn(f64, f64) -> f64| {
                    pairs.iter().map(|p| f(p.0 - ma, p.1 - mb)).sum::<f64>()
                };
                sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
            });
            let slow = slow.fold(f64::INFINITY, f64::min);
            assert!((f64::from(a.lowest(&b, dy, dx).unwrap()) - slow).abs() < 1e-4);
        }
    }
}
