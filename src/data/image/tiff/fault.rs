//! The words for what is wrong with a TIFF.

use std::fmt::Display;

/// A file that is not as TIFF prescribes.
pub fn broken(what: impl Display) -> String {
    format!("broken TIFF: {what}")
}

/// A file that is right, but of a kind that is not read.
pub fn not_read(kind: impl Display) -> String {
    format!(
        "a TIFF {kind}, which is not read; save it as 8- or 16-bit gray or RGB, uncompressed or \
            with LZW or deflate"
    )
}
