//! Coordinates in fixed point, and the bilinear mix of the four pixels around one.

/// Bits of a coordinate after the point: its lower half.
pub const FRACTION: u32 = 32;

/// The place `n` pixels further.
#[inline(always)]
pub fn after([x, y]: [i64; 2], step: [i64; 2], n: usize) -> [i64; 2] {
    [x.wrapping_add(step[0].wrapping_mul(n as i64)), y.wrapping_add(step[1].wrapping_mul(n as i64))]
}

/// How far a coordinate is from its pixel to the next, in 1/256; all of that is in its lower half.
#[inline(always)]
pub fn share(lower: u32) -> u32 {
    lower >> (FRACTION - 8)
}

/// Half of 1/256 of a pixel, to which places are rounded.
pub const HALF: i64 = 1 << (FRACTION - 9);

#[inline]
pub fn bilinear(image: &[[u8; 4]], side: usize, x: i64, y: i64) -> [u8; 4] {
    let (x, y) = (x.saturating_add(HALF), y.saturating_add(HALF));
    let (left, top) = ((x >> FRACTION) as isize, (y >> FRACTION) as isize);
    let (fx, fy) = (share(x as u32), share(y as u32));
    let inside = |v: isize| v >= 0 && v < side as isize - 1;
    let [a, b, c, d] = if inside(left) && inside(top) {
        let at = top as usize * side + left as usize;
        [at, at + 1, at + side, at + side + 1]
    } else {
        let (x0, x1) = (mirror_101(left, side), mirror_101(left + 1, side));
        let (y0, y1) = (mirror_101(top, side) * side, mirror_101(top + 1, side) * side);
        [y0 + x0, y0 + x1, y1 + x0, y1 + x1]
    };
    let pixel = |at: usize| spread(u32::from_le_bytes(image[at]));
    gather(mix(mix(pixel(a), pixel(b), fx), mix(pixel(c), pixel(d), fx), fy))
}

/// The low byte of each of two 16-bit lanes, in which two channels are mixed by one multiplication.
const LANES: u32 = 0x00ff_00ff;

/// Channels 0 and 2, and 1 and 3.
#[inline(always)]
pub fn spread(pixel: u32) -> [u32; 2] {
    [pixel & LANES, (pixel >> 8) & LANES]
}

#[inline(always)]
pub fn gather([even, odd]: [u32; 2]) -> [u8; 4] {
    (even | odd << 8).to_le_bytes()
}

/// `a + (b - a) * t / 256` in each lane, rounded.
#[inline(always)]
pub fn mix(a: [u32; 2], b: [u32; 2], t: u32) -> [u32; 2] {
    let mix = |a: u32, b: u32| ((a * (256 - t) + b * t + 0x0080_0080) >> 8) & LANES;
    [mix(a[0], b[0]), mix(a[1], b[1])]
}

/// `... c b | a b c | b a ...`
fn mirror_101(i: isize, n: usize) -> usize {
    let last = n as isize - 1;
    match i {
        // Nearly all are near, and a division is slow.
        _ if (-last..=last).contains(&i) => i.unsigned_abs(),
        _ if (last..=2 * last).contains(&i) => (2 * last - i) as usize,
        _ if last == 0 => 0,
        _ => {
            let at = i.rem_euclid(2 * last);
            at.min(2 * last - at) as usize
        }
    }
}
