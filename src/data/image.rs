//! Reads one channel of a sample from PNG, JPEG or TIFF, 1 to 16 bit, gzipped or not, as 8-bit
//! gray.
//!
//! The format is recognised by the bytes of the file, never by its name. Dimensions are read and
//! checked before memory is allocated. The values of a gray image are kept, other depths scaled to
//! 8 bit (16 bit: `v / 257`, rounded, so that an 8-bit value times 257 gives that value again). In
//! a colour image the signal is in the plane of its channel: red in R, green in G, blue in B,
//! yellow in `(R + G) / 2`, rounded half to even so that dark images get no brighter; conversion to
//! gray would darken blue eightfold. An orientation other than upright (EXIF, TIFF's tag 274) is
//! honoured in all formats.

mod buffers;
mod channel_plane;
mod decode;
mod gray_png;
mod jpeg;
mod luma;
mod orientation;
mod raster;
mod resize;
mod tiff;

pub use buffers::reuse;
pub use channel_plane::{Channel, Encoded, largest, read_channel};
pub use luma::luma;
pub use raster::Plane;
pub use resize::{AreaMean, resize};

#[cfg(test)]
pub(crate) mod tests;
