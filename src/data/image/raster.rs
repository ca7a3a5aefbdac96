//! Images before and after decoding.

/// One gray channel, row by row, on the scale 0 to 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Tiff,
}

/// What is known before decoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub format: Format,
    pub width: u32,
    pub height: u32,
    /// 1: upright, see `orientation`. Width and height are those before turning.
    pub orientation: u8,
    /// Memory at the peak of decoding, by pixel.
    pub bytes_per_pixel: u64,
    /// Whether its values have 16 bits.
    pub is_wide: bool,
}

/// Decoded pixels, 8 bit, `step` values each.
pub(super) struct Raster {
    pub step: usize,
    pub pixels: Vec<u8>,
}
