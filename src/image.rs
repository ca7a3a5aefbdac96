//! One channel of one sample: decode, pick the plane that carries the signal, scale 16 bit to 8, resize.

use std::{
    fs,
    io::{Cursor, Read},
    path::Path,
};

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::{Error, Result};

/// Names of the channels in stored order; they stand in the file names too.
pub const CHANNELS: [&str; 4] = ["red", "green", "blue", "yellow"];

/// One gray image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    /// `[height, width]`
    pub pixels: Vec<u8>,
}

/// Reads the file of channel `channel` (0 red to 3 yellow). Gray images as they are, 16 bit scaled to 8; of coloured ones
/// red ← R, green ← G, blue ← B, yellow ← (R + G) / 2, since the Atlas serves each channel in its colour. The format is told
/// from the bytes. A width or height beyond `max_side` is refused before memory is taken.
///
/// # Errors
/// Data, naming the file and what is wrong with it; Io, where it cannot be opened.
pub fn read_channel(path: &Path, channel: usize, max_side: u32) -> Result<Plane> {
    let image = decode(path, max_side)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = match image {
        DynamicImage::ImageLuma8(gray) => gray.into_raw(),
        DynamicImage::ImageLuma16(gray) => gray.into_raw().into_iter().map(to_8_bit).collect(),
        DynamicImage::ImageLumaA8(gray) => gray.into_raw().chunks_exact(2).map(|p| p[0]).collect(),
        DynamicImage::ImageLumaA16(gray) => gray.into_raw().chunks_exact(2).map(|p| to_8_bit(p[0])).collect(),
        coloured => {
            let rgb = coloured.into_rgb8().into_raw();
            let pick = |p: &[u8]| match channel {
                3 => ((u16::from(p[0]) + u16::from(p[1]) + 1) / 2) as u8,
                c => p[c],
            };
            rgb.chunks_exact(3).map(pick).collect()
        }
    };
    Ok(Plane { width, height, pixels })
}

/// Reads any image as Pillow's `convert("L")` would: ITU-R 601 luma of coloured ones.
pub fn read_luma(path: &Path, max_side: u32) -> Result<Plane> {
    let image = decode(path, max_side)?;
    if image.color().has_color() {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = image.into_rgb8().into_raw().chunks_exact(3).map(|p| luma(p[0], p[1], p[2])).collect();
        return Ok(Plane { width, height, pixels });
    }
    read_channel(path, 0, max_side)
}

/// Pillow's fixed-point luma.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// 65535 → 255, so that an 8-bit value times 257 comes back.
fn to_8_bit(v: u16) -> u8 {
    ((u32::from(v) + 128) / 257) as u8
}

fn decode(path: &Path, max_side: u32) -> Result<DynamicImage> {
    let mut bytes = fs::read(path).map_err(Error::io("read", path))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        // Room for 16-bit RGBA of the largest image allowed; a gzip bomb ends there.
        let most = u64::from(max_side).pow(2) * 8 + (1 << 20);
        let mut inflated = Vec::new();
        let read = flate2::read::GzDecoder::new(&bytes[..]).take(most + 1).read_to_end(&mut inflated);
        read.map_err(|e| Error::data(path, format!("cannot unpack gzip: {e}")))?;
        if inflated.len() as u64 > most {
            return Err(Error::data(path, format!("unpacks to more than an image of preprocess.max_pixels_side = {max_side} can need")));
        }
        bytes = inflated;
    }
    let format = match &bytes[..] {
        [] => return Err(Error::data(path, "the file is empty")),
        [0x89, b'P', b'N', b'G', ..] => ImageFormat::Png,
        [0xff, 0xd8, ..] => ImageFormat::Jpeg,
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => ImageFormat::Tiff,
        _ => return Err(Error::data(path, "is neither PNG, JPEG nor TIFF (an error page saved as an image?)")),
    };
    let bad = |e: image::ImageError| Error::data(path, format!("cannot decode {}: {e}", format.extensions_str()[0].to_uppercase()));
    let mut decoder = ImageReader::with_format(Cursor::new(&bytes), format).into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    if width > max_side || height > max_side {
        return Err(Error::data(path, format!("is {width} x {height} pixels, more than preprocess.max_pixels_side = {max_side}")));
    }
    if width == 0 || height == 0 {
        return Err(Error::data(path, "has no pixels"));
    }
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(Error::data(path, "has floating-point pixels; expected 8 or 16 bit"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(u64::from(max_side).pow(2) * 16);
    decoder.set_limits(limits).map_err(bad)?;
    DynamicImage::from_decoder(decoder).map_err(bad)
}

/// To `side` x `side`: area averaging when both sides shrink, bilinear otherwise.
pub fn resize(plane: Plane, side: usize) -> Result<Plane> {
    if (plane.width, plane.height) == (side, side) {
        return Ok(plane);
    }
    let filter = if plane.width >= side && plane.height >= side { FilterType::Box } else { FilterType::Bilinear };
    let source = images::Image::from_vec_u8(plane.width as u32, plane.height as u32, plane.pixels, PixelType::U8).map_err(Error::failed)?;
    let mut target = images::Image::new(side as u32, side as u32, PixelType::U8);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&source, &mut target, &options).map_err(Error::failed)?;
    Ok(Plane { width: side, height: side, pixels: target.into_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, Rgb};

    fn saved(name: &str, image: impl Into<DynamicImage>) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        image.into().save(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn coloured_files_give_the_plane_of_their_channel() {
        let (_dir, path) = saved("a.png", ImageBuffer::from_fn(5, 3, |x, y| Rgb([10 * x as u8, 20 * y as u8, 7u8])));
        let planes: Vec<_> = (0..4).map(|c| read_channel(&path, c, 100).unwrap()).collect();
        assert_eq!((planes[0].width, planes[0].height), (5, 3));
        assert_eq!(planes.iter().map(|p| p.pixels[8]).collect::<Vec<_>>(), [30, 20, 7, 25]);
        assert_eq!(read_luma(&path, 100).unwrap().pixels[8], luma(30, 20, 7));
    }

    #[test]
    fn depth_and_format_do_not_matter() {
        let (_a, eight) = saved("a.png", ImageBuffer::from_fn(7, 5, |x, y| Luma([(x * 37 + y * 11) as u8])));
        let (_b, sixteen) = saved("a.tif", ImageBuffer::from_fn(7, 5, |x, y| Luma([u16::from((x * 37 + y * 11) as u8) * 257])));
        assert_eq!(read_channel(&eight, 0, 100).unwrap(), read_channel(&sixteen, 2, 100).unwrap());
        let gz = sixteen.with_extension("tif.gz");
        let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&gz).unwrap(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &fs::read(&sixteen).unwrap()).unwrap();
        encoder.finish().unwrap();
        assert_eq!(read_channel(&gz, 0, 100).unwrap(), read_channel(&eight, 1, 100).unwrap());
    }

    #[test]
    fn bad_files_name_themselves_and_bombs_are_refused() {
        let (_dir, path) = saved("a.png", ImageBuffer::from_fn(64, 8, |_, _| Luma([1u8])));
        let message = |p: &Path, side| {
            let e = read_channel(p, 0, side).unwrap_err();
            assert!(e.to_string().contains("a.png") && e.exit_code() == 65, "{e}");
            e.to_string()
        };
        assert!(message(&path, 63).contains("64 x 8"));
        // A header that promises 60000 x 60000 pixels in a file of some bytes.
        let mut bomb = fs::read(&path).unwrap();
        bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, &bomb).unwrap();
        assert!(message(&path, 8192).contains("60000 x 60000"));
        fs::write(&path, "<html>404</html>").unwrap();
        assert!(message(&path, 100).contains("neither PNG"));
        fs::write(&path, "").unwrap();
        assert!(message(&path, 100).contains("empty"));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn shrinking_averages_areas() {
        let plane = Plane { width: 4, height: 4, pixels: (0..16).map(|i| i * 10).collect() };
        let small = resize(plane, 2).unwrap();
        assert_eq!(small.pixels, [25, 45, 105, 125]);
    }
}
