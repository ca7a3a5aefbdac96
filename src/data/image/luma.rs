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

/// 16 bit to 8: `v / 257`, rounded.
pub(super) fn eight(v: u16) -> u8 {
    ((u32::from(v) + 128) / 257) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_scale_to_the_nearest_of_eight() {
        for v in 0..=255u16 {
            assert_eq!(u16::from(eight(v * 257)), v);
        }
        for v in 0..=u16::MAX {
            assert_eq!(eight(v), (f64::from(v) * 255.0 / 65535.0).round() as u8, "{v}");
        }
    }
}
