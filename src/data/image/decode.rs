//! Decoding of the three image formats. All calls of other people's decoders go through here, so
//! that a panic of theirs is one picture's error.

use std::{fmt, io::Cursor};

use super::{
    buffers::buffer,
    gray_png, jpeg,
    luma::eight,
    orientation,
    raster::{Format, Header, Raster},
    tiff,
};
use crate::base::caught::caught;

/// Reads format and dimensions.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    let format = match bytes {
        [] => return Err("the file is empty".into()),
        [0x89, b'P', b'N', b'G', ..] => Format::Png,
        [0xff, 0xd8, 0xff, ..] => Format::Jpeg,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Format::Tiff,
        _ => return Err(other_format(bytes)),
    };
    guarded(format, || match format {
        Format::Png => png_header(bytes).map_err(|e| format!("broken PNG: {e}")),
        Format::Jpeg => jpeg::header(bytes),
        Format::Tiff => tiff::header(bytes),
    })
}

/// Decodes a file that [`header`] has recognised.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Raster, String> {
    guarded(header.format, || match header.format {
        Format::Png => match gray_png::pixels(bytes).map_err(|e| format!("broken PNG: {e}"))? {
            Some(pixels) => Ok(Raster { step: 1, pixels }),
            None => png(bytes).map_err(|e| format!("broken PNG: {e}")),
        },
        Format::Jpeg => jpeg::decode(bytes),
        Format::Tiff => tiff::decode(bytes),
    })
}

/// [`jpeg::Planes::decode`] of a file that [`header`] has recognised.
pub(super) fn planes(bytes: &[u8]) -> Result<Option<jpeg::Planes>, String> {
    guarded(Format::Jpeg, || jpeg::Planes::decode(bytes))
}

/// What a file is instead, where that is known.
fn other_format(bytes: &[u8]) -> String {
    let name = match bytes {
        [b'G', b'I', b'F', b'8', ..] => "GIF",
        [b'B', b'M', ..] => "BMP",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "WebP",
        [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "JPEG 2000",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "HEIC or AVIF",
        [b'Z', b'I', b'S', b'R', b'A', b'W', ..] => "ZEISS CZI",
        [0xda, 0xce, 0xbe, 0x0a, ..] => "Nikon ND2",
        [0x70, 0, 0, 0, ..] => "Leica LIF",
        [0x89, b'H', b'D', b'F', ..] => "HDF5 (as of Imaris)",
        [0xd0, 0xcf, 0x11, 0xe0, ..] => "Olympus OIB or ZEISS ZVI",
        [b'P', b'K', 3, 4, ..] => "ZIP",
        _ => {
            let start: String =
                bytes.iter().take(16).flat_map(|b| b.escape_ascii()).map(char::from).collect();
            return format!("neither PNG nor JPEG nor TIFF; it starts with `{start}`");
        }
    };
    format!("a {name} file, which is not read; save each channel as a PNG or TIFF of its own")
}

fn guarded<T>(format: Format, call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    caught(call).unwrap_or_else(|panic| {
        Err(format!("broken {format}: its decoder stopped with an internal fault: {panic}"))
    })
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Tiff => "TIFF",
        })
    }
}

fn png_header(bytes: &[u8]) -> Result<Header, png::DecodingError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    let info = decoder.read_header_info()?;
    let raw = info.color_type.samples() as u64 * (info.bit_depth as u64).div_ceil(8);
    let (width, height) = (info.width, info.height);
    let orientation = orientation::of_png(bytes);
    let is_wide = info.bit_depth == png::BitDepth::Sixteen;
    let (format, bytes_per_pixel) = (Format::Png, raw + 1);
    Ok(Header { format, width, height, orientation, bytes_per_pixel, is_wide })
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
