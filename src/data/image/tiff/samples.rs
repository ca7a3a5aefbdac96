//! From the bytes of strips or tiles to the pixels of the image.

use std::{
    io::{ErrorKind, Read},
    ops::Range,
};

use super::{
    chunk,
    fault::broken,
    layout::{Layout, Meaning},
};
use crate::data::image::{buffers::buffer, luma::eight, raster::Raster};

/// The whole image, 8 bit, of a file whose [`header`](super::header) has been checked.
pub fn decode(bytes: &[u8]) -> Result<Raster, String> {
    let layout = &Layout::read(bytes)?;
    let (width, step) = (layout.width as usize, layout.samples);
    let mut pixels = buffer(width * layout.height as usize * step);
    let [across, down] = layout.grid();
    let planes = if layout.planar { layout.samples } else { 1 };
    let mut i = 0;
    for plane in 0..planes {
        for y in 0..down {
            for x in 0..across {
                let to = Place { columns: layout.range(0, x), rows: layout.range(1, y), plane };
                read_chunk(layout, i, to, &mut pixels).map_err(|what| match what {
                    what if what.starts_with("broken TIFF") => what,
                    what => broken(format!("strip or tile {i}: {what}")),
                })?;
                i += 1;
            }
        }
    }
    match layout.meaning {
        Meaning::WhiteIsZero => pixels.iter_mut().for_each(|v| *v = 255 - *v),
        Meaning::Palette => return Ok(Raster { step: 3, pixels: coloured(&pixels, layout) }),
        _ => {}
    }
    Ok(Raster { step, pixels })
}

/// Where a strip or tile lies in the image.
struct Place {
    columns: Range<usize>,
    rows: Range<usize>,
    plane: usize,
}

fn read_chunk(layout: &Layout, i: usize, to: Place, pixels: &mut [u8]) -> Result<(), String> {
    let mut reader = chunk::open(layout, i)?;
    let samples = layout.samples_in_chunk();
    let values = layout.chunk[0] as usize * samples;
    let mut row = vec![0; (values * layout.bits as usize).div_ceil(8)];
    let mut unpacked = vec![0; to.columns.len() * samples];
    let stride = layout.width as usize * layout.samples;
    for y in to.rows {
        reader.read_exact(&mut row).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => "its data end too soon".into(),
            _ => format!("its compressed data are wrong: {e}"),
        })?;
        if layout.differences {
            add_up(&mut row, samples, layout);
        }
        unpack(&row, layout, &mut unpacked);
        let out = &mut pixels[y * stride..][..stride];
        if layout.planar {
            let out = out[to.columns.start * layout.samples + to.plane..].iter_mut();
            out.step_by(layout.samples).zip(&unpacked).for_each(|(out, &value)| *out = value);
        } else {
            out[to.columns.start * samples..][..unpacked.len()].copy_from_slice(&unpacked);
        }
    }
    Ok(())
}

/// Undoes the differences to the pixel on the left.
fn add_up(row: &mut [u8], samples: usize, layout: &Layout) {
    if layout.bits == 8 {
        for i in samples..row.len() {
            row[i] = row[i].wrapping_add(row[i - samples]);
        }
        return;
    }
    let (values, big) = (row.as_chunks_mut::<2>().0, layout.file.big_endian);
    let read = if big { u16::from_be_bytes } else { u16::from_le_bytes };
    for i in samples..values.len() {
        let sum = read(values[i]).wrapping_add(read(values[i - samples]));
        values[i] = if big { sum.to_be_bytes() } else { sum.to_le_bytes() };
    }
}

/// The first values of a row as 8 bits, or as they are where they are numbers of colours.
fn unpack(row: &[u8], layout: &Layout, out: &mut [u8]) {
    match layout.bits {
        8 => out.copy_from_slice(&row[..out.len()]),
        16 => {
            let read = if layout.file.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
            let values = row.as_chunks().0.iter();
            out.iter_mut().zip(values).for_each(|(out, &bytes)| *out = eight(read(bytes)));
        }
        bits => {
            let most = (1u32 << bits) - 1;
            let scale = |v: u32| {
                if layout.meaning == Meaning::Palette {
                    v as u8
                } else {
                    ((v * 510 + most) / (2 * most)) as u8
                }
            };
            for (i, out) in out.iter_mut().enumerate() {
                let first = i * bits as usize;
                // A value lies in at most three bytes.
                let bytes = (0..3).map(|k| row.get(first / 8 + k).copied().unwrap_or(0));
                let joined = bytes.fold(0, |sum, byte| sum << 8 | u32::from(byte));
                *out = scale(joined >> (24 - first as u32 % 8 - bits) & most);
            }
        }
    }
}

/// Red, green and blue of the numbers of colours.
fn coloured(numbers: &[u8], layout: &Layout) -> Vec<u8> {
    let n = layout.palette.len() / 3;
    // Some programs wrote colours of 8 bits, as libtiff tells by the values.
    let shift = if layout.palette.iter().all(|&v| v < 256) { 0 } else { 8 };
    let colour = |i: usize| [0, n, 2 * n].map(|plane| (layout.palette[plane + i] >> shift) as u8);
    numbers.iter().flat_map(|&i| colour(usize::from(i))).collect()
}
