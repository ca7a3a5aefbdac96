//! The request to end a job: set by signal handlers, read by the loops.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A flag that is set and never cleared.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

const ASKED: u8 = 1;
const URGENTLY: u8 = 2;

impl Stop {
    /// No request yet.
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Safe in a signal handler.
    pub fn ask(&self) {
        self.0.fetch_max(ASKED, Relaxed);
    }

    /// As [`ask`](Self::ask), where the process will be killed soon (SIGTERM). Safe in a signal
    /// handler.
    pub fn ask_urgently(&self) {
        self.0.fetch_max(URGENTLY, Relaxed);
    }

    /// Whether there was a request.
    pub fn asked(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// Whether the process will be killed soon.
    pub fn urgent(&self) -> bool {
        self.0.load(Relaxed) == URGENTLY
    }
}
