//! What `preprocess` will cost, from a look at a few pictures.

use super::{CHANNELS, Manifest, Source};
use crate::{config::Preprocess, data::image::Encoded};

/// Pictures looked at per source.
const PROBES: usize = 12;

/// Core time in nanoseconds, as measured on one core of an AMD EPYC with AVX-512 on the real
/// pictures (`benches/preprocess.sh`). Per pixel read: reading, decoding, hashing.
const PNG: f64 = 1.72;
const JPEG: f64 = 1.05;
/// Per pixel written: resizing and storing.
const KEPT: f64 = 0.51;
const ENLARGED: f64 = 1.71;
const SHRUNK: f64 = 0.79;

/// What `preprocess` needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Size of all shards.
    pub bytes: u64,
    pub core_hours: f64,
}

/// Estimates from the dimensions of a few pictures of each source; a picture that cannot be read
/// counts nothing.
pub fn estimate(manifest: &Manifest, config: &Preprocess) -> Estimate {
    let mut seconds = 0.0;
    for source in [Source::Official, Source::External] {
        let of_source = || manifest.samples.iter().filter(|s| s.source == source);
        let n = of_source().count();
        let probes = of_source().step_by(n.div_ceil(PROBES).max(1)).map(|s| s.file(1));
        let costs: Vec<f64> = probes
            .filter_map(|file| {
                let picture = Encoded::read(&file, config.max_pixels_side).ok()?;
                Some(nanoseconds(picture.dimensions(), picture.is_jpeg(), config.size))
            })
            .collect();
        seconds += costs.iter().sum::<f64>() * 1e-9 / costs.len().max(1) as f64
            * (n * CHANNELS.len()) as f64;
    }
    Estimate {
        bytes: manifest.samples.len() as u64 * pixels((config.size, config.size)) * 4,
        core_hours: seconds / 3600.0,
    }
}

fn pixels((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// Of one picture.
fn nanoseconds(from: (u32, u32), is_jpeg: bool, side: u32) -> f64 {
    let written = match from {
        _ if from == (side, side) => KEPT,
        (width, height) if width.min(height) >= side => SHRUNK,
        _ => ENLARGED,
    };
    pixels(from) as f64 * if is_jpeg { JPEG } else { PNG } + pixels((side, side)) as f64 * written
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_measured() {
        // benches/results/2026-11-25-2-cores-epyc/preprocess.csv: milliseconds per sample, the
        // median of the runs.
        for (from, is_jpeg, side, measured) in [
            (512, false, 512, 2.34),
            (512, false, 768, 5.83),
            (512, false, 1024, 8.96),
            (2048, true, 512, 18.43),
            (2048, true, 768, 19.44),
            (2048, true, 1024, 20.91),
        ] {
            let estimated = 4e-6 * super::nanoseconds((from, from), is_jpeg, side);
            assert!(
                (estimated / measured - 1.0).abs() < 0.05,
                "{from} to {side}: {estimated} ms, measured {measured} ms"
            );
        }
    }
}
