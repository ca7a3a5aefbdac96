//! Faults on purpose, for the tests of what a fault does: the environment variable `ATLAS_FAULT`
//! names one. Without it nothing here has an effect.

use std::{path::Path, sync::OnceLock};

use rustix::process::Signal;

/// `WHAT:WHERE`. WHERE is `RANK.STEP` (steps completed since the start of the training), or a part
/// of a file's name.
fn requested() -> Option<&'static (String, String)> {
    static REQUESTED: OnceLock<Option<(String, String)>> = OnceLock::new();
    let read = || {
        std::env::var("ATLAS_FAULT")
            .ok()?
            .split_once(':')
            .map(|(what, place)| (what.into(), place.into()))
    };
    REQUESTED.get_or_init(read).as_ref()
}

/// Whether the fault `what` is to happen on `rank` after `step` completed steps.
pub fn injected(what: &str, rank: usize, step: u64) -> bool {
    requested().is_some_and(|(w, place)| w == what && *place == format!("{rank}.{step}"))
}

/// Kills this process, as a failure of the machine would, if the write of `path` is at the stage
/// `what` and the fault was requested there.
pub fn kill_at(what: &str, path: &Path) {
    let is_here = |place: &str| path.to_string_lossy().contains(place);
    if requested().is_some_and(|(w, place)| w == what && is_here(place)) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    }
}
