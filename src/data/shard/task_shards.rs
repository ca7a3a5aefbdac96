//! Makes the shards of one task of an array job.

use std::path::Path;

use super::{Builder, Settings};
use crate::{
    base::{Result, progress::Progress, stop_request::Stop, thread_pool},
    config::Preprocess,
    data::manifest::Manifest,
};

/// What [`build_share`] did.
#[derive(Default)]
pub struct ShareSummary {
    /// Shards in the share.
    pub shards: usize,
    /// Of them, those made now; the others existed and are up to date.
    pub built: usize,
    /// Samples in the shards.
    pub samples: usize,
    /// Samples left out because a file of theirs cannot be used.
    pub bad: usize,
    /// Samples whose images were replaced since their shard was made, so that it was made again.
    pub replaced: usize,
    /// What is odd about the images of the shards that were made now, see [`Tally`].
    ///
    /// [`Tally`]: super::Tally
    pub warnings: Vec<String>,
}

/// Makes the shards `task`, `task + tasks`, ... of `manifest` with `threads` threads, see
/// [`Builder::build`].
///
/// # Errors
/// Data, where more than `max_bad_fraction` of the share's samples cannot be used;
/// [`Error::Stopped`](crate::base::Error::Stopped) after `stop`, with the shards that are finished
/// kept.
pub fn build_share(
    work: &Path,
    manifest: &Manifest,
    keys: &Preprocess,
    threads: usize,
    (task, tasks): (usize, usize),
    stop: &Stop,
) -> Result<ShareSummary> {
    let plans: Vec<_> =
        manifest.shards().into_iter().enumerate().skip(task).step_by(tasks).collect();
    let total: usize = plans.iter().map(|(_, s)| s.samples.len()).sum();
    let allowed = (keys.max_bad_fraction * total as f64).floor() as usize;
    let settings = Settings { size: keys.size as usize, max_side: keys.max_pixels_side };
    let builder = Builder::new(work, manifest, settings, stop);
    let pool = thread_pool::start(threads)?;
    let progress = Progress::new("preprocess", "samples", total as u64);
    let mut share = ShareSummary { shards: plans.len(), ..ShareSummary::default() };
    let (mut replaced, mut newer) = (Vec::new(), Vec::new());
    for (unit, plan) in &plans {
        let made = pool.install(|| builder.build(*unit, plan, allowed - share.bad, &progress))?;
        share.built += usize::from(made.built);
        share.samples += made.samples;
        share.bad += made.bad_samples();
        for b in &made.bad {
            log::warn!("{}: {} (left out)", b.file, b.reason);
        }
        replaced.extend(made.replaced);
        newer.extend(made.newer);
    }
    share.replaced = replaced.len();
    if let Some(first) = replaced.first() {
        log::warn!(
            "the images of {} samples were replaced since their shards were made, such as {first}; \
             these shards were made again, so run the steps after `preprocess` again, too",
            replaced.len()
        );
    }
    // What was replaced is said already.
    newer.retain(|id| !replaced.contains(id));
    if let Some(first) = newer.first() {
        log::warn!(
            "files of {} samples were changed or copied after `plan` listed them in {}, such as \
             those of {first}; the shards hold what is there now; where samples were added, \
             removed or labelled otherwise, run `atlas plan` again",
            newer.len(),
            Manifest::path(work).display()
        );
    }
    share.warnings = builder.tally.warnings(settings.size);
    share.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    Ok(share)
}
