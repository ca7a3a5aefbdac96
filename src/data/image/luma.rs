//! From the values of a pixel to one value.

/// The mean, halves to even.
#[inline(always)]
pub(super) fn halved(a: u8, b: u8) -> u8 {
    let sum = u16::from(a) + u16::from(b);
    (sum / 2 + (sum & (sum / 2) & 1)) as u8
}

/// Brightness of a colour (ITU-R 601) in Pillow's fixed-point arithmetic.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}
