//! The last 32 bytes of a shard: the place of its images and the checksum of everything else.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::base::checksum;

const MAGIC: [u8; 8] = *b"atlas\0s1";
const LENGTH: u64 = 32;

/// Place of the images in bytes from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub offset: u64,
    pub bytes: u64,
}

impl Seal {
    /// Appends the seal to a complete HDF5 file.
    pub fn write(self, file: &File) -> io::Result<()> {
        let end = file.metadata()?.len();
        let sum = self.checksum(file, end)?;
        let mut seal = MAGIC.to_vec();
        for field in [self.offset, self.bytes, sum] {
            seal.extend(field.to_le_bytes());
        }
        file.write_all_at(&seal, end)
    }

    /// Reads the seal and compares the file with it; the images have checksums of their own.
    /// `Ok(Err)` states what is wrong.
    pub fn read(file: &File) -> io::Result<Result<Self, &'static str>> {
        const CUT: &str = "cut short or no shard: the seal at its end is missing";
        let Some(end) = file.metadata()?.len().checked_sub(LENGTH) else { return Ok(Err(CUT)) };
        let mut bytes = [0; LENGTH as usize];
        file.read_exact_at(&mut bytes, end)?;
        if bytes[..8] != MAGIC {
            return Ok(Err(CUT));
        }
        let field = |i: usize| {
            u64::from_le_bytes(bytes[i * 8..(i + 1) * 8].try_into().expect("eight bytes"))
        };
        let (seal, sum) = (Self { offset: field(1), bytes: field(2) }, field(3));
        let fits = seal.offset.checked_add(seal.bytes).is_some_and(|e| e <= end);
        if !fits || seal.checksum(file, end)? != sum {
            return Ok(Err("its tables do not match their checksum"));
        }
        Ok(Ok(seal))
    }

    /// xxh3 of the file up to `end`, without the images.
    fn checksum(self, file: &File, end: u64) -> io::Result<u64> {
        let part = |from: u64, to: u64| {
            let mut bytes = vec![0; (to - from) as usize];
            file.read_exact_at(&mut bytes, from).map(|()| bytes)
        };
        let (before, after) = (part(0, self.offset)?, part(self.offset + self.bytes, end)?);
        Ok(checksum::of_parts([
            &self.offset.to_le_bytes()[..],
            &self.bytes.to_le_bytes()[..],
            &before,
            &after,
        ]))
    }
}
