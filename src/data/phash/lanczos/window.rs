//! The weights of the filter in fixed point, and its exact sums.

const PRECISION: u32 = 32 - 8 - 2;
const SUPPORT: f64 = 3.0;

/// The source pixels of one target pixel: where they start, and their weights times 2^22.
pub struct Window {
    pub start: usize,
    pub weights: Vec<i32>,
}

/// `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow.
pub fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = SUPPORT * stretch;
    let window = |x: usize| {
        let center = (x as f64 + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let mut weights: Vec<f64> = (0..end - start)
            .map(|i| lanczos(((i + start) as f64 - center + 0.5) * (1.0 / stretch)))
            .collect();
        let total: f64 = weights.iter().sum();
        if total != 0.0 {
            weights.iter_mut().for_each(|w| *w /= total);
        }
        let fixed =
            |w: f64| (w * f64::from(1 << PRECISION) + if w < 0.0 { -0.5 } else { 0.5 }) as i32;
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

/// One pixel of a row.
#[inline(always)]
pub fn exact(window: &Window, row: &[u8]) -> u8 {
    round(window.weights.iter().zip(&row[window.start..]).map(|(&w, &p)| w * i32::from(p)).sum())
}

#[inline(always)]
pub fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}
