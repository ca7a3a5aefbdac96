//! The name of this machine.

use std::fs;

/// The name of this machine as its kernel knows it; empty where it cannot be read.
pub fn name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().into()
}
