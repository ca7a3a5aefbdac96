use std::{fs, io::Write, path::PathBuf};

use ::tiff::encoder::{TiffEncoder, colortype};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;
use crate::base::Result;

const SIDE: usize = 40;

fn pattern(side: usize) -> Vec<u8> {
    (0..side * side).map(|i| ((i % side * 7) ^ (i / side * 3)) as u8).collect()
}

fn png_of(side: usize, color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side as u32, side as u32);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    bytes
}

fn tiff_of<C: colortype::ColorType>(side: usize, data: &[C::Inner]) -> Vec<u8>
where
    [C::Inner]: ::tiff::encoder::TiffValue,
{
    let mut bytes = std::io::Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes).unwrap().write_image::<C>(side as u32, side as u32, data).unwrap();
    bytes.into_inner()
}

fn jpeg_of(side: usize, color: image::ExtendedColorType, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.encode(data, side as u32, side as u32, color).unwrap();
    bytes
}

/// A JPEG of RGB `pixels`, `[height, width, 3]`.
pub(crate) fn rgb_jpeg(
    pixels: &[u8],
    width: usize,
    height: usize,
    layout: turbojpeg::Subsamp,
    quality: i32,
) -> Vec<u8> {
    let (pitch, format) = (3 * width, turbojpeg::PixelFormat::RGB);
    let image = turbojpeg::Image { pixels, width, pitch, height, format };
    turbojpeg::compress(image, quality, layout).unwrap().to_vec()
}

/// Its colours at half the size.
fn colour_jpeg(gray: &[u8]) -> Vec<u8> {
    let pixels: Vec<u8> = gray.iter().flat_map(|&v| [v, v / 2, 255 - v]).collect();
    rgb_jpeg(&pixels, SIDE, SIDE, turbojpeg::Subsamp::Sub2x2, 90)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("image.png"); // of whatever format
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, bytes: &[u8], channel: usize) -> Result<Plane> {
        read_channel(&self.file(bytes), channel, 256)
    }

    fn reason(&self, bytes: &[u8]) -> String {
        let e = self.read(bytes, 0).unwrap_err();
        assert!(e.to_string().contains("image.png") && e.exit_code() == 65, "{e}");
        e.to_string()
    }
}

#[test]
fn all_gray_formats_give_the_same_plane() {
    let gray = pattern(SIDE);
    let wide: Vec<u16> = gray.iter().map(|&v| u16::from(v) * 257).collect();
    let big_endian: Vec<u8> = wide.iter().flat_map(|v| v.to_be_bytes()).collect();
    let with_alpha: Vec<u8> = gray.iter().flat_map(|&v| [v, 9]).collect();
    let colours: Vec<u8> = gray.iter().flat_map(|&v| [v, v, v]).collect();
    use png::{BitDepth::*, ColorType::*};
    let variants = [
        png_of(SIDE, Grayscale, Eight, &gray),
        png_of(SIDE, Grayscale, Sixteen, &big_endian),
        png_of(SIDE, GrayscaleAlpha, Eight, &with_alpha),
        png_of(SIDE, Rgb, Eight, &colours),
        tiff_of::<colortype::Gray8>(SIDE, &gray),
        tiff_of::<colortype::Gray16>(SIDE, &wide),
        tiff_of::<colortype::RGB8>(SIDE, &colours),
        gz(&tiff_of::<colortype::Gray16>(SIDE, &wide)),
        gz(&png_of(SIDE, Grayscale, Eight, &gray)),
    ];
    let files = Files::new();
    for (i, bytes) in variants.iter().enumerate() {
        for channel in 0..4 {
            let plane = files.read(bytes, channel).unwrap();
            assert_eq!((plane.width, plane.height), (SIDE, SIDE));
            assert!(plane.pixels == gray, "variant {i}, channel {channel}");
        }
    }
}

#[test]
fn a_channel_is_its_plane_of_a_colour_image() {
    let pixels: Vec<u8> =
        (0..SIDE * SIDE).flat_map(|i| [i as u8, (i / 3) as u8, (i / 7) as u8]).collect();
    let files = Files::new();
    let bytes = png_of(SIDE, png::ColorType::Rgb, png::BitDepth::Eight, &pixels);
    for (i, p) in pixels.chunks(3).enumerate() {
        let want =
            [p[0], p[1], p[2], ((f64::from(p[0]) + f64::from(p[1])) / 2.0).round_ties_even() as u8];
        if i % 97 == 0 {
            assert_eq!([0, 1, 2, 3].map(|c| files.read(&bytes, c).unwrap().pixels[i]), want);
        }
    }
    // A JPEG whose signal is blue alone: its gray value would be an eighth.
    let blue: Vec<u8> = (0..64 * 64).flat_map(|_| [0, 0, 200]).collect();
    let bytes = jpeg_of(64, image::ExtendedColorType::Rgb8, &blue);
    let plane = files.read(&bytes, 2).unwrap();
    assert!(plane.pixels.iter().all(|&v| v.abs_diff(200) <= 3));
    let luma = Encoded::read(&files.file(&bytes), 256).unwrap().luma().unwrap();
    assert!(luma.pixels.iter().all(|&v| v < 30));
}

#[test]
fn unreadable_files_are_refused_with_the_reason() {
    let files = Files::new();
    let png = png_of(SIDE, png::ColorType::Grayscale, png::BitDepth::Eight, &pattern(SIDE));
    let jpeg = jpeg_of(SIDE, image::ExtendedColorType::L8, &pattern(SIDE));
    let tiff = tiff_of::<colortype::Gray8>(SIDE, &pattern(SIDE));
    assert!(files.read(&jpeg, 0).is_ok());
    files.reason(b"");
    assert!(files.reason(b"<html>404").contains("`<html>404`"));
    assert!(files.reason(b"GIF89a....").contains("GIF"));
    assert!(files.reason(b"ZISRAWFILE\0\0").contains("CZI"));
    // 12 bits are no fault of the file.
    let mut twelve = jpeg.clone();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    twelve[frame + 4] = 12;
    assert!(!files.reason(&twelve).contains("broken"), "{}", files.reason(&twelve));
    let mut marker = jpeg.clone();
    let table = jpeg.windows(2).position(|marker| marker == [0xff, 0xdb]).unwrap();
    marker[table + 1] = 0x9b;
    assert!(files.reason(&marker).contains("broken"), "{}", files.reason(&marker));
    assert!(files.reason(&png[..png.len() / 2]).contains("PNG"));
    files.reason(&jpeg[..jpeg.len() * 2 / 3]);
    assert!(files.reason(&tiff[..tiff.len() / 2]).contains("TIFF"));
    assert!(files.reason(&gz(&png)[..40]).contains("gzip"));
    let mut flipped = png.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert!(files.reason(&flipped).contains("PNG"));
    let float = tiff_of::<colortype::Gray32Float>(2, &[0.5, 0.1, 0.2, 0.3]);
    assert!(files.reason(&float).contains("TIFF"), "{}", files.reason(&float));
    let e = read_channel(&files.0.path().join("none.png"), 0, 256).unwrap_err();
    assert!(e.to_string().contains("none.png"), "{e}");
}

/// EXIF data that say how an image is to be turned, and nothing else.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// TIFF's own tag is in tiff/tests.rs.
#[test]
fn an_orientation_is_honoured_in_jpeg_and_png() {
    let gray = pattern(SIDE);
    let with_exif = |jpeg: &[u8], orientation| {
        let exif = [b"Exif\0\0", &exif(orientation)[..]].concat();
        let length = (exif.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], b"\xff\xe1", &length, &exif, &jpeg[2..]].concat()
    };
    let with_chunk = |png: &[u8], orientation| {
        let chunk = [b"eXIf", &exif(orientation)[..]].concat();
        let (length, mut crc) = ((chunk.len() as u32 - 4).to_be_bytes(), flate2::Crc::new());
        crc.update(&chunk);
        [&png[..33], &length, &chunk, &crc.sum().to_be_bytes(), &png[33..]].concat()
    };
    let png = png_of(SIDE, png::ColorType::Grayscale, png::BitDepth::Eight, &gray);
    let files = Files::new();
    let read = |bytes: &[u8]| files.read(bytes, 0).unwrap().pixels;
    let last = SIDE - 1;
    for (upright, turned) in [
        (colour_jpeg(&gray), with_exif(&colour_jpeg(&gray), 6)),
        (png.clone(), with_chunk(&png, 6)),
    ] {
        let (upright, turned) = (read(&upright), read(&turned));
        for (x, y) in [(0, 0), (3, 0), (5, 31), (39, 2)] {
            assert_eq!(turned[y * SIDE + x], upright[(last - x) * SIDE + y], "{x}, {y}");
        }
    }
    for nonsense in [0, 1, 9] {
        assert_eq!(read(&with_chunk(&png, nonsense)), gray);
    }
    // A quarter turn swaps the sides, before decoding too.
    let wide = rgb_jpeg(&[9; 3 * 8 * 4], 8, 4, turbojpeg::Subsamp::None, 90);
    let path = files.file(&with_exif(&wide, 8));
    assert_eq!(Encoded::read(&path, 256).unwrap().dimensions(), (4, 8));
}

/// A palette of four bytes, over which `png` 0.18.1 panics (mended there, not yet released).
pub(crate) fn broken_palette() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![1, 2, 3, 4]);
    encoder.write_header().unwrap().write_image_data(&[0]).unwrap();
    bytes
}

#[test]
fn a_panic_of_a_decoder_is_an_error_of_its_file() {
    assert!(Files::new().reason(&broken_palette()).contains("broken PNG"));
}

#[test]
fn bombs_are_refused_by_their_header() {
    let files = Files::new();
    // 100,000 x 100,000 pixels announced in 100 bytes.
    let mut bomb = png_of(1, png::ColorType::Grayscale, png::BitDepth::Eight, &[0]);
    bomb[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let mut crc = flate2::Crc::new();
    crc.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let reason = files.reason(&bomb);
    assert!(
        reason.contains("100000x100000") && reason.contains("preprocess.max_pixels_side = 256"),
        "{reason}"
    );
    assert!(files.reason(&gz(&bomb)).contains("100000x100000"));
    let wide = jpeg_of(300, image::ExtendedColorType::L8, &vec![0; 300 * 300]);
    assert!(files.reason(&wide).contains("300x300"));
    // A gigabyte of nothing in a megabyte of gzip.
    let zeros = gz(&vec![0; 4 << 20]);
    assert!(files.reason(&zeros).contains("inflates to more than"));
    assert!(files.reason(&vec![b'x'; 3 << 20]).contains("larger than any image"));
}

proptest! {
    /// Whatever the bytes, reading answers; it never panics and never takes memory for what a
    /// header claims.
    #[test]
    fn damaged_files_never_panic(
        kind in 0..5usize, at in 0..4000usize, value: u8, cut in 0..4000usize,
    ) {
        let gray = pattern(SIDE);
        let mut bytes = match kind {
            0 => png_of(SIDE, png::ColorType::Grayscale, png::BitDepth::Eight, &gray),
            1 => jpeg_of(SIDE, image::ExtendedColorType::L8, &gray),
            2 => tiff_of::<colortype::Gray8>(SIDE, &gray),
            3 => colour_jpeg(&gray),
            _ => gz(&tiff_of::<colortype::Gray8>(SIDE, &gray)),
        };
        let n = bytes.len();
        bytes[at % n] = value;
        bytes.truncate(n - cut % n / 2);
        if let Ok(plane) = Files::new().read(&bytes, 0) {
            prop_assert_eq!(plane.pixels.len(), plane.width * plane.height);
        }
    }
}
