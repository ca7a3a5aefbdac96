//! Pictures in: one channel of a sample from PNG, JPEG or TIFF, 8 or 16 bit, gzipped or not, as
//! 8-bit gray.
//!
//! What a file is is told from its bytes, never from its name. Dimensions are read and checked
//! before memory is taken. A gray picture is taken as it is, 16 bit scaled to 8 (`v / 257`,
//! rounded, so that an 8-bit value times 257 gives that value again). In a coloured one the signal
//! lies in the plane of its channel: red in R, green in G, blue in B, yellow in `(R + G) / 2`,
//! halves to even so that dark pictures get no brighter; reading those as gray would darken blue
//! eightfold.

mod buffers;
mod colour;
mod decode;
mod encoded;
mod gray;
mod jpeg;
mod raster;
mod resize;

pub use buffers::reuse;
pub use colour::luma;
pub use encoded::{Channel, Encoded, read_channel};
pub use raster::Plane;
pub use resize::{AreaMean, resize};

#[cfg(test)]
mod tests;
