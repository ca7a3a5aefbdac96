//! Crops, turns and flips as one strided copy, and resizing.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::base::{Error, Result};

/// A square window on a square image: the pixel at (row, column) of the window is `origin + row *
/// down + column * right` of the image. Turns and flips only change these three numbers, so that
/// any chain of them is one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    side: usize,
    origin: isize,
    down: isize,
    right: isize,
}

/// Side of the blocks in which turned pixels are copied.
const BLOCK: usize = 32;

impl Window {
    /// The `side` x `side` pixels from (`top`, `left`) of an image `[image_side, image_side]`;
    /// panics where it does not fit.
    pub fn new(image_side: usize, top: usize, left: usize, side: usize) -> Self {
        assert!(
            side >= 1 && top + side <= image_side && left + side <= image_side,
            "crop of {side} at ({top}, {left}) of an image of {image_side} pixels"
        );
        Self {
            side,
            origin: (top * image_side + left) as isize,
            down: image_side as isize,
            right: 1,
        }
    }

    /// Turned counter-clockwise by `quarters` times 90 degrees.
    pub fn turned(self, quarters: usize) -> Self {
        (0..quarters % 4).fold(self, |w, _| Self {
            origin: w.origin + w.last() * w.right,
            down: -w.right,
            right: w.down,
            ..w
        })
    }

    /// Upside down.
    pub fn flipped_vertically(self) -> Self {
        Self { origin: self.origin + self.last() * self.down, down: -self.down, ..self }
    }

    /// Left and right exchanged.
    pub fn flipped_horizontally(self) -> Self {
        Self { origin: self.origin + self.last() * self.right, right: -self.right, ..self }
    }

    /// Copies the window out of `image` into `out` `[side, side]`.
    pub fn copy(self, image: &[[u8; 4]], out: &mut [[u8; 4]]) {
        assert_eq!(out.len(), self.side * self.side);
        if self.right.abs() == 1 {
            let first = if self.right == 1 { 0 } else { self.last() };
            for (row, out) in out.chunks_exact_mut(self.side).enumerate() {
                out.copy_from_slice(
                    &image[(self.origin + row as isize * self.down - first) as usize..]
                        [..self.side],
                );
                if self.right == -1 {
                    out.reverse();
                }
            }
            return;
        }
        // Turned by 90 degrees, neighbours lie in different rows of the image, whose cache lines
        // also hold pixels of the next rows of the window: in blocks, they are read once.
        for (block, out) in out.chunks_mut(BLOCK * self.side).enumerate() {
            for left in (0..self.side).step_by(BLOCK) {
                for (row, out) in out.chunks_exact_mut(self.side).enumerate() {
                    let mut at = self.origin
                        + (block * BLOCK + row) as isize * self.down
                        + left as isize * self.right;
                    for pixel in out[left..].iter_mut().take(BLOCK) {
                        *pixel = image[at as usize];
                        at += self.right;
                    }
                }
            }
        }
    }

    fn last(self) -> isize {
        self.side as isize - 1
    }
}

/// Resizes `image` `[from, from, 4]` into `out` `[to, to, 4]`, each channel for itself: a triangle
/// as wide as an output pixel when shrinking (no aliasing), bilinear when growing.
pub fn resize(
    resizer: &mut Resizer,
    image: &[u8],
    from: usize,
    out: &mut [u8],
    to: usize,
) -> Result<()> {
    let (from, to) = (from as u32, to as u32);
    let source = ImageRef::new(from, from, image, PixelType::U8x4).map_err(Error::failed)?;
    let mut target = Image::from_slice_u8(to, to, out, PixelType::U8x4).map_err(Error::failed)?;
    // The fourth channel is the yellow one, not alpha: nothing may be multiplied with it.
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false);
    resizer.resize(&source, &mut target, &options).map_err(Error::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(side: usize) -> Vec<[u8; 4]> {
        (0..side * side).map(|i| [i as u8, (i >> 8) as u8, (i * 7) as u8, (i * 13) as u8]).collect()
    }

    #[test]
    fn windows_equal_index_formulas() {
        // Within one block, and over several.
        for (n, top, left, s) in [(23, 4, 9, 11), (101, 4, 9, 2 * BLOCK + 7)] {
            let image = numbered(n);
            let crop = |r: usize, c: usize| image[(top + r) * n + left + c];
            let window = Window::new(n, top, left, s);
            let e = s - 1;
            type At<'a> = Box<dyn Fn(usize, usize) -> [u8; 4] + 'a>;
            let cases: [(Window, At); 7] = [
                (window, Box::new(crop)),
                (window.turned(1), Box::new(|r, c| crop(c, e - r))),
                (window.turned(2), Box::new(|r, c| crop(e - r, e - c))),
                (window.turned(3), Box::new(|r, c| crop(e - c, r))),
                (window.flipped_vertically(), Box::new(|r, c| crop(e - r, c))),
                (window.flipped_horizontally(), Box::new(|r, c| crop(r, e - c))),
                // First the turn, then the flip of what it gave.
                (window.turned(1).flipped_vertically(), Box::new(|r, c| crop(c, r))),
            ];
            for (i, (window, at)) in cases.iter().enumerate() {
                let mut out = vec![[0; 4]; s * s];
                window.copy(&image, &mut out);
                for r in 0..s {
                    for c in 0..s {
                        assert_eq!(out[r * s + c], at(r, c), "case {i} at ({r}, {c})");
                    }
                }
            }
            assert_eq!(window.turned(4), window);
        }
    }

    /// The definition: pixel centres, a triangle of half-width max(1, from / to), normalised over
    /// the pixels inside.
    fn reference(image: &[[u8; 4]], from: usize, to: usize) -> Vec<[f64; 4]> {
        let scale = from as f64 / to as f64;
        let row = |o: usize| -> Vec<f64> {
            let centre = (o as f64 + 0.5) * scale;
            let w: Vec<f64> = (0..from)
                .map(|i| (1.0 - (i as f64 + 0.5 - centre).abs() / scale.max(1.0)).max(0.0))
                .collect();
            let total: f64 = w.iter().sum();
            w.into_iter().map(|w| w / total).collect()
        };
        let taps: Vec<Vec<f64>> = (0..to).map(row).collect();
        let mut out = vec![[0.0; 4]; to * to];
        for (i, out) in out.iter_mut().enumerate() {
            for y in 0..from {
                for x in 0..from {
                    let weight = taps[i / to][y] * taps[i % to][x];
                    (0..4).for_each(|c| out[c] += weight * f64::from(image[y * from + x][c]));
                }
            }
        }
        out
    }

    #[test]
    fn resize_equals_its_definition_and_never_mixes_channels() {
        for (from, to) in [(24, 10), (10, 24), (31, 30)] {
            let image = numbered(from);
            let mut out = vec![0; to * to * 4];
            resize(&mut Resizer::new(), image.as_flattened(), from, &mut out, to).unwrap();
            for (got, want) in out.iter().zip(reference(&image, from, to).as_flattened()) {
                // Two passes, each rounded to a level.
                let off = (f64::from(*got) - want).abs();
                assert!(off <= 1.01, "{from} to {to}: {got}, expected {want}");
            }
        }
    }
}
