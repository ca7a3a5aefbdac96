//! Opening of zip archives.

use std::io::{Read, Seek};

use zip::{
    ZipArchive,
    read::{ArchiveOffset, Config},
    result::ZipResult,
};

/// Opens an archive that begins at the first byte. The crate would search for its begin, and takes
/// the second file for the first where the entry of the first has 76 bytes, the length of what
/// PyTorch writes between the entries and the end.
///
/// # Errors
/// Where it is no complete archive.
pub fn open<R: Read + Seek>(reader: R) -> ZipResult<ZipArchive<R>> {
    ZipArchive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, reader)
}
