//! What `preprocess` will cost, estimated from the dimensions of a few images.

use super::{CHANNELS, Manifest, Source};
use crate::{config::Preprocess, data::image::Encoded};

/// Images whose dimensions are read, per source.
const PROBES: usize = 12;

/// Core time in nanoseconds, as measured on one core of an AMD EPYC with AVX-512 on the real
/// images (`benches/preprocess.sh`). Per pixel read: reading, decoding, hashing.
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

/// Estimates from the dimensions of a few images of each source; an image that cannot be read is
/// ignored.
pub fn estimate(manifest: &Manifest, config: &Preprocess) -> Estimate {
    let mut seconds = 0.0;
    for source in [Source::Official, Source::External] {
        let of_source = || manifest.samples.iter().filter(|s| s.source == source);
        let n = of_source().count();
        let probes = of_source().step_by(n.div_ceil(PROBES).max(1)).map(|s| s.file(1));
        let costs: Vec<f64> = probes
            .filter_map(|file| {
                let image = Encoded::read(&file, config.max_pixels_side).ok()?;
                Some(nanoseconds(image.dimensions(), image.is_jpeg(), config.size))
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

/// Of one image file.
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
    use std::{collections::BTreeMap, path::Path};

    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Measured {
        source: String,
        pixels_read: u32,
        size: u32,
        cpu_ms_per_sample: f64,
    }

    #[test]
    fn estimates_are_near_the_median_of_the_measured_runs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("benches/results/2026-11-25-2-cores-epyc/preprocess.csv");
        let mut runs: BTreeMap<(u32, bool, u32), Vec<f64>> = BTreeMap::new();
        for row in csv::Reader::from_path(path).unwrap().deserialize() {
            let row: Measured = row.unwrap();
            let kind = (row.pixels_read, row.source == "external", row.size);
            runs.entry(kind).or_default().push(row.cpu_ms_per_sample);
        }
        assert_eq!(runs.len(), 6);
        for ((from, is_jpeg, side), mut measured) in runs {
            measured.sort_by(f64::total_cmp);
            let median = measured[measured.len() / 2];
            let estimated = 4e-6 * super::nanoseconds((from, from), is_jpeg, side);
            assert!(
                (estimated / median - 1.0).abs() < 0.05,
                "{from} to {side}: {estimated} ms, measured {median} ms"
            );
        }
    }
}
