//! Rows resized many at a time. Sums of products of 16-bit numbers, of which a processor takes the
//! most at once: of a weight only the upper 16 bits are taken, and where what is missing might
//! change the rounded result, the sum is made again in full, once or twice in a hundred times.

use pulp::{
    NullaryFnOnce,
    bytemuck::Zeroable,
    cast,
    x86::{V3, V4},
};

use super::window::{Window, exact, round};
use lanes::{Lanes, ROWS, STEP};

mod lanes;

/// Windows in a form for [`turn`].
pub struct Rough {
    /// What a weight was divided by, as a power of two.
    exponent: u32,
    /// Groups of four pixels per window, as many as the longest one needs.
    groups: usize,
    /// By window, the group that it starts in.
    starts: Vec<usize>,
    /// [`groups`](Self::groups) per window: weights of the even pixels, of the odd ones, 16 bits
    /// each.
    weights: Vec<[i32; 2]>,
    /// By window, how much too high and too low a sum can be: its true value lies between it plus
    /// the one and it plus the other.
    bounds: Vec<[i32; 2]>,
}

impl Rough {
    pub fn new(windows: &[Window]) -> Self {
        let all = || windows.iter().flat_map(|w| &w.weights);
        let rounded = |w: i32, exponent: u32| (w + ((1 << exponent) >> 1)) >> exponent;
        let fits = |exponent: &u32| all().all(|&w| i16::try_from(rounded(w, *exponent)).is_ok());
        let exponent = (0..16).find(fits).unwrap_or(16);
        let lead = |window: &Window| window.start % 4;
        let groups =
            windows.iter().map(|w| (lead(w) + w.weights.len()).div_ceil(4)).max().unwrap_or(0);
        let mut weights = vec![[[0i16; 2]; 2]; windows.len() * groups];
        let mut bounds = Vec::new();
        for (window, to) in windows.iter().zip(weights.chunks_exact_mut(groups)) {
            let (mut low, mut high) = (0, 0);
            for (i, &w) in window.weights.iter().enumerate() {
                let (at, near) = (lead(window) + i, rounded(w, exponent));
                to[at / 4][at % 2][at % 4 / 2] = near as i16;
                let missing = 255 * (w - (near << exponent));
                (low, high) = (low + missing.min(0), high + missing.max(0));
            }
            bounds.push([low, high]);
        }
        let weights = weights.into_iter().map(cast).collect();
        let starts = windows.iter().map(|w| w.start / 4).collect();
        Self { exponent, groups, starts, weights, bounds }
    }
}

/// Memory for [`turn`], kept between its calls.
#[derive(Default)]
pub struct Scratch(Vec<Column>);

/// Four pixels of each row, as [`Lanes::split`] gives them.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Column([[i32; ROWS]; 2]);

/// Resizes each row of `width` pixels; it becomes a column, of row i and window x `out[x * rows +
/// i]`.
pub fn turn(
    pixels: &[u8],
    width: usize,
    windows: &[Window],
    rough: &Rough,
    scratch: &mut Scratch,
    out: &mut [u8],
    rows: usize,
) {
    // Windows at the end have zeros as weights of what follows the last pixel.
    scratch.0.resize(width.next_multiple_of(STEP) / 4 + rough.groups, Column([[0; ROWS]; 2]));
    let (work, columns) = (Turn { pixels, width, windows, rough, rows }, &mut scratch.0[..]);
    match (V4::try_new(), V3::try_new()) {
        (Some(lanes), _) => lanes.vectorize(By { lanes, work, columns, out }),
        (None, Some(lanes)) => lanes.vectorize(By { lanes, work, columns, out }),
        (None, None) => work.plainly(out),
    }
}

/// The work, compiled for a processor.
struct By<'a, L> {
    lanes: L,
    work: Turn<'a>,
    columns: &'a mut [Column],
    out: &'a mut [u8],
}

impl<L: Lanes> NullaryFnOnce for By<'_, L> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.work.by(self.lanes, self.columns, self.out);
    }
}

#[derive(Clone, Copy)]
struct Turn<'a> {
    pixels: &'a [u8],
    width: usize,
    windows: &'a [Window],
    rough: &'a Rough,
    rows: usize,
}

impl Turn<'_> {
    fn plainly(&self, out: &mut [u8]) {
        for (i, row) in self.pixels.chunks_exact(self.width).enumerate() {
            self.windows
                .iter()
                .enumerate()
                .for_each(|(x, window)| out[x * self.rows + i] = exact(window, row));
        }
    }

    // Loops, no closures: those are not always compiled for the processor.
    #[inline(always)]
    fn by<L: Lanes>(&self, lanes: L, columns: &mut [Column], out: &mut [u8]) {
        let &Self { pixels, width, windows, rough, rows: height } = self;
        // Values left in it from other rows and columns have no effect: they belong to no row, or
        // their weights are zeros.
        let mut part = [[0; STEP]; ROWS];
        for (tile, rows) in pixels.chunks(ROWS * width).enumerate() {
            for (x, columns) in
                (0..width).step_by(STEP).zip(columns.as_chunks_mut::<{ STEP / 4 }>().0)
            {
                for (part, row) in part.iter_mut().zip(rows.chunks_exact(width)) {
                    match row[x..].first_chunk() {
                        Some(row) => *part = *row,
                        None => part[..width - x].copy_from_slice(&row[x..]),
                    }
                }
                for (column, bytes) in columns.iter_mut().zip(lanes.transposed(&part)) {
                    *column = Column(cast(lanes.split(bytes)));
                }
            }
            for (at, out) in out.chunks_mut(height).take(windows.len()).enumerate() {
                let mut sums = [L::Vector::zeroed(); 2];
                for (weights, column) in rough.weights[at * rough.groups..][..rough.groups]
                    .iter()
                    .zip(&columns[rough.starts[at]..])
                {
                    for i in 0..2 {
                        sums[i] = lanes.add_products(sums[i], cast(column.0[i]), weights[i]);
                    }
                }
                let [even, odd]: [[i32; ROWS]; 2] = sums.map(cast);
                let ([low, high], mut least, mut most) = (rough.bounds[at], [0; ROWS], [0; ROWS]);
                for i in 0..ROWS {
                    let sum = (even[i] + odd[i]) << rough.exponent;
                    (least[i], most[i]) = (round(sum + low), round(sum + high));
                }
                if least != most {
                    for (i, row) in rows.chunks_exact(width).enumerate() {
                        if least[i] != most[i] {
                            least[i] = exact(&windows[at], row);
                        }
                    }
                }
                match out[tile * ROWS..].first_chunk_mut() {
                    Some(out) if rows.len() == ROWS * width => *out = least,
                    _ => out[tile * ROWS..][..rows.len() / width]
                        .copy_from_slice(&least[..rows.len() / width]),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::window::windows, *};
    use crate::base::rng;

    proptest! {
        /// Rough sums and then exact ones where it matters give what exact ones give, on each kind
        /// of processor.
        #[test]
        fn rows_are_the_plain_sums(
            width in 1..700usize, rows in 1..40usize, side in 1..40usize, seed: u64,
            brightest in 1..=255u32,
        ) {
            let mut pixels = vec![0; rows * width];
            rng::stream(rng::Use::Synth, seed, 0, 0).fill_bytes(&mut pixels);
            pixels.iter_mut().for_each(|p| *p = (u32::from(*p) * brightest / 255) as u8);
            let windows = windows(width, side);
            let rough = Rough::new(&windows);
            let (mut want, mut got) = (vec![0; side * rows], vec![1; side * rows]);
            let mut scratch = Scratch::default();
            let work = Turn { pixels: &pixels, width, windows: &windows, rough: &rough, rows };
            work.plainly(&mut want);
            turn(&pixels, width, &windows, &rough, &mut scratch, &mut got, rows);
            prop_assert!(got == want);
            if let Some(lanes) = V3::try_new() {
                got.fill(1);
                lanes.vectorize(By { lanes, work, columns: &mut scratch.0, out: &mut got });
                prop_assert!(got == want);
            }
        }
    }
}
