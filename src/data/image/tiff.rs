//! TIFF and BigTIFF, as libtiff reads them: strips and tiles, whole or separate planes, 1 to 16
//! bits, gray, palette and RGB, none, LZW, deflate, zstd, PackBits and JPEG.
//!
//! Written here because the `tiff` crate refuses a good part of that (LZW in tiles, reversed bits,
//! 2 to 15 bits, palettes); the decompressors are the usual crates.
//!
//! The way: [`directory`] finds tags, [`pages`] the one image, [`layout`] says what its tags mean,
//! [`chunk`] decompresses a strip or tile, [`samples`] makes pixels of it. [`fault`] words what is
//! wrong.

mod chunk;
mod compression;
mod directory;
mod fault;
mod layout;
mod pages;
mod samples;
#[cfg(test)]
mod tests;

pub(super) use self::{directory::exif_orientation, layout::header, samples::decode};
