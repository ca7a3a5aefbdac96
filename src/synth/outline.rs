//! Shapes given by their radius in each direction.

/// A place in an image, x and y in pixels.
pub type Point = (f32, f32);

/// Distance from a centre to an outline, by direction.
///
/// Directions are looked up by their "diamond angle" y/(|x|+|y|), to avoid an arc tangent per
/// pixel.
pub struct Outline {
    table: Vec<f32>,
    /// The largest radius.
    pub longest: f32,
}

impl Outline {
    const STEPS: usize = 256;

    /// From the radius as a function of the angle.
    pub fn new(radius: impl Fn(f32) -> f32) -> Self {
        let table: Vec<f32> = (0..Self::STEPS)
            .map(|i| {
                let t = (i as f32 + 0.5) * 4.0 / Self::STEPS as f32;
                let (x, y) = match t as usize {
                    0 => (1.0 - t, t),
                    1 => (1.0 - t, 2.0 - t),
                    2 => (t - 3.0, 2.0 - t),
                    _ => (t - 3.0, t - 4.0),
                };
                radius(y.atan2(x))
            })
            .collect();
        let longest = table.iter().copied().fold(0.0, f32::max);
        Self { table, longest }
    }

    /// Radius in the direction (dx, dy).
    pub fn at(&self, dx: f32, dy: f32) -> f32 {
        let sum = dx.abs() + dy.abs();
        if sum < 1e-6 {
            return self.table[0];
        }
        let s = dy / sum;
        let t = if dx >= 0.0 { if s >= 0.0 { s } else { 4.0 + s } } else { 2.0 - s };
        self.table[(t * (Self::STEPS as f32 / 4.0)) as usize % Self::STEPS]
    }
}
