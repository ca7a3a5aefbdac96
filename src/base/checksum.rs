//! Checksums (xxh3, 64 bits) of bytes and files.

use std::{
    fs::{self, File},
    hash::Hasher,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use twox_hash::XxHash3_64;

use crate::base::{Error, Result};

/// xxh3 of some bytes.
pub fn of(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// xxh3 of several parts, each with its length, so that moving a byte from one part to the next
/// changes the sum.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = XxHash3_64::new();
    for part in parts {
        hash.write(&(part.len() as u64).to_le_bytes());
        hash.write(part);
    }
    hash.finish()
}

/// xxh3 of a file's content.
pub fn of_file(path: &Path) -> Result<u64> {
    fs::read(path).map(|b| of(&b)).map_err(Error::io("read", path))
}

/// xxh3 of some ranges of bytes of a file, one after the other, in little memory.
pub fn of_file_parts(file: &File, parts: &[Range<u64>]) -> io::Result<u64> {
    let mut hash = XxHash3_64::new();
    let mut buffer = vec![0; 1 << 18];
    for part in parts {
        let mut at = part.start;
        while at < part.end {
            let block = &mut buffer[..(part.end - at).min(1 << 18) as usize];
            file.read_exact_at(block, at)?;
            hash.write(block);
            at += block.len() as u64;
        }
    }
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(of_parts([&b"ab"[..], b"c"]), of_parts([&b"a"[..], b"bc"]));
    }
}
