//! Decoding of the three image formats.

use std::io::Cursor;

use tiff::decoder::{Decoder as TiffDecoder, DecodingResult, Limits};

use super::{
    buffers::buffer,
    gray_png, jpeg,
    raster::{Format, Header, Raster},
};

/// Reads format and dimensions.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    match bytes {
        [] => Err("the file is empty".into()),
        [0x89, b'P', b'N', b'G', ..] => {
            let mut decoder = png::Decoder::new(Cursor::new(bytes));
            let info = decoder.read_header_info().map_err(|e| format!("broken PNG: {e}"))?;
            let raw = info.color_type.samples() as u64 * (info.bit_depth as u64).div_ceil(8);
            let (width, height) = (info.width, info.height);
            Ok(Header { format: Format::Png, width, height, bytes_per_pixel: raw + 1 })
        }
        [0xff, 0xd8, 0xff, ..] => jpeg::header(bytes),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => {
            let mut decoder =
                TiffDecoder::new(Cursor::new(bytes)).map_err(|e| format!("broken TIFF: {e}"))?;
            let (width, height) = decoder.dimensions().map_err(|e| format!("broken TIFF: {e}"))?;
            let kind =
                decoder.colortype().map_err(|e| format!("TIFF that is not supported: {e}"))?;
            let raw = u64::from(kind.num_samples()) * u64::from(kind.bit_depth()).div_ceil(8);
            Ok(Header { format: Format::Tiff, width, height, bytes_per_pixel: raw + 1 })
        }
        _ => {
            let start: String =
                bytes.iter().take(16).flat_map(|b| b.escape_ascii()).map(char::from).collect();
            Err(format!("neither PNG nor JPEG nor TIFF; it starts with `{start}`"))
        }
    }
}

/// Decodes a file that [`header`] has recognised.
pub(super) fn decode(bytes: Vec<u8>, header: &Header) -> Result<Raster, String> {
    match header.format {
        Format::Png => match gray_png::pixels(&bytes).map_err(|e| format!("broken PNG: {e}"))? {
            Some(pixels) => Ok(Raster { step: 1, pixels }),
            None => png(&bytes).map_err(|e| format!("broken PNG: {e}")),
        },
        Format::Jpeg => jpeg::decode(&bytes),
        Format::Tiff => tiff(bytes, header),
    }
}

pub(super) fn png(bytes: &[u8]) -> Result<Raster, png::DecodingError> {
    // The caller has checked the dimensions; the limit is against hostile side chunks.
    let mut decoder =
        png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: 16 << 20 });
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().ok_or(png::DecodingError::LimitsExceeded)?;
    let mut pixels = buffer(size);
    let info = reader.next_frame(&mut pixels)?;
    pixels.truncate(info.buffer_size());
    if info.bit_depth == png::BitDepth::Sixteen {
        pixels = pixels.chunks_exact(2).map(|v| eight(u16::from_be_bytes([v[0], v[1]]))).collect();
    }
    Ok(Raster { step: info.color_type.samples(), pixels })
}

fn tiff(bytes: Vec<u8>, header: &Header) -> Result<Raster, String> {
    let broken = |e: tiff::TiffError| format!("broken TIFF: {e}");
    let memory = header.width as usize * header.height as usize * header.bytes_per_pixel as usize;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = memory;
    limits.intermediate_buffer_size = memory.max(1 << 20);
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(broken)?.with_limits(limits);
    let kind = decoder.colortype().map_err(broken)?;
    let step = match kind {
        tiff::ColorType::Gray(8 | 16) => 1,
        tiff::ColorType::GrayA(8 | 16) => 2,
        tiff::ColorType::RGB(8 | 16) => 3,
        tiff::ColorType::RGBA(8 | 16) => 4,
        other => {
            return Err(format!(
                "TIFF with pixels that are not supported: {other:?}; convert it to 8- or 16-bit \
                    gray"
            ));
        }
    };
    let pixels = match decoder.read_image().map_err(broken)? {
        DecodingResult::U8(v) => v,
        DecodingResult::U16(v) => v.into_iter().map(eight).collect(),
        _ => return Err("TIFF with pixels that are no whole numbers of 8 or 16 bits".into()),
    };
    Ok(Raster { step, pixels })
}

/// 16 bit to 8: `v / 257`, rounded.
fn eight(v: u16) -> u8 {
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
