//! JPEG, decoded by libjpeg-turbo: the pixels are those of OpenCV and Pillow.
//!
//! Images of one colour need no colour image: from planes of brightness and of colour at half
//! the size (4:2:0), as nearly all files hold them, a channel is computed at once, to the bit as
//! libjpeg-turbo would.

use multiversion::multiversion;
use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, Subsamp, YuvImage, yuv_pixels_len};

use super::{
    buffers::{buffer, reuse},
    luma::halved,
    orientation,
    raster::{Format, Header, Raster},
};

/// No encoder writes more scans; a hostile file can keep a decoder busy with thousands.
const SCANS: u32 = 200;

pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    let header = decoder()?.read_header(bytes).map_err(broken)?;
    // 16 bits in the file
    let [width, height] = [header.width, header.height].map(|side| side as u32);
    // A progressive JPEG keeps all coefficients, two bytes each, until its last scan.
    let bytes_per_pixel = if header.is_progressive { 10 } else { 4 };
    let (format, orientation, is_wide) = (Format::Jpeg, orientation::of_jpeg(bytes), false);
    Ok(Header { format, width, height, orientation, bytes_per_pixel, is_wide })
}

/// Gray or RGB.
pub(super) fn decode(bytes: &[u8]) -> Result<Raster, String> {
    let mut decoder = decoder()?;
    let header = decoder.read_header(bytes).map_err(broken)?;
    let (step, format) = match header.colorspace {
        Colorspace::Gray => (1, PixelFormat::GRAY),
        Colorspace::CMYK | Colorspace::YCCK => {
            return Err("a JPEG in the colours of print (CMYK); convert it to RGB".into());
        }
        _ => (3, PixelFormat::RGB),
    };
    let (width, height, pitch) = (header.width, header.height, header.width * step);
    let mut pixels = buffer(pitch * height);
    decoder
        .decompress(bytes, Image { pixels: &mut pixels[..], width, pitch, height, format })
        .map_err(broken)?;
    Ok(Raster { step, pixels })
}

/// An image in 4:2:0 with even sides as its planes of brightness `[height, width]`, Cb and Cr
/// `[height / 2, width / 2]`, one after the other.
pub(super) struct Planes {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

impl Planes {
    /// `None` where the image is of another layout.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut decoder = decoder()?;
        let header = decoder.read_header(bytes).map_err(broken)?;
        let (width, height, subsamp) = (header.width, header.height, header.subsamp);
        // Below that width, libjpeg does not smooth.
        if header.colorspace != Colorspace::YCbCr
            || subsamp != Subsamp::Sub2x2
            || width % 2 + height % 2 > 0
            || width < 6
        {
            return Ok(None);
        }
        let mut values = buffer(yuv_pixels_len(width, 1, height, subsamp).map_err(broken)?);
        decoder
            .decompress_to_yuv(
                bytes,
                YuvImage { pixels: &mut values[..], width, align: 1, height, subsamp },
            )
            .map_err(broken)?;
        Ok(Some(Self { width, height, values }))
    }

    /// Fills `out` with rows from `first` of the plane of `channel`, as
    /// [`Encoded::channel`](super::Encoded::channel) counts.
    pub fn rows(&self, channel: usize, first: usize, out: &mut [u8]) {
        let (luma, chroma) = self.values.split_at(self.width * self.height);
        let (blue, red) = chroma.split_at(luma.len() / 4);
        convert([luma, blue, red], self.width, channel, first, out);
    }

    /// Keeps their memory for the next image.
    pub fn reuse(self) {
        reuse(self.values);
    }
}

fn decoder() -> Result<Decompressor, String> {
    let mut decoder =
        Decompressor::new().map_err(|e| format!("cannot start the JPEG decoder: {e}"))?;
    decoder.set_scan_limit(SCANS).map_err(broken)?;
    Ok(decoder)
}

/// The decoder also reports what it could decode past, such as missing rows that it filled with
/// gray.
fn broken(e: turbojpeg::Error) -> String {
    match e {
        turbojpeg::Error::TurboJpegError(what) if what.contains("Premature end") => {
            "cut short: the JPEG ends too soon".into()
        }
        // An unknown marker is a damaged one, although its message says "Unsupported marker type".
        turbojpeg::Error::TurboJpegError(what)
            if what.contains("nsupported") && !what.contains("marker type") =>
        {
            format!("a JPEG of a kind that is not read ({what}); convert it to PNG")
        }
        turbojpeg::Error::TurboJpegError(what) => format!("broken JPEG: {what}"),
        turbojpeg::Error::BadSubsamp(_) => {
            "a JPEG whose colours are at an unusual size; convert it to PNG".into()
        }
        other => format!("broken JPEG: {other}"),
    }
}

/// Rows `first` and below, `out` `[rows, width]`, from brightness `[height, width]`, Cb and Cr
/// `[height / 2, width / 2]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn convert(
    [luma, blue, red]: [&[u8]; 3],
    width: usize,
    channel: usize,
    first: usize,
    out: &mut [u8],
) {
    let half = width / 2;
    let last = blue.len() / half - 1;
    let (mut cb, mut cr) = (Line::new(width), Line::new(width));
    for (y, (luma, out)) in
        (first..).zip(luma[first * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)))
    {
        // The row of colours that lies three times as near, and the other one.
        let near = y / 2;
        let far = if y % 2 == 0 { near.saturating_sub(1) } else { last.min(near + 1) };
        if channel != 0 {
            cb.fill(&blue[near * half..][..half], &blue[far * half..][..half]);
        }
        if channel != 2 {
            cr.fill(&red[near * half..][..half], &red[far * half..][..half]);
        }
        let colours = luma.iter().zip(cb.values.iter().zip(&cr.values));
        let pixels = out
            .iter_mut()
            .zip(colours)
            .map(|(out, (&y, (&cb, &cr)))| (out, i16::from(y), centred(cb), centred(cr)));
        match channel {
            0 => pixels.for_each(|(out, y, _, cr)| *out = to_red(y, cr)),
            1 => pixels.for_each(|(out, y, cb, cr)| *out = to_green(y, cb, cr)),
            2 => pixels.for_each(|(out, y, cb, _)| *out = to_blue(y, cb)),
            _ => pixels
                .for_each(|(out, y, cb, cr)| *out = halved(to_red(y, cr), to_green(y, cb, cr))),
        }
    }
}

/// A row of Cb or Cr at twice the size: libjpeg's "fancy upsampling", a triangle over both
/// directions.
struct Line {
    /// Three times the nearer row and once the other one, with its first and last value repeated.
    sums: Vec<u16>,
    values: Vec<u8>,
}

impl Line {
    fn new(width: usize) -> Self {
        Self { sums: vec![0; width / 2 + 2], values: vec![0; width] }
    }

    #[inline(always)]
    fn fill(&mut self, near: &[u8], far: &[u8]) {
        let n = near.len();
        for ((sum, &near), &far) in self.sums[1..].iter_mut().zip(near).zip(far) {
            *sum = 3 * u16::from(near) + u16::from(far);
        }
        (self.sums[0], self.sums[n + 1]) = (self.sums[1], self.sums[n]);
        let (left, middle, right) = (&self.sums[..n], &self.sums[1..][..n], &self.sums[2..][..n]);
        let pairs = &mut self.values.as_chunks_mut().0[..n];
        for i in 0..n {
            pairs[i] = [
                ((3 * middle[i] + left[i] + 8) >> 4) as u8,
                ((3 * middle[i] + right[i] + 7) >> 4) as u8,
            ];
        }
    }
}

// JFIF's conversion as libjpeg rounds it: factors in units of 2^-16, less whole ones so that 16
// bits hold what is multiplied.

/// R = Y + 1.402 Cr
#[inline(always)]
fn to_red(y: i16, cr: i16) -> u8 {
    clip(y + cr + share(cr, 26_345))
}

/// G = Y - 0.34414 Cb - 0.71414 Cr; the rest of the factors, 18,734 and 22,554, as 256 times one
/// number and another.
#[inline(always)]
fn to_green(y: i16, cb: i16, cr: i16) -> u8 {
    let (high, low) = (73 * cr - 88 * cb, 46 * cr - 26 * cb);
    clip(y - cr + ((high + (low >> 8) + 128) >> 8))
}

/// B = Y + 1.772 Cb
#[inline(always)]
fn to_blue(y: i16, cb: i16) -> u8 {
    clip(y + 2 * cb + share(cb, -14_942))
}

/// `v * factor / 2^16`, rounded.
#[inline(always)]
fn share(v: i16, factor: i32) -> i16 {
    (((factor * i32::from(2 * v)) >> 16) as i16 + 1) >> 1
}

#[inline(always)]
fn centred(v: u8) -> i16 {
    i16::from(v) - 128
}

#[inline(always)]
fn clip(v: i16) -> u8 {
    v.clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{base::rng, data::image::tests::rgb_jpeg};

    proptest! {
        /// Against the colour image that libjpeg-turbo makes; noise, so that all colours and
        /// their limits occur.
        #[test]
        fn a_channel_is_that_of_the_colour_image(
            half in 3..40usize, half_height in 1..20usize, quality in 5..=100, seed: u64,
        ) {
            let (width, height) = (2 * half, 2 * half_height);
            let mut pixels = vec![0; 3 * width * height];
            rng::stream(rng::Use::Synth, seed, 0, 0).fill_bytes(&mut pixels);
            let bytes = rgb_jpeg(&pixels, width, height, Subsamp::Sub2x2, quality);
            let rgb = decode(&bytes).unwrap();
            for c in 0..4 {
                let value = |p: &[u8; 3]| if c < 3 { p[c] } else { halved(p[0], p[1]) };
                let want: Vec<u8> = rgb.pixels.as_chunks::<3>().0.iter().map(value).collect();
                let planes = Planes::decode(&bytes).unwrap().unwrap();
                let mut got = vec![0; width * height];
                for (i, out) in got.chunks_mut(6 * width).enumerate() {
                    planes.rows(c, 6 * i, out);
                }
                prop_assert!(got == want, "channel {c} of {width}x{height}");
            }
        }
    }

    #[test]
    fn other_layouts_are_decoded_to_the_colour_image() {
        let pixels = vec![77; 3 * 31 * 30];
        for width in [4, 31] {
            let bytes = rgb_jpeg(&pixels, width, 30, Subsamp::Sub2x2, 90);
            assert!(Planes::decode(&bytes).unwrap().is_none());
        }
        assert!(Planes::decode(&rgb_jpeg(&pixels, 30, 31, Subsamp::None, 90)).unwrap().is_none());
        assert_eq!(decode(&rgb_jpeg(&pixels, 31, 30, Subsamp::Gray, 90)).unwrap().step, 1);
    }
}
