//! Faults on purpose, for the tests that show what a fault does: the environment variable
//! `ATLAS_FAULT` names one. Without it nothing here does anything.

use std::{path::Path, sync::OnceLock};

/// `WHAT:WHERE`. WHERE is `RANK.STEP` (steps completed since the start of the training), or a part
/// of a file's name.
fn asked() -> Option<&'static (String, String)> {
    static ASKED: OnceLock<Option<(String, String)>> = OnceLock::new();
    let read = || {
        std::env::var("ATLAS_FAULT")
            .ok()?
            .split_once(':')
            .map(|(what, at)| (what.into(), at.into()))
    };
    ASKED.get_or_init(read).as_ref()
}

/// Whether `what` shall go wrong on this rank, `step` steps after the start of the training.
pub fn injected(what: &str, rank: usize, step: u64) -> bool {
    asked().is_some_and(|(w, at)| w == what && *at == format!("{rank}.{step}"))
}

/// Kills this process, as the machine's failure would, if the write of `path` has come to `what`.
pub fn kill_at(what: &str, path: &Path) {
    if asked().is_some_and(|(w, at)| w == what && path.to_string_lossy().contains(at.as_str())) {
        // SAFETY: a signal to this process.
        unsafe { libc::raise(libc::SIGKILL) };
    }
}
