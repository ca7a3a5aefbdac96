//! Images to look at: RGBY samples side by side on one RGB sheet, as PNG.

use std::path::Path;

use crate::base::{Error, Result, atomic_file};

/// One tile of a sheet: four planes `[size, size]` in the order red, green, blue, yellow, and a
/// caption of digits, commas and blanks (a gap for other characters).
pub struct Tile<'a> {
    pub planes: [&'a [u8]; 4],
    pub caption: String,
}

/// An RGB image, row by row, `[height, width, 3]`.
pub struct Sheet {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

/// Space between tiles in pixels; it holds the caption.
const GAP: usize = 9;

/// Sample planes of `size` px in rows of `columns`: each tile the four channels together (yellow
/// adds to red and green, at half strength) above its green channel alone. Tiles larger than `side`
/// are averaged down to at most that.
///
/// # Panics
/// If a plane is not `size` x `size`.
pub fn contact_sheet(tiles: &[Tile], size: usize, side: usize, columns: usize) -> Sheet {
    let step = size.div_ceil(side.max(1)).max(1);
    let (tile, columns) = (size / step, columns.clamp(1, tiles.len().max(1)));
    let (pitch_x, pitch_y) = (tile + GAP, 2 * tile + GAP + 2);
    let (width, height) = (columns * pitch_x + 2, tiles.len().div_ceil(columns) * pitch_y + 2);
    let mut sheet = Sheet { width, height, rgb: vec![40; width * height * 3] };
    for (number, t) in tiles.iter().enumerate() {
        let (left, top) = (number % columns * pitch_x + 2, number / columns * pitch_y + 2);
        sheet.caption(left, top, &t.caption);
        for y in 0..tile {
            for x in 0..tile {
                let [r, g, b, yellow] =
                    t.planes.map(|p| average(p, size, x * step, y * step, step));
                let sum = |a: u16, b: u16| (a + b).min(255) as u8;
                let colours = [sum(r, yellow / 2), sum(g, yellow / 2), b as u8];
                sheet.set(left + x, top + GAP - 2 + y, colours);
                sheet.set(left + x, top + GAP - 1 + tile + y, [g as u8; 3]);
            }
        }
    }
    sheet
}

fn average(plane: &[u8], size: usize, x: usize, y: usize, step: usize) -> u16 {
    let sum: usize = (y..y + step)
        .map(|y| plane[y * size + x..][..step].iter().map(|&v| usize::from(v)).sum::<usize>())
        .sum();
    (sum / (step * step)) as u16
}

impl Sheet {
    fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        self.rgb[(y * self.width + x) * 3..][..3].copy_from_slice(&colour);
    }

    /// Writes text in 3 x 5 px digits.
    fn caption(&mut self, left: usize, top: usize, text: &str) {
        // Five rows of three bits per digit, top row first.
        const DIGITS: [u16; 10] = [
            0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71111, 0o75757,
            0o75717,
        ];
        for (i, c) in text.chars().enumerate() {
            let (glyph, x) = (c.to_digit(10).map_or(0, |d| DIGITS[d as usize]), left + 4 * i);
            for bit in (0..15).filter(|bit| glyph >> (14 - bit) & 1 == 1) {
                if x + bit % 3 < self.width {
                    self.set(x + bit % 3, top + bit / 3, [230; 3]);
                }
            }
        }
    }

    /// Writes the sheet as PNG, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = encode_png(&self.rgb, self.width, self.height, png::ColorType::Rgb)?;
        atomic_file::write(path, bytes)
    }
}

/// PNG of 8-bit pixels.
pub fn encode_png(
    pixels: &[u8],
    width: usize,
    height: usize,
    colour: png::ColorType,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(pixels.len() / 2);
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header().map_err(Error::failed)?;
    writer.write_image_data(pixels).map_err(Error::failed)?;
    writer.finish().map_err(Error::failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_end_in_their_colours() {
        let (full, empty) = (vec![200u8; 16], vec![0u8; 16]);
        let tile = |channel: usize| {
            let planes: [&[u8]; 4] =
                std::array::from_fn(
                    |c| if c == channel { full.as_slice() } else { empty.as_slice() },
                );
            Tile { planes, caption: String::new() }
        };
        let sheet = contact_sheet(&[tile(0), tile(1), tile(2), tile(3)], 4, 4, 4);
        let at = |tile: usize, y: usize| {
            &sheet.rgb[((2 + GAP - 2 + y) * sheet.width + 2 + tile * (4 + GAP)) * 3..][..3]
        };
        assert_eq!(
            [at(0, 0), at(1, 0), at(2, 0), at(3, 0)],
            [[200, 0, 0], [0, 200, 0], [0, 0, 200], [100, 100, 0]]
        );
        assert_eq!([at(0, 5), at(1, 5), at(3, 5)], [[0; 3], [200; 3], [0; 3]]);
    }

    #[test]
    fn large_tiles_are_averaged_down() {
        let plane: Vec<u8> = (0..64).map(|i| if i % 2 == 0 { 100 } else { 0 }).collect();
        let sheet = contact_sheet(&[Tile { planes: [&plane; 4], caption: "1 23".into() }], 8, 4, 3);
        assert_eq!((sheet.width, sheet.height), (4 + GAP + 2, 8 + GAP + 4));
        // red 50 + half of yellow 50
        assert_eq!(sheet.rgb[((2 + GAP - 2) * sheet.width + 2) * 3], 75);
    }

    #[test]
    fn png_comes_back() {
        let pixels: Vec<u8> = (0..60).collect();
        let bytes = encode_png(&pixels, 5, 12, png::ColorType::Grayscale).unwrap();
        let image = image::load_from_memory(&bytes).unwrap();
        assert_eq!((image.width(), image.height()), (5, 12));
        assert_eq!(image.into_luma8().into_raw(), pixels);
    }
}
