//! TIFF and BigTIFF, as libtiff reads them: strips and tiles, whole or separate planes, 1 to 16
//! bits, gray, palette and RGB, none, LZW, deflate, zstd, PackBits and JPEG.
//!
//! Written here because the `tiff` crate refuses or misreads a good part of that (LZW in tiles,
//! reversed bits, 2 to 15 bits, palettes, zstd); the decompressors are the usual crates.
//!
//! The way: [`directory`] finds tags, [`pages`] the one image, [`layout`] says what its tags mean,
//! [`chunk`] decompresses a strip or tile, [`samples`] makes pixels of it.

mod chunk;
mod directory;
mod layout;
mod pages;
mod samples;
#[cfg(test)]
mod tests;

use directory::{File, tag};
use layout::Layout;

use super::raster::{Format, Header, Raster};

/// Format, dimensions and orientation.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    let layout = Layout::read(bytes)?;
    Ok(Header {
        format: Format::Tiff,
        width: layout.width,
        height: layout.height,
        orientation: layout.orientation,
        // The output, one plane or channel, and what a JPEG in it is decoded to.
        bytes_per_pixel: 2 * layout.step() as u64 + 1,
    })
}

/// Decodes a file of which [`header`] has been checked.
pub(super) fn decode(bytes: &[u8]) -> Result<Raster, String> {
    let layout = Layout::read(bytes)?;
    samples::decode(&layout)
}

/// The orientation in EXIF data, which are a TIFF without an image; 1 where they have none.
pub(super) fn exif_orientation(exif: &[u8]) -> u8 {
    let value = File::open(exif)
        .and_then(|(file, first)| file.directory(first)?.number(tag::ORIENTATION, 1));
    orientation(value.unwrap_or(1))
}

/// Values out of range mean nothing.
fn orientation(value: u64) -> u8 {
    if (1..=8).contains(&value) { value as u8 } else { 1 }
}

/// An error of a file that is not as TIFF prescribes.
fn broken(what: impl std::fmt::Display) -> String {
    format!("broken TIFF: {what}")
}

/// An error of a file that is right, but of a kind that is not read.
fn not_read(kind: impl std::fmt::Display) -> String {
    format!(
        "a TIFF {kind}, which is not read; save it as 8- or 16-bit gray without compression, or \
            with LZW or deflate"
    )
}
