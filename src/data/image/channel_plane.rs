//! One image file: recognised, measured, and decoded to the plane of a channel.

use std::{fs, io::Read, path::Path};

use multiversion::multiversion;

use super::{
    buffers::{buffer, reuse},
    decode, jpeg,
    luma::{halved, luma},
    orientation,
    raster::{Format, Header, Plane, Raster},
};
use crate::base::{Error, Result, gunzip::Gunzip};

/// The content of an image file, recognised and measured but not yet decoded.
pub struct Encoded<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    header: Header,
}

/// Decodes `channel` (0 red, 1 green, 2 blue, 3 yellow) of the image at `path`.
///
/// # Errors
/// Names the file: it cannot be read, is no image of a known kind, is broken or cut short, or is
/// wider or higher than `max_side` pixels.
pub fn read_channel(path: &Path, channel: usize, max_side: u32) -> Result<Plane> {
    Ok(Encoded::read(path, max_side)?.channel(channel)?.whole())
}

impl<'a> Encoded<'a> {
    /// Reads a file (inflates it where it is gzipped) and its header.
    pub fn read(path: &'a Path, max_side: u32) -> Result<Self> {
        let largest = largest(max_side);
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_or(0, |m| m.len().min(largest));
        // one more, so that its end is seen without growing
        let mut bytes = Vec::with_capacity(length as usize + 1);
        file.take(largest + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Self::new(path, bytes, max_side)
    }

    /// As [`read`](Self::read), of a file's content; `path` is its name in messages.
    pub fn new(path: &'a Path, mut bytes: Vec<u8>, max_side: u32) -> Result<Self> {
        let largest = largest(max_side);
        let wrong = |what: String| Error::data(path, what);
        if bytes.len() as u64 > largest {
            return Err(wrong(format!(
                "is larger than any image of {max_side} pixels a side (preprocess.max_pixels_side)"
            )));
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = inflate(&bytes, largest).map_err(wrong)?;
        }
        let header = decode::header(&bytes).map_err(wrong)?;
        let (w, h) = (header.width, header.height);
        if w == 0 || h == 0 {
            return Err(wrong(format!("the image is empty ({w}x{h} pixels)")));
        }
        if w.max(h) > max_side {
            return Err(wrong(format!(
                "{w}x{h} pixels, above preprocess.max_pixels_side = {max_side}; it was not decoded"
            )));
        }
        Ok(Self { path, bytes, header })
    }

    /// Width and height in pixels, of the upright image.
    pub fn dimensions(&self) -> (u32, u32) {
        let Header { width, height, orientation, .. } = self.header;
        if orientation::swaps(orientation) { (height, width) } else { (width, height) }
    }

    /// Whether it is a JPEG, which takes longer per pixel.
    pub fn is_jpeg(&self) -> bool {
        self.header.format == Format::Jpeg
    }

    /// Whether its values have 16 bits, which are scaled to 8.
    pub fn is_wide(&self) -> bool {
        self.header.is_wide
    }

    /// About how many bytes of memory decoding takes at its peak.
    pub fn memory(&self) -> u64 {
        let Header { width, height, orientation, bytes_per_pixel, .. } = self.header;
        let turns = if orientation == 1 { 1 } else { 2 };
        u64::from(width) * u64::from(height) * bytes_per_pixel * turns
    }

    /// Decodes the plane that holds `channel` (0 red, 1 green, 2 blue, 3 yellow).
    pub fn channel(self, channel: usize) -> Result<Channel> {
        if self.is_jpeg()
            && self.header.orientation == 1
            && let Some(planes) =
                decode::planes(&self.bytes).map_err(|what| Error::data(self.path, what))?
        {
            let [width, height] = self.sides();
            return Ok(Channel { width, height, rows: Rows::Computed(planes, channel) });
        }
        let Plane { width, height, pixels } = match channel {
            0 => self.plane(|rgb| rgb[0]),
            1 => self.plane(|rgb| rgb[1]),
            2 => self.plane(|rgb| rgb[2]),
            _ => self.plane(|rgb| halved(rgb[0], rgb[1])),
        }?;
        Ok(Channel { width, height, rows: Rows::Decoded(pixels) })
    }

    /// Decodes to brightness as Pillow's `convert("L")` does: gray as it is, colours by [`luma`].
    pub fn luma(self) -> Result<Plane> {
        self.plane(|rgb| luma(rgb[0], rgb[1], rgb[2]))
    }

    /// Decodes a coloured image to red, green, blue and yellow. Yellow is its fourth value where
    /// that varies; an image without one, or with one that is the same everywhere (plain opacity),
    /// gives `(R + G) / 2`, as [`Encoded::channel`] does.
    ///
    /// # Errors
    /// Data where the image is broken, or gray: that is one channel and not four.
    pub fn rgby(self) -> Result<[Plane; 4]> {
        let path = self.path;
        let (Raster { step, pixels }, [width, height]) = self.raster()?;
        if step < 3 {
            let what = "a gray image is one channel; give all four, or one image in colours";
            return Err(Error::data(path, what));
        }
        let varies = step == 4 && pixels.chunks_exact(4).any(|p| p[3] != pixels[3]);
        let plane = |value: &dyn Fn(&[u8]) -> u8| Plane {
            width,
            height,
            pixels: pixels.chunks_exact(step).map(value).collect(),
        };
        let yellow = |p: &[u8]| if varies { p[3] } else { halved(p[0], p[1]) };
        Ok([plane(&|p| p[0]), plane(&|p| p[1]), plane(&|p| p[2]), plane(&yellow)])
    }

    fn sides(&self) -> [usize; 2] {
        let (width, height) = self.dimensions();
        [width as usize, height as usize]
    }

    /// All values of all pixels, with width and height.
    fn raster(self) -> Result<(Raster, [usize; 2])> {
        let stored = [self.header.width, self.header.height].map(|side| side as usize);
        let raster = decode::decode(&self.bytes, &self.header)
            .map_err(|what| Error::data(self.path, what))?;
        if raster.pixels.len() != stored[0] * stored[1] * raster.step {
            let what = "an image layout that is not supported; convert it to PNG";
            return Err(Error::data(self.path, what));
        }
        let sides = self.sides();
        Ok((orientation::upright(raster, stored, self.header.orientation), sides))
    }

    fn plane(self, pick: impl Fn(&[u8]) -> u8) -> Result<Plane> {
        let (Raster { step, pixels }, [width, height]) = self.raster()?;
        let plane = match step {
            1 => return Ok(Plane { width, height, pixels }),
            2 => picked(pixels.as_chunks::<2>().0, |p| p[0]), // gray and alpha
            3 => picked(pixels.as_chunks::<3>().0, pick),
            _ => picked(pixels.as_chunks::<4>().0, pick),
        };
        reuse(pixels);
        Ok(Plane { width, height, pixels: plane })
    }
}

/// Bytes of the largest image file that is read: no image within the limit has more than its 16-bit
/// RGB pixels plus some headers.
pub fn largest(max_side: u32) -> u64 {
    u64::from(max_side).pow(2) * 6 + (1 << 20)
}

/// One channel of an image, decoded as far as is needed to have its rows.
pub struct Channel {
    width: usize,
    height: usize,
    rows: Rows,
}

enum Rows {
    Decoded(Vec<u8>),
    /// Of which channel.
    Computed(jpeg::Planes, usize),
}

impl Channel {
    /// Hands out the rows from the top, `rows` at a time; the last band may have fewer. What is
    /// done with a band while it is in the processor's cache need not fetch it from memory again.
    pub fn bands(self, rows: usize, mut each: impl FnMut(&[u8])) {
        let length = rows.min(self.height) * self.width;
        match self.rows {
            Rows::Decoded(pixels) => {
                pixels.chunks(length).for_each(each);
                reuse(pixels);
            }
            Rows::Computed(planes, channel) => {
                let mut band = buffer(length);
                for first in (0..self.height).step_by(rows) {
                    let band = &mut band[..rows.min(self.height - first) * self.width];
                    planes.rows(channel, first, band);
                    each(band);
                }
                reuse(band);
                planes.reuse();
            }
        }
    }

    /// All rows.
    pub fn whole(self) -> Plane {
        let (width, height) = (self.width, self.height);
        let pixels = match self.rows {
            Rows::Decoded(pixels) => pixels,
            Rows::Computed(planes, channel) => {
                let mut pixels = buffer(width * height);
                planes.rows(channel, 0, &mut pixels);
                planes.reuse();
                pixels
            }
        };
        Plane { width, height, pixels }
    }
}

/// One value of each pixel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn picked<const STEP: usize>(pixels: &[[u8; STEP]], pick: impl Fn(&[u8]) -> u8) -> Vec<u8> {
    pixels.iter().map(|pixel| pick(pixel)).collect()
}

/// Inflates at most `largest` bytes, and where less would do at most 64 MiB or a hundred times the
/// packed size: a bomb inflates a thousandfold, a dark 16-bit microscope image some tenfold.
fn inflate(packed: &[u8], largest: u64) -> Result<Vec<u8>, String> {
    let limit = largest.min((64 << 20).max(packed.len() as u64 * 100));
    let mut bytes = Vec::new();
    let mut gunzip = Gunzip::new(packed);
    (&mut gunzip)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("broken gzip data: {e}"))?;
    if bytes.len() as u64 > limit {
        let why = match limit < largest {
            true => format!("a hundred times its size ({}); store it without gzip", packed.len()),
            false => "an image within preprocess.max_pixels_side needs".into(),
        };
        return Err(format!("inflates to more than {limit} bytes, more than {why}"));
    }
    if let Gunzip::End { rubbish: true } = gunzip {
        return Err("broken gzip data: bytes that are not gzip follow it".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::contact_sheet::encode_png;

    fn planes(pixels: &[u8], colour: png::ColorType) -> Result<[Vec<u8>; 4]> {
        let bytes = encode_png(pixels, 2, 1, colour).unwrap();
        Ok(Encoded::new(Path::new("a.png"), bytes, 10)?.rgby()?.map(|p| p.pixels))
    }

    #[test]
    fn yellow_is_the_fourth_value_or_the_mean_of_red_and_green() {
        let got = planes(&[10, 20, 30, 40, 50, 60, 70, 80], png::ColorType::Rgba).unwrap();
        assert_eq!(got, [vec![10, 50], vec![20, 60], vec![30, 70], vec![40, 80]]);
        // 15.5 and 55.5, halves to even
        let mean = [vec![10, 50], vec![21, 61], vec![30, 70], vec![16, 56]];
        assert_eq!(
            planes(&[10, 21, 30, 255, 50, 61, 70, 255], png::ColorType::Rgba).unwrap(),
            mean
        );
        assert_eq!(planes(&[10, 21, 30, 50, 61, 70], png::ColorType::Rgb).unwrap(), mean);
    }

    #[test]
    fn gray_images_and_large_ones_are_refused() {
        let e = planes(&[1, 2], png::ColorType::Grayscale).unwrap_err();
        assert!(e.to_string().contains("a.png: "), "{e}");
        let bytes = encode_png(&[0; 33], 11, 1, png::ColorType::Rgb).unwrap();
        let e = Encoded::new(Path::new("a.png"), bytes, 10).err().unwrap();
        assert!(e.to_string().contains("11x1"), "{e}");
    }
}
