//! The pixels on a line through an image, many at a time.

use std::ops::Range;

use multiversion::multiversion;

use super::fixed_point::{FRACTION, HALF, after, bilinear, gather, mix, share, spread};

/// Pixels that are read first and then mixed, many at a time.
pub const RUN: usize = 32;

/// Fills `out` with the pixels of `image` `[side, side]` at `place` (x, y), `place + step` and so
/// on, each as [`bilinear`] has it.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn line(image: &[[u8; 4]], side: usize, place: [i64; 2], step: [i64; 2], out: &mut [[u8; 4]]) {
    let n = out.len();
    let limit = i64::MAX / (2 * side.max(n) as i64 + 2);
    let absurd = place.iter().chain(&step).any(|v| !(-limit..limit).contains(v));
    // Where nothing is absurd, no sum below wraps.
    let middle = if absurd { 0..0 } else { inside(side, place, step, n) };
    let mut pairs = Pairs { above: [0; RUN], below: [0; RUN] };
    for (span, is_inside) in
        [(0..middle.start, false), (middle.clone(), true), (middle.end..n, false)]
    {
        for first in span.clone().step_by(RUN) {
            let out = &mut out[first..span.end.min(first + RUN)];
            let place = after(place, step, first);
            if is_inside {
                pairs.look_up(image, side, place, step, out.len());
            } else if !absurd
                && is_near(side, place)
                && is_near(side, after(place, step, out.len() - 1))
            {
                pairs.look_up_mirrored(image, side, place, step, out.len());
            } else {
                for (i, pixel) in out.iter_mut().enumerate() {
                    let [x, y] = after(place, step, i);
                    *pixel = bilinear(image, side, x, y);
                }
                continue;
            }
            pairs.mix(place, step, out);
        }
    }
}

/// Which of `n` places on a line lie between pixels of an image of `side`.
#[inline(always)]
fn inside(side: usize, place: [i64; 2], step: [i64; 2], n: usize) -> Range<usize> {
    let end = (side as i64 - 1) << FRACTION;
    let (mut from, mut to) = (0, n as i64);
    for (v, step) in place.into_iter().zip(step) {
        let v = v + HALF;
        // Downwards is upwards from the other end.
        let (v, step) = if step < 0 { (end - 1 - v, -step) } else { (v, step) };
        // The number of the first place that is not below `bound`.
        let first = |bound: i64| -(v - bound).div_euclid(step);
        match step {
            0 if (0..end).contains(&v) => (),
            0 => return 0..0,
            _ => (from, to) = (from.max(first(0)), to.min(first(end))),
        }
    }
    if from < to { from as usize..to as usize } else { 0..0 }
}

/// Whether a place is inside once it is mirrored at one edge.
#[inline(always)]
fn is_near(side: usize, place: [i64; 2]) -> bool {
    let last = side as i64 - 1;
    place.iter().all(|v| (-last..2 * last).contains(&((v + HALF) >> FRACTION)))
}

/// For each place of a run, two neighbours at once: the left one in the lower half, the right one
/// in the upper half.
struct Pairs {
    above: [u64; RUN],
    below: [u64; RUN],
}

impl Pairs {
    /// The neighbours of `n` places that are inside.
    #[inline(always)]
    fn look_up(
        &mut self,
        image: &[[u8; 4]],
        side: usize,
        place: [i64; 2],
        step: [i64; 2],
        n: usize,
    ) {
        let mut at = [0; RUN];
        for (i, at) in at.iter_mut().enumerate() {
            let [x, y] = pixel(place, step, i);
            *at = (y as u32).wrapping_mul(side as u32).wrapping_add(x as u32);
        }
        let bytes = image.as_flattened();
        for ((at, above), below) in at.iter().zip(&mut self.above).zip(&mut self.below).take(n) {
            let around = &bytes[4 * *at as usize..][..4 * side + 8];
            let pair =
                |at: usize| around[at..].first_chunk().map_or(0, |pair| u64::from_le_bytes(*pair));
            (*above, *below) = (pair(0), pair(4 * side));
        }
    }

    /// The neighbours of `n` places that are near.
    #[inline(always)]
    fn look_up_mirrored(
        &mut self,
        image: &[[u8; 4]],
        side: usize,
        place: [i64; 2],
        step: [i64; 2],
        n: usize,
    ) {
        let last = side as i32 - 1;
        let mirror = |v: i32| (last - (last - v.wrapping_abs()).wrapping_abs()) as u32;
        let mut at = [[0; 4]; RUN];
        for (i, at) in at.iter_mut().enumerate() {
            let [x, y] = pixel(place, step, i);
            let [left, right] = [mirror(x), mirror(x.wrapping_add(1))];
            let [top, bottom] = [y, y.wrapping_add(1)].map(|y| mirror(y).wrapping_mul(side as u32));
            *at = [(top, left), (top, right), (bottom, left), (bottom, right)]
                .map(|(row, column)| row.wrapping_add(column));
        }
        let pair = |left: u32, right: u32| {
            let [left, right] =
                [left, right].map(|at| u64::from(u32::from_le_bytes(image[at as usize])));
            left | right << 32
        };
        for ((at, above), below) in at.iter().zip(&mut self.above).zip(&mut self.below).take(n) {
            (*above, *below) = (pair(at[0], at[1]), pair(at[2], at[3]));
        }
    }

    /// Mixes the neighbours by where the places lie between them.
    #[inline(always)]
    fn mix(&self, place: [i64; 2], step: [i64; 2], out: &mut [[u8; 4]]) {
        let mut mixed = [[0; 4]; RUN];
        // Their lower halves are enough, of which twice as many are counted at a time.
        let lower = |v: i64| v as u32;
        let ([x, y], [right, down]) = (place.map(|v| lower(v.wrapping_add(HALF))), step.map(lower));
        for (i, mixed) in mixed.iter_mut().enumerate() {
            let along = |v: u32, step: u32| share(v.wrapping_add(step.wrapping_mul(i as u32)));
            let (x, y) = (along(x, right), along(y, down));
            let across = |pair: u64| mix(spread(pair as u32), spread((pair >> 32) as u32), x);
            *mixed = gather(mix(across(self.above[i]), across(self.below[i]), y));
        }
        out.copy_from_slice(&mixed[..out.len()]);
    }
}

/// The pixel left of and above the place `i` of a line.
#[inline(always)]
fn pixel(place: [i64; 2], step: [i64; 2], i: usize) -> [i32; 2] {
    after(place, step, i).map(|v| (v.wrapping_add(HALF) >> FRACTION) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i64 = 1 << FRACTION;

    /// Places and steps of all kinds: still, slow, backwards, along one axis, as long as the image,
    /// absurd.
    fn lines(side: usize) -> impl Iterator<Item = ([i64; 2], [i64; 2])> {
        let edge = side as i64 * ONE;
        let places = [
            0,
            -HALF,
            -HALF - 1,
            edge / 3 + 12_345,
            edge - ONE - HALF - 1,
            edge - ONE,
            -edge,
            2 * edge + 99,
            i64::MAX,
            i64::MIN,
        ];
        let steps = [0, 1, -1, ONE / 3, ONE, -ONE + 7, 3 * ONE + 1, -edge, i64::MAX / 3, i64::MIN];
        let pairs = |of: [i64; 10]| of.into_iter().flat_map(move |x| of.map(|y| [x, y]));
        pairs(places).flat_map(move |place| pairs(steps).map(move |step| (place, step)))
    }

    #[test]
    fn lines_equal_pixels_one_after_the_other() {
        for (side, n) in [(1, 3), (2, 5), (37, 2 * RUN + 5), (3 * RUN, RUN)] {
            let image: Vec<[u8; 4]> = (0..(side * side) as u32)
                .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
                .collect();
            let mut out = vec![[0; 4]; n];
            for (place, step) in lines(side) {
                line(&image, side, place, step, &mut out);
                for (i, got) in out.iter().enumerate() {
                    let [x, y] = after(place, step, i);
                    let want = bilinear(&image, side, x, y);
                    assert_eq!(*got, want, "side {side}, from {place:?} by {step:?}, pixel {i}");
                }
            }
        }
    }

    #[test]
    fn inside_is_where_all_four_neighbours_are() {
        for (side, n) in [(1, 3), (2, 5), (37, 60)] {
            let small = |v: &i64| v.unsigned_abs() < 1 << 40;
            for (place, step) in
                lines(side).filter(|(place, step)| place.iter().chain(step).all(small))
            {
                let neighbours = |i: usize| after(place, step, i).map(|v| (v + HALF) >> FRACTION);
                let want: Vec<usize> = (0..n)
                    .filter(|&i| neighbours(i).iter().all(|v| (0..side as i64 - 1).contains(v)))
                    .collect();
                let got: Vec<usize> = inside(side, place, step, n).collect();
                assert_eq!(got, want, "side {side}, from {place:?} by {step:?}");
            }
        }
    }
}
