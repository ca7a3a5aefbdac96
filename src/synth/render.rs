//! The images of one sample of a plan.

use super::{
    cell::CellStyle,
    copies,
    options::SynthOptions,
    plan::{PlannedSample, Subset},
    sample::{self, Planes},
};
use crate::base::{
    Result,
    rng::{self, Use},
};

/// The images of one planned sample; those of a copy are its original's, altered.
pub fn render(options: &SynthOptions, samples: &[PlannedSample], index: usize) -> Result<Planes> {
    let paint = |i: usize| {
        let style = CellStyle::new(&mut rng::stream(Use::Synth, options.seed, 1, samples[i].well));
        let mut rng = rng::stream(Use::Synth, options.seed, 2, i as u64);
        sample::paint(options.size, samples[i].labels, &style, &mut rng)
    };
    match samples[index].copy_of {
        None => Ok(paint(index)),
        Some(original) => {
            let official = samples[index].subset != Subset::External;
            let mut rng = rng::stream(Use::Synth, options.seed, 2, index as u64);
            copies::alter(&paint(original), official, &mut rng)
        }
    }
}
