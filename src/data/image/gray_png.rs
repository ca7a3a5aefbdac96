//! Gray 8-bit PNGs, as the competition's are. The `png` crate reads their chunks and inflates them;
//! the filters are undone here, since its Paeth filter alone took a fifth of the time of making a
//! shard.

use std::hint::select_unpredictable;

use multiversion::multiversion;
use png::{BitDepth, ColorType, Decoded, StreamingDecoder, UnfilterRegion, chunk};

use super::buffers::{buffer, reuse};

/// Larger chunks of anything but the image are subject to the crate's own limit.
const LARGEST: u32 = 1 << 20;

/// The pixels of a gray 8-bit image `[height, width]`; `None` for what the crate decodes: with
/// colours, 16 bit, few bits, interlaced, animated.
pub(super) fn pixels(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut decoder = StreamingDecoder::new();
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (mut rest, mut width, mut filtered, mut region) =
        (bytes, 0, Vec::new(), UnfilterRegion::default());
    loop {
        if rest.is_empty() {
            return Err("the file is cut short".into());
        }
        // Data after the last row is skipped.
        let full = region.filled == filtered.len();
        let mut target = (!full).then(|| region.as_buf(&mut filtered));
        let (taken, decoded) = decoder.update(rest, target.as_mut()).map_err(|e| e.to_string())?;
        rest = &rest[taken..];
        match decoded {
            Decoded::ChunkBegin(_, chunk::IDAT) if filtered.is_empty() => {
                let info = decoder.info().expect("no chunk is taken before IHDR");
                let plain =
                    (info.color_type, info.bit_depth) == (ColorType::Grayscale, BitDepth::Eight);
                if !plain || info.interlaced || info.animation_control.is_some() {
                    return Ok(None);
                }
                width = info.width as usize;
                filtered = buffer((width + 1) * info.height as usize);
            }
            Decoded::ChunkBegin(length, kind) if length > LARGEST && kind != chunk::IDAT => {
                return Ok(None);
            }
            Decoded::ImageDataFlushed => break,
            Decoded::ChunkComplete(chunk::IEND) => return Err("there is no image in it".into()),
            _ => {}
        }
    }
    if region.filled < filtered.len() {
        return Err(format!("its data end after {} of {} bytes", region.filled, filtered.len()));
    }
    let mut pixels = buffer(filtered.len() / (width + 1) * width);
    unfilter(&filtered, width, &mut pixels)?;
    reuse(filtered);
    Ok(Some(pixels))
}

/// Undoes the filters of rows of one byte of filter and `width` pixels (PNG specification, 9.2).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn unfilter(filtered: &[u8], width: usize, pixels: &mut [u8]) -> Result<(), String> {
    let first = vec![0; width];
    let mut above = &first[..];
    for (y, (row, out)) in
        filtered.chunks_exact(width + 1).zip(pixels.chunks_exact_mut(width)).enumerate()
    {
        let raw = &row[1..];
        match row[0] {
            0 => out.copy_from_slice(raw),
            1 => {
                let mut left = 0u8;
                for (out, &raw) in out.iter_mut().zip(raw) {
                    left = left.wrapping_add(raw);
                    *out = left;
                }
            }
            2 => {
                for ((out, &raw), &above) in out.iter_mut().zip(raw).zip(above) {
                    *out = raw.wrapping_add(above);
                }
            }
            3 => {
                let mut left = 0;
                for ((out, &raw), &above) in out.iter_mut().zip(raw).zip(above) {
                    left = raw.wrapping_add(((u16::from(left) + u16::from(above)) / 2) as u8);
                    *out = left;
                }
            }
            4 => paeth(raw, above, out),
            other => return Err(format!("row {y} has a filter {other}, expected 0 to 4")),
        }
        above = out;
    }
    Ok(())
}

/// Pixels for which what depends on the row above is computed together.
const BLOCK: usize = 64;

/// Undoes the Paeth filter, which predicts whichever of left, above and upper left is nearest to
/// left + above - upper left. Of a pixel, above and upper left are known before its left neighbour
/// is, so that what depends on them is computed for many pixels at once: the left one is predicted
/// unless it lies in `from..from + length`; there one value below `middle`, another from it on.
#[inline(always)]
fn paeth(raw: &[u8], above: &[u8], out: &mut [u8]) {
    let (mut left, mut corner) = (0, 0);
    for ((raw, above), out) in raw.chunks(BLOCK).zip(above.chunks(BLOCK)).zip(out.chunks_mut(BLOCK))
    {
        // The corner of each pixel, then what is above each.
        let mut known = [0; BLOCK + 1];
        known[0] = corner;
        known[1..=above.len()].copy_from_slice(above);
        corner = known[BLOCK];
        let mut added = [0; BLOCK];
        added[..raw.len()].copy_from_slice(raw);
        let (mut from, mut length, mut middle) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
        // Of two types: of one, the compiler would choose where to load from, and wait for it.
        let (mut low, mut high) = ([0u8; BLOCK], [0i32; BLOCK]);
        for i in 0..BLOCK {
            let (raw, c, b) = (i32::from(added[i]), i32::from(known[i]), i32::from(known[i + 1]));
            let (d, rises) = ((b - c).abs(), b >= c);
            from[i] = if rises { c - 2 * d } else { b } + 1;
            length[i] = (if rises { b } else { c + 2 * d } - from[i]).max(0);
            middle[i] = if rises { c - d / 2 } else { c + d / 2 + 1 };
            low[i] = added[i].wrapping_add(known[i].min(known[i + 1]));
            high[i] = (raw + b.max(c)) & 255;
        }
        for (i, out) in out.iter_mut().enumerate() {
            let near = select_unpredictable(left < middle[i], i32::from(low[i]), high[i]);
            let own = (i32::from(added[i]) + left) & 255;
            left = select_unpredictable(((left - from[i]) as u32) < length[i] as u32, near, own);
            *out = left as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the specification says it (9.4).
    fn predicted(a: u8, b: u8, c: u8) -> u8 {
        let p = i32::from(a) + i32::from(b) - i32::from(c);
        let far = |v: u8| (p - i32::from(v)).abs();
        match () {
            () if far(a) <= far(b) && far(a) <= far(c) => a,
            () if far(b) <= far(c) => b,
            () => c,
        }
    }

    #[test]
    fn every_left_above_and_corner_is_predicted_as_specified() {
        // A row of `c`, then one that begins with `a` and ends in what is predicted from it.
        for c in 0..=255u8 {
            for b in 0..=255u8 {
                for a in 0..=255u8 {
                    let mut out = [0; 2];
                    let above = [c, b];
                    paeth(&[a.wrapping_sub(predicted(0, c, 0)), 0], &above, &mut out);
                    assert_eq!(out, [a, predicted(a, b, c)], "{a} {b} {c}");
                }
            }
        }
    }

    /// In pieces of some hundred bytes, as large images are.
    fn encoded(
        pixels: &[u8],
        (width, height): (u32, u32),
        filter: png::Filter,
        with: impl Fn(&mut png::Encoder<&mut Vec<u8>>),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_filter(filter);
        with(&mut encoder);
        let mut writer = encoder.write_header().unwrap();
        let mut stream = writer.stream_writer_with_size(300).unwrap();
        std::io::Write::write_all(&mut stream, pixels).unwrap();
        stream.finish().unwrap();
        drop(writer);
        bytes
    }

    fn crc(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    const FILTERS: [png::Filter; 6] = [
        png::Filter::NoFilter,
        png::Filter::Sub,
        png::Filter::Up,
        png::Filter::Avg,
        png::Filter::Paeth,
        png::Filter::Adaptive,
    ];

    fn noise(len: usize, seed: u64, smooth: bool) -> Vec<u8> {
        let mut pixels = vec![0; len];
        rand::Rng::fill_bytes(
            &mut crate::base::rng::stream(crate::base::rng::Use::Synth, seed, 0, 0),
            &mut pixels,
        );
        if smooth {
            (1..len).for_each(|i| pixels[i] = pixels[i - 1].wrapping_add(pixels[i] % 5));
        }
        pixels
    }

    proptest! {
        #[test]
        fn what_was_filtered_comes_back(
            width in 1..300u32, height in 1..20u32, seed: u64, smooth: bool,
        ) {
            let want = noise((width * height) as usize, seed, smooth);
            for filter in FILTERS {
                let bytes = encoded(&want, (width, height), filter, |_| {});
                prop_assert!(pixels(&bytes).unwrap() == Some(want.clone()), "{filter:?}");
            }
        }

        /// Damaged files are taken or refused as the crate does.
        #[test]
        fn damage_is_an_error_where_it_is_one_for_the_crate(
            seed: u64, at: prop::sample::Index, change in 0..=255u8, filter in 0..6usize,
        ) {
            let mut bytes = encoded(&noise(40 * 30, seed, true), (40, 30), FILTERS[filter], |_| {});
            let at = at.index(bytes.len());
            match change {
                0 => bytes.truncate(at),
                _ => bytes[at] ^= change,
            }
            // The decoder's own memory, which its caller has checked, aside.
            let sound = bytes.len() > 24 && bytes[16..24] == [0, 0, 0, 40, 0, 0, 0, 30];
            if sound {
                match (pixels(&bytes), crate::data::image::decode::png(&bytes)) {
                    (Ok(Some(ours)), Ok(theirs)) => prop_assert!(ours == theirs.pixels),
                    (Ok(None), _) | (Err(_), Err(_)) => {}
                    (ours, theirs) => prop_assert!(false, "byte {at} ^ {change}: {ours:?}, the \
                        crate {:?}", theirs.map(|r| r.pixels)),
                }
            }
        }
    }

    #[test]
    fn other_kinds_are_left_to_the_crate() {
        let kind = |color, depth| {
            move |encoder: &mut png::Encoder<&mut Vec<u8>>| {
                encoder.set_color(color);
                encoder.set_depth(depth);
            }
        };
        for (color, depth, bytes) in [
            (ColorType::Rgb, BitDepth::Eight, 24),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, 16),
            (ColorType::Grayscale, BitDepth::Sixteen, 16),
            (ColorType::Grayscale, BitDepth::Four, 4),
        ] {
            let image = encoded(&vec![7; bytes], (2, 4), png::Filter::Sub, kind(color, depth));
            assert_eq!(pixels(&image).unwrap(), None, "{color:?} {depth:?}");
        }
        let animated = encoded(&[7; 8], (2, 4), png::Filter::Sub, |encoder| {
            encoder.set_animated(1, 0).unwrap()
        });
        assert_eq!(pixels(&animated).unwrap(), None);
        let mut interlaced = encoded(&[7; 8], (2, 4), png::Filter::Sub, |_| {});
        interlaced[28] = 1;
        let sum = crc(&interlaced[12..29]);
        interlaced[29..33].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(pixels(&interlaced).unwrap(), None);
    }

    /// The crate refuses to keep more of a side chunk than its limit.
    #[test]
    fn a_giant_side_chunk_is_left_to_the_crate() {
        let mut bytes = encoded(&[7; 8], (2, 4), png::Filter::Sub, |_| {});
        let mut giant = b"eXIf".to_vec();
        giant.resize(4 + (20 << 20), 1);
        let (length, sum) = ((giant.len() as u32 - 4).to_be_bytes(), crc(&giant).to_be_bytes());
        bytes.splice(33..33, length.into_iter().chain(giant).chain(sum));
        assert_eq!(pixels(&bytes).unwrap(), None);
        assert!(crate::data::image::decode::png(&bytes).is_err());
    }
}
