//! One picture with all four channels of a sample.

use super::{Encoded, Plane, decode, halved};
use crate::base::{Error, Result};

impl Encoded<'_> {
    /// Decodes a coloured picture to red, green, blue and yellow. Yellow is its fourth value where
    /// that varies; a picture without one, or with one that is the same everywhere (plain opacity),
    /// gives `(R + G) / 2`, as [`Encoded::channel`] does.
    ///
    /// # Errors
    /// Data where the picture is broken, or gray: that is one channel and not four.
    pub fn rgby(self) -> Result<[Plane; 4]> {
        let decode::Raster { step, pixels } = decode::decode(self.bytes, &self.header)
            .map_err(|what| Error::data(self.path, what))?;
        let (width, height) = (self.header.width as usize, self.header.height as usize);
        if pixels.len() != width * height * step {
            return Err(Error::data(
                self.path,
                "a picture layout that is not supported; convert it to PNG",
            ));
        }
        if step < 3 {
            return Err(Error::data(
                self.path,
                "a gray picture is one channel; give all four, or one picture in colours",
            ));
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
    fn gray_pictures_and_large_ones_are_refused() {
        let e = planes(&[1, 2], png::ColorType::Grayscale).unwrap_err();
        assert!(e.to_string().contains("a.png: "), "{e}");
        let bytes = encode_png(&[0; 33], 11, 1, png::ColorType::Rgb).unwrap();
        assert!(
            Encoded::new(Path::new("a.png"), bytes, 10).err().unwrap().to_string().contains("11x1")
        );
    }
}
