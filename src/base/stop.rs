//! Whether the job was asked to end: set by signal handlers, read by the loops.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A flag that only goes up.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

const ASKED: u8 = 1;
const URGENTLY: u8 = 2;

impl Stop {
    /// Nobody has asked yet.
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Safe in a signal handler.
    pub fn ask(&self) {
        self.0.fetch_max(ASKED, Relaxed);
    }

    /// As [`ask`](Self::ask), and little time is left before the process is killed (SIGTERM). Safe
    /// in a signal handler.
    pub fn ask_urgently(&self) {
        self.0.fetch_max(URGENTLY, Relaxed);
    }

    /// Whether anybody has asked.
    pub fn asked(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// Whether it is urgent.
    pub fn urgent(&self) -> bool {
        self.0.load(Relaxed) == URGENTLY
    }
}
