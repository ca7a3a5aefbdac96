//! What the tags of an image say: how its pixels are stored and what they mean. Everything that is
//! not read is refused here, by its name.

use std::ops::Range;

use super::{
    compression::Compression,
    directory::{Directory, File, MOST_VALUES, tag},
    fault::{broken, not_read},
    pages,
};
use crate::data::image::raster::{Format, Header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    /// Only in JPEG, whose decoder makes RGB of it.
    YCbCr,
}

/// The image of a file. Memory is taken for no more than the tags' values.
pub struct Layout<'a> {
    pub file: File<'a>,
    pub width: u32,
    pub height: u32,
    pub orientation: u8,
    pub compression: Compression,
    pub meaning: Meaning,
    /// Bits of a value, 1 to 16.
    pub bits: u32,
    /// Values of a pixel, 1 to 4.
    pub samples: usize,
    /// Whether each of them is a plane of its own, one after the other.
    pub planar: bool,
    /// Whether values are differences to the pixel on the left.
    pub differences: bool,
    /// Whether the bits of each byte run from the lowest to the highest.
    pub reversed: bool,
    /// Width and height of a strip or tile.
    pub chunk: [u32; 2],
    /// Red, green and blue of each value, `[3, 2^bits]`.
    pub palette: Vec<u64>,
    pub jpeg_tables: &'a [u8],
    /// Where each strip or tile lies and how many bytes it has.
    pub offsets: Vec<u64>,
    pub lengths: Vec<u64>,
}

/// A tile may be that much wider than its image; what lies outside is decompressed all the same.
const WIDEST_MARGIN: u64 = 4096;
/// A limit to the time that millions of tiny tiles take.
const MOST_CHUNKS: u64 = MOST_VALUES;

/// Format, dimensions and orientation.
pub fn header(bytes: &[u8]) -> Result<Header, String> {
    let layout = Layout::read(bytes)?;
    Ok(Header {
        format: Format::Tiff,
        width: layout.width,
        height: layout.height,
        orientation: layout.orientation,
        // The image, and one plane of it or what a JPEG in it is decoded to.
        bytes_per_pixel: 2 * layout.step() as u64 + 1,
        is_wide: layout.bits == 16,
    })
}

impl<'a> Layout<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (file, first) = File::open(bytes)?;
        let page = pages::image(file, first)?;
        let side = |tag| {
            u32::try_from(page.number(tag, 0)?).map_err(|_| broken("a side has above 2^32 pixels"))
        };
        let (width, height) = (side(tag::WIDTH)?, side(tag::HEIGHT)?);
        let compression = Compression::of(page.number(tag::COMPRESSION, 1)?)?;
        let bits = bits(&page)?;
        let samples = page.number(tag::SAMPLES, 1)?;
        let meaning = meaning(&page, samples, bits, compression)?;
        let planar = page.number(tag::PLANAR, 1)? == 2 && samples > 1;
        if planar && meaning == Meaning::YCbCr {
            return Err(not_read("in YCbCr colours with a plane for each"));
        }
        let chunk = chunk_size(&page, [width, height].map(u64::from))?;
        let [offsets, lengths] = match page.has(tag::TILE_OFFSETS) {
            true => [tag::TILE_OFFSETS, tag::TILE_LENGTHS],
            false => [tag::STRIP_OFFSETS, tag::STRIP_LENGTHS],
        };
        let layout = Self {
            file,
            width,
            height,
            orientation: page.orientation()?,
            compression,
            meaning,
            bits,
            samples: samples as usize,
            planar,
            differences: differences(&page, compression, bits)?,
            // a JPEG is a stream of bytes, whatever the order of bits
            reversed: page.number(tag::FILL_ORDER, 1)? == 2 && compression != Compression::Jpeg,
            chunk,
            palette: if meaning == Meaning::Palette { palette(&page, bits)? } else { Vec::new() },
            jpeg_tables: page.bytes(tag::JPEG_TABLES)?,
            offsets: page.numbers(offsets)?,
            lengths: page.numbers(lengths)?,
        };
        layout.check_chunks()?;
        Ok(layout)
    }

    /// Values of a pixel of the decoded image.
    pub fn step(&self) -> usize {
        if self.meaning == Meaning::Palette { 3 } else { self.samples }
    }

    /// Values of a pixel of a strip or tile.
    pub fn samples_in_chunk(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Strips or tiles of a plane, across and down.
    pub fn grid(&self) -> [u64; 2] {
        let [across, down] = self.chunk.map(u64::from);
        [u64::from(self.width).div_ceil(across), u64::from(self.height).div_ceil(down)]
    }

    /// The columns or rows of the image in the `i`th chunk along an axis, 0 across, 1 down.
    pub fn range(&self, axis: usize, i: u64) -> Range<usize> {
        let side = [self.width, self.height][axis] as usize;
        let first = i as usize * self.chunk[axis] as usize;
        first..side.min(first + self.chunk[axis] as usize)
    }

    /// Whether the tables of strips or tiles can be those of this image.
    fn check_chunks(&self) -> Result<(), String> {
        let [across, down] = self.grid();
        let planes = if self.planar { self.samples as u64 } else { 1 };
        let n = across.saturating_mul(down).saturating_mul(planes);
        let (offsets, lengths) = (self.offsets.len() as u64, self.lengths.len() as u64);
        if offsets < n || lengths < n && !(lengths == 0 && n == 1) {
            return Err(broken(format!(
                "{n} strips or tiles are expected, but {offsets} offsets and {lengths} lengths \
                    are given"
            )));
        }
        if n > MOST_CHUNKS {
            return Err(not_read(format!("of {n} strips or tiles")));
        }
        // Where strips share their bytes, a small file could be decompressed without end.
        let claimed = self.lengths[..lengths.min(n) as usize]
            .iter()
            .fold(0u64, |sum, &length| sum.saturating_add(length));
        let pixels = u64::from(self.width) * u64::from(self.height);
        if claimed
            > (self.file.bytes.len() as u64)
                .saturating_add(pixels.saturating_mul(2 * self.samples as u64))
        {
            return Err(broken(format!("its strips or tiles claim {claimed} bytes")));
        }
        Ok(())
    }
}

/// Bits of a value, the same for all values of a pixel.
fn bits(page: &Directory) -> Result<u32, String> {
    let (mut bits, formats) = (page.numbers(tag::BITS)?, page.numbers(tag::SAMPLE_FORMAT)?);
    bits.truncate(8); // no more values than a message has room for
    let first = bits.first().copied().unwrap_or(1);
    if bits.iter().any(|&b| b != first) {
        return Err(not_read(format!("with values of {bits:?} bits")));
    }
    // 1: unsigned, 4: not said
    match formats.into_iter().find(|format| !matches!(format, 1 | 4)) {
        Some(2) => return Err(not_read(format!("with signed numbers ({first}-bit)"))),
        Some(3) => return Err(not_read(format!("with floating-point numbers ({first}-bit)"))),
        Some(5 | 6) => return Err(not_read(format!("with complex numbers ({first}-bit)"))),
        Some(other) => return Err(not_read(format!("with numbers of format {other}"))),
        None => {}
    }
    match first {
        1..=16 => Ok(first as u32),
        0 => Err(broken("values of 0 bits")),
        _ => Err(not_read(format!("with {first}-bit numbers"))),
    }
}

/// What the values mean, checked against how many a pixel has.
fn meaning(
    page: &Directory,
    samples: u64,
    bits: u32,
    compression: Compression,
) -> Result<Meaning, String> {
    let guess = if samples < 3 { 1 } else { 2 };
    let meaning = match page.number(tag::PHOTOMETRIC, guess)? {
        0 => Meaning::WhiteIsZero,
        1 => Meaning::BlackIsZero,
        2 => Meaning::Rgb,
        3 if bits <= 8 => Meaning::Palette,
        3 => return Err(not_read(format!("with a palette of {bits} bits"))),
        4 => return Err(not_read("that is a transparency mask")),
        5 => return Err(not_read("in the colours of print (CMYK)")),
        6 if compression == Compression::Jpeg => Meaning::YCbCr,
        6 => return Err(not_read("in YCbCr colours without JPEG")),
        8..=10 => return Err(not_read("in Lab colours")),
        32803 | 34892 => return Err(not_read("with a camera's raw values")),
        32844 | 32845 => return Err(not_read("with logarithmic values (LogLuv)")),
        other => return Err(not_read(format!("with photometric interpretation {other}"))),
    };
    // 1 and 2: opacity
    let opacity = matches!(page.numbers(tag::EXTRA_SAMPLES)?[..], [1 | 2]);
    let right = match meaning {
        Meaning::WhiteIsZero | Meaning::BlackIsZero => samples == 1 || samples == 2 && opacity,
        Meaning::Palette => samples == 1,
        Meaning::Rgb => samples == 3 || samples == 4,
        Meaning::YCbCr => samples == 3,
    };
    match (right, compression) {
        (false, _) => Err(format!(
            "a TIFF with {samples} values a pixel that are no gray, RGB or RGBA, such as several \
                channels in one page; save each channel as a file of its own, such as ID_green.tif"
        )),
        (true, Compression::Jpeg) if bits != 8 => Err(not_read(format!("with a {bits}-bit JPEG"))),
        (true, Compression::Jpeg)
            if !matches!(samples, 1 | 3) && page.number(tag::PLANAR, 1)? != 2 =>
        {
            Err(not_read("with opacity in a JPEG"))
        }
        _ => Ok(meaning),
    }
}

/// libtiff undoes a predictor only behind the compressions that were defined with one.
fn differences(page: &Directory, compression: Compression, bits: u32) -> Result<bool, String> {
    use Compression::*;
    match (compression, page.number(tag::PREDICTOR, 1)?) {
        (None | PackBits | Jpeg, _) | (_, 1) => Ok(false),
        (_, 2) if matches!(bits, 8 | 16) => Ok(true),
        (_, 2) => Err(not_read(format!("with a predictor for {bits} bits"))),
        (_, other) => Err(not_read(format!("with predictor {other}"))),
    }
}

fn palette(page: &Directory, bits: u32) -> Result<Vec<u64>, String> {
    let colours = page.numbers(tag::COLOUR_MAP)?;
    match colours.len() {
        n if n == 3 << bits => Ok(colours),
        n => Err(broken(format!("a palette of {n} values, expected {}", 3 << bits))),
    }
}

/// Width and height of a strip or tile.
fn chunk_size(page: &Directory, [width, height]: [u64; 2]) -> Result<[u32; 2], String> {
    let [w, h] = match page.has(tag::TILE_OFFSETS) {
        true => [page.number(tag::TILE_WIDTH, 0)?, page.number(tag::TILE_HEIGHT, 0)?],
        false => [width.max(1), page.number(tag::ROWS_PER_STRIP, height.max(1))?],
    };
    if w == 0 || h == 0 || w > (width + WIDEST_MARGIN).min(u32::MAX.into()) {
        return Err(broken(format!("strips or tiles of {w}x{h} pixels")));
    }
    Ok([w as u32, u32::try_from(h).unwrap_or(u32::MAX)])
}
