//! The heartbeat file of a running training: rank 0 rewrites it every second and removes it when
//! the training ends in order.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, Serialize};

/// What rank 0 writes about a running training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// From 1.
    pub epoch: usize,
    /// Steps completed in the epoch.
    pub step: usize,
    /// What rank 0 was doing.
    pub operation: String,
    /// Number of ranks.
    pub ranks: usize,
    /// Rank 0's machine.
    pub host: String,
    /// Rank 0's process there.
    pub pid: u32,
    /// When this was written, UTC.
    pub time: String,
    /// Estimated seconds until the end of the training.
    #[serde(default, rename = "left")]
    pub remaining: Option<f64>,
}

impl Heartbeat {
    /// The heartbeat that a training left behind; `None` after an orderly end.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Replaces the file. It is not synced, since it describes the process, not the machine; a
    /// failure is ignored, since it must not end a training.
    pub(super) fn write(&self, path: &Path) {
        let temporary = path.with_extension("tmp");
        let text = serde_json::to_string(self).expect("plain data");
        let _ = fs::write(&temporary, text + "\n").and_then(|()| fs::rename(&temporary, path));
    }

    /// Removes the file.
    pub(super) fn remove(path: &Path) {
        let _ = fs::remove_file(path.with_extension("tmp"));
        let _ = fs::remove_file(path);
    }
}

impl fmt::Display for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, step, operation, ranks, host, pid, time, .. } = self;
        write!(
            f,
            "epoch {epoch}, step {step}, {operation}, {ranks} ranks, rank 0 was process {pid} on \
                {host}, at {time}"
        )
    }
}
