//! Pillow's resize of 8-bit gray images with the Lanczos filter, bit for bit
//! (libImaging/Resample.c): coefficients in fixed point with 22 bits, rows first, rounded and
//! clipped to 8 bits after each pass.

use std::{cell::RefCell, rc::Rc};

mod approximate;
mod window;

use approximate::{Rough, Scratch};
use window::{Window, windows};

/// An image that is being resized to `side` x `side`. A pass that would not change the size is
/// skipped, as in Pillow.
pub(super) struct Resize {
    width: usize,
    height: usize,
    side: usize,
    /// What came in, by column; already resized along the rows, unless that is to be done last.
    taken: Vec<u8>,
    /// Number of rows that came in.
    rows: usize,
    scratch: Scratch,
}

impl Resize {
    pub fn new(width: usize, height: usize, side: usize) -> Self {
        let mut resize =
            Self { width, height, side, taken: Vec::new(), rows: 0, scratch: Scratch::default() };
        resize.taken = vec![0; height * resize.taken_width()];
        resize
    }

    /// Since version 13, Pillow shrinks the height first where that takes away more than twice what
    /// the width loses.
    fn down_first(&self) -> bool {
        self.height > self.side && self.height + self.side > 2 * self.width
    }

    fn taken_width(&self) -> usize {
        if self.down_first() { self.width } else { self.side }
    }

    /// Takes the next rows, from the top.
    pub fn push(&mut self, rows: &[u8]) {
        let to = self.taken_width();
        turn(rows, self.width, to, &mut self.scratch, &mut self.taken[self.rows..], self.height);
        self.rows += rows.len() / self.width;
    }

    /// The resized image, after all rows.
    pub fn finish(mut self) -> Vec<u8> {
        let (width, height, side, flat) = (self.width, self.height, self.side, self.taken_width());
        let mut turned = |pixels: &[u8], from: usize, to: usize| {
            let rows = pixels.len() / from;
            let mut out = vec![0; to * rows];
            turn(pixels, from, to, &mut self.scratch, &mut out, rows);
            out
        };
        let rows = turned(&self.taken, height, side);
        if flat == side {
            return rows;
        }
        let columns = turned(&rows, width, side);
        turned(&columns, side, side) // of one size: only turned back
    }
}

/// Resizes each row from `from` to `to` pixels; it becomes a column, of row i and new pixel x
/// `out[x * rows + i]`.
fn turn(pixels: &[u8], from: usize, to: usize, scratch: &mut Scratch, out: &mut [u8], rows: usize) {
    if from == to {
        for (i, row) in pixels.chunks_exact(from).enumerate() {
            row.iter().enumerate().for_each(|(x, &p)| out[x * rows + i] = p);
        }
        return;
    }
    let kept = kept(from, to);
    approximate::turn(pixels, from, &kept.0, &kept.1, scratch, out, rows);
}

/// From and to how many pixels, and the windows.
type Kept = (usize, usize, Rc<(Vec<Window>, Rough)>);

thread_local! {
    /// The last windows made: images of one size follow each other, and the sines take longer
    /// than the sums.
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

fn kept(from: usize, to: usize) -> Rc<(Vec<Window>, Rough)> {
    LAST.with_borrow_mut(|last| match last {
        Some((a, b, windows)) if (*a, *b) == (from, to) => windows.clone(),
        _ => {
            let windows = windows(from, to);
            let rough = Rough::new(&windows);
            last.insert((from, to, Rc::new((windows, rough)))).2.clone()
        }
    })
}
