//! Brightness and contrast.

use multiversion::multiversion;

/// One channel's change: `alpha * x + beta * mean`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Factor (contrast).
    pub alpha: f32,
    /// Share of the mean that is added (brightness).
    pub beta: f32,
}

/// Changes `image` `[n, 4]` in place: `round(clip(alpha x + beta mean, 0, 255))`. With one tone the
/// mean is that of all pixels and channels; with four, each channel has its tone and its mean.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn apply(image: &mut [[u8; 4]], tones: Tones) {
    let (blocks, rest) = image.as_flattened().as_chunks::<VALUES>();
    let mut lanes = [0u32; VALUES];
    blocks
        .iter()
        .for_each(|block| lanes.iter_mut().zip(block).for_each(|(lane, &x)| *lane += u32::from(x)));
    lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane += u32::from(x));
    let mut sums = [0u64; 4];
    lanes.iter().enumerate().for_each(|(i, &lane)| sums[i % 4] += u64::from(lane));
    let n = image.len().max(1) as f64;
    let mean = |c: usize| sums[c] as f64 / n;
    let (tones, means) = match tones {
        Tones::All(tone) => ([tone; 4], [sums.iter().sum::<u64>() as f64 / (4.0 * n); 4]),
        Tones::Each(tones) => (tones, std::array::from_fn(mean)),
    };
    let (alpha, shift) = (
        std::array::from_fn(|i| tones[i % 4].alpha),
        std::array::from_fn(|i| tones[i % 4].beta * means[i % 4] as f32),
    );
    let (blocks, rest) = image.as_flattened_mut().as_chunks_mut();
    blocks.iter_mut().for_each(|block| change(block, &alpha, &shift));
    let mut last = [0; VALUES];
    last[..rest.len()].copy_from_slice(rest);
    change(&mut last, &alpha, &shift);
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Values that are changed at a time.
const VALUES: usize = 64;

#[inline(always)]
fn change(values: &mut [u8; VALUES], alpha: &[f32; VALUES], shift: &[f32; VALUES]) {
    for i in 0..VALUES {
        // Plus the largest number below a half, cut off: rounds, halves up. Whole numbers are the
        // last bits of a sum with 2^23.
        let value = (alpha[i] * f32::from(values[i]) + shift[i] + 0.499_999_97).clamp(0.0, 255.0);
        values[i] = (value.trunc() + 8_388_608.0).to_bits() as u8;
    }
}

/// One tone for the whole image, or one per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tones {
    All(Tone),
    Each([Tone; 4]),
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
                let (alpha, beta) = (f64::from(tone.alpha), f64::from(tone.beta));
                let (old, new) = (f64::from(old[c]), f64::from(new[c]));
                let want = (alpha * old + beta * mean).clamp(0.0, 255.0);
                assert!(
                    (new - want).abs() <= 0.501,
                    "channel {c}: {old} to {new}, expected {want}"
                );
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
    fn every_value_is_rounded_to_the_nearest_and_clipped() {
        let all: Vec<[u8; 4]> = (0..=255u8).map(|x| [x; 4]).collect();
        for (alpha, beta) in [
            (1.0, 0.0),
            (0.5, 0.0),
            (1.5, 0.0),
            (0.25, 0.006),
            (1.1, 0.1),
            (0.9, -0.3),
            (3.0, 1.0),
            (0.7, -2.0),
        ] {
            let mut after = all.clone();
            apply(&mut after, Tones::All(Tone { alpha, beta }));
            for (x, got) in all.iter().zip(after) {
                let want = (alpha * f32::from(x[0]) + beta * 127.5).round() as u8;
                assert_eq!(got, [want; 4], "{alpha} {beta} {x:?}");
            }
        }
        // The largest number below a half: were a half added to it, the sum would be rounded to 1.
        let mut ones = [[1; 4]; VALUES / 4 + 1];
        apply(&mut ones, Tones::All(Tone { alpha: 0.0, beta: 0.499_999_97 }));
        assert_eq!(ones, [[0; 4]; VALUES / 4 + 1]);
    }

    #[test]
    fn four_tones_take_the_means_of_their_channels() {
        let tones = [(1.1, 0.3), (0.7, -0.2), (1.5, 0.0), (0.9, 2.0)]
            .map(|(alpha, beta)| Tone { alpha, beta });
        let pixels = image();
        check(Tones::Each(tones), |c| {
            (tones[c], pixels.iter().map(|p| f64::from(p[c])).sum::<f64>() / 1000.0)
        });
    }
}
