//! What `preprocess` will cost, from a look at a few pictures.

use super::{Manifest, Source};
use crate::{config::Preprocess, image::Encoded};

/// Pictures looked at per source.
const PROBES: usize = 12;

/// Core time per pixel of reading, decoding, hashing and resizing, in nanoseconds: as measured on one core of an AMD EPYC
/// with AVX-512 on the real pictures (PNG 512 px kept, JPEG 2048 px shrunk to 512).
const PNG_NANOSECONDS: f64 = 7.4;
const JPEG_NANOSECONDS: f64 = 6.3;

/// What `preprocess` needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Size of all shards.
    pub bytes: u64,
    pub core_hours: f64,
}

/// Estimates from the dimensions of a few pictures of each source; a picture that cannot be read counts nothing.
pub fn estimate(manifest: &Manifest, config: &Preprocess) -> Estimate {
    let side = u64::from(config.size);
    let mut seconds = 0.0;
    for source in [Source::Official, Source::External] {
        let samples: Vec<_> = manifest.samples.iter().filter(|s| s.source == source).collect();
        let step = samples.len().div_ceil(PROBES).max(1);
        let costs: Vec<f64> = samples
            .iter()
            .step_by(step)
            .filter_map(|s| Encoded::read(&s.files[1], config.max_pixels_side).ok())
            .map(|e| {
                let (w, h) = e.dimensions();
                let nanoseconds = if e.is_jpeg() { JPEG_NANOSECONDS } else { PNG_NANOSECONDS };
                f64::from(w) * f64::from(h) * 4.0 * nanoseconds * 1e-9
            })
            .collect();
        seconds += costs.iter().sum::<f64>() / costs.len().max(1) as f64 * samples.len() as f64;
    }
    Estimate { bytes: manifest.samples.len() as u64 * side * side * 4, core_hours: seconds / 3600.0 }
}
