//! What set to generate.

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};

/// The size of a set. Written to its `synth.json` when it is finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SynthOptions {
    /// Official training samples, copies included.
    pub samples: usize,
    /// Test samples, copies included.
    pub test: usize,
    /// External samples, copies included.
    pub external: usize,
    /// Side of all images in pixels (real ones: 512, external ones 2048).
    pub size: usize,
    pub seed: u64,
    /// Share of the samples (train, test and external each) that are copies of a training sample,
    /// in `0..=0.5`.
    pub duplicates: f64,
    /// Minimum number of originals with each class in train; in test in proportion, rounded up and
    /// at least 3.
    pub min_per_class: usize,
}

impl SynthOptions {
    /// # Errors
    /// Usage, if an option is out of range.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::usage(what));
        if self.samples == 0 {
            return wrong("--samples must be at least 1");
        }
        if !(64..=4096).contains(&self.size) {
            return wrong("--size must lie between 64 and 4096 pixels");
        }
        if !(0.0..=0.5).contains(&self.duplicates) {
            return wrong("--duplicates is a share between 0 and 0.5");
        }
        Ok(())
    }
}
