//! Brightness and contrast by lookup tables.

/// One channel's change: `alpha * x + beta * mean`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Factor (contrast).
    pub alpha: f32,
    /// Share of the mean that is added (brightness).
    pub beta: f32,
}

/// Changes `image` `[n, 4]` in place: `round(clip(alpha x + beta mean, 0, 255))`. With one tone the mean is that of all
/// pixels and channels; with four, each channel has its tone and its mean.
pub fn apply(image: &mut [[u8; 4]], tones: Tones) {
    let mut sums = [0u64; 4];
    for pixel in image.iter() {
        (0..4).for_each(|c| sums[c] += u64::from(pixel[c]));
    }
    let n = image.len().max(1) as f64;
    let tables: [[u8; 256]; 4] = match tones {
        Tones::All(tone) => [table(tone, sums.iter().sum::<u64>() as f64 / (4.0 * n)); 4],
        Tones::Each(tones) => std::array::from_fn(|c| table(tones[c], sums[c] as f64 / n)),
    };
    for pixel in image {
        *pixel = std::array::from_fn(|c| tables[c][usize::from(pixel[c])]);
    }
}

/// One tone for the whole image, or one per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tones {
    All(Tone),
    Each([Tone; 4]),
}

fn table(tone: Tone, mean: f64) -> [u8; 256] {
    let shift = tone.beta * mean as f32;
    // The cast saturates: it is the clip.
    std::array::from_fn(|x| (tone.alpha * x as f32 + shift).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<[u8; 4]> {
        (0..1000u32).map(|i| [(i % 256) as u8, (i * i % 251) as u8, (i / 8) as u8, 40]).collect()
    }

    fn check(tones: Tones, mean_of: impl Fn(usize) -> (Tone, f64)) {
        let before = image();
        let mut after = before.clone();
        apply(&mut after, tones);
        for (old, new) in before.iter().zip(&after) {
            for c in 0..4 {
                let (tone, mean) = mean_of(c);
                let want = (f64::from(tone.alpha) * f64::from(old[c]) + f64::from(tone.beta) * mean).clamp(0.0, 255.0);
                assert!((f64::from(new[c]) - want).abs() <= 0.501, "channel {c}: {} to {}, expected {want}", old[c], new[c]);
            }
        }
    }

    #[test]
    fn one_tone_takes_the_mean_of_everything() {
        let mean = image().as_flattened().iter().map(|&x| f64::from(x)).sum::<f64>() / 4000.0;
        for (alpha, beta) in [(1.0, 0.0), (0.5, 3.0), (1.5, -3.0), (1.2, 0.1)] {
            let tone = Tone { alpha, beta };
            check(Tones::All(tone), |_| (tone, mean));
        }
    }

    #[test]
    fn four_tones_take_the_means_of_their_channels() {
        let tones = [(1.1, 0.3), (0.7, -0.2), (1.5, 0.0), (0.9, 2.0)].map(|(alpha, beta)| Tone { alpha, beta });
        let pixels = image();
        check(Tones::Each(tones), |c| (tones[c], pixels.iter().map(|p| f64::from(p[c])).sum::<f64>() / 1000.0));
    }
}
