//! The bytes of a strip or tile, decompressed while they are read: no more memory than for a row.

use std::io::{self, Cursor, Read};

use flate2::bufread::ZlibDecoder;
use weezl::{BitOrder, LzwStatus, decode::Decoder};

use super::{
    compression::Compression,
    fault::broken,
    layout::{Layout, Meaning},
};
use crate::data::image::jpeg;

/// Reads the `i`th strip or tile from its first row on.
pub fn open<'a>(layout: &Layout<'a>, i: usize) -> Result<Box<dyn Read + 'a>, String> {
    let offset = layout.offsets[i];
    let rest = (layout.file.bytes.len() as u64).saturating_sub(offset);
    let length = match layout.lengths.get(i) {
        // Old programs left out the length of an only strip.
        None | Some(0) if layout.offsets.len() == 1 => rest,
        length => length.copied().unwrap_or(0),
    };
    let bytes = layout.file.slice(offset, length)?;
    if layout.reversed {
        let turned: Vec<u8> = bytes.iter().map(|byte| byte.reverse_bits()).collect();
        return decompressed(layout, Cursor::new(turned));
    }
    decompressed(layout, Cursor::new(bytes))
}

fn decompressed<'a>(
    layout: &Layout<'a>,
    bytes: Cursor<impl AsRef<[u8]> + 'a>,
) -> Result<Box<dyn Read + 'a>, String> {
    Ok(match layout.compression {
        Compression::None => Box::new(bytes),
        Compression::Deflate => Box::new(ZlibDecoder::new(bytes)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(bytes).map_err(broken)?)
        }
        Compression::Lzw => Box::new(Lzw::new(bytes)),
        Compression::PackBits => Box::new(PackBits { bytes, literals: 0, run: 0, value: 0 }),
        Compression::Jpeg => Box::new(Cursor::new(jpeg_pixels(layout, bytes.get_ref().as_ref())?)),
    })
}

struct Lzw<T> {
    bytes: Cursor<T>,
    decoder: Decoder,
}

impl<T: AsRef<[u8]>> Lzw<T> {
    fn new(bytes: Cursor<T>) -> Self {
        // Programs before 1990 wrote codes from the lowest bit on, as GIF does.
        let old = matches!(bytes.get_ref().as_ref(), [0, second, ..] if second & 1 == 1);
        let decoder = match old {
            true => Decoder::new(BitOrder::Lsb, 8),
            false => Decoder::with_tiff_size_switch(BitOrder::Msb, 8),
        };
        Self { bytes, decoder }
    }
}

impl<T: AsRef<[u8]>> Read for Lzw<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let rest = &self.bytes.get_ref().as_ref()[self.bytes.position() as usize..];
            let result = self.decoder.decode_bytes(rest, out);
            self.bytes.set_position(self.bytes.position() + result.consumed_in as u64);
            let status = result.status.map_err(|e| io::Error::other(e.to_string()))?;
            if result.consumed_out > 0
                || result.consumed_in == 0
                || matches!(status, LzwStatus::Done)
            {
                return Ok(result.consumed_out);
            }
        }
    }
}

struct PackBits<T> {
    bytes: Cursor<T>,
    /// Bytes still to be copied, or how often `value` still comes.
    literals: usize,
    run: usize,
    value: u8,
}

impl<T: AsRef<[u8]>> Read for PackBits<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut byte = [0];
        while self.literals == 0 && self.run == 0 {
            if self.bytes.read(&mut byte)? == 0 {
                return Ok(0);
            }
            match byte[0] as i8 {
                -128 => {}
                n @ 0.. => self.literals = n as usize + 1,
                n => {
                    self.run = (1 - isize::from(n)) as usize;
                    self.bytes.read_exact(&mut byte)?;
                    self.value = byte[0];
                }
            }
        }
        if self.run > 0 {
            let n = self.run.min(out.len());
            out[..n].fill(self.value);
            self.run -= n;
            return Ok(n);
        }
        let n = self.literals.min(out.len());
        let read = self.bytes.read(&mut out[..n])?;
        self.literals -= read;
        Ok(read)
    }
}

/// Gray or RGB of a strip or tile that is a JPEG, whose tables may be elsewhere.
fn jpeg_pixels(layout: &Layout, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut whole = vec![0xff, 0xd8];
    // Adobe's segment says what the values mean, which the decoder would guess otherwise.
    let transform = u8::from(layout.meaning == Meaning::YCbCr);
    whole.extend(*b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00");
    whole.push(transform);
    let tables = layout.jpeg_tables.strip_prefix(b"\xff\xd8").unwrap_or(&[]);
    whole.extend(tables.strip_suffix(b"\xff\xd9").unwrap_or(tables));
    let own = bytes.strip_prefix(b"\xff\xd8").ok_or("it is no JPEG")?;
    whole.extend(own);
    let header = jpeg::header(&whole)?;
    let [width, height] = layout.chunk;
    if header.width != width || header.height > height.min(layout.height).saturating_add(16) {
        return Err(format!(
            "its JPEG has {}x{} pixels, expected {width}x{height}",
            header.width, header.height
        ));
    }
    let raster = jpeg::decode(&whole)?;
    if raster.step != layout.samples_in_chunk() {
        return Err(format!(
            "its JPEG has {} values a pixel, expected {}",
            raster.step,
            layout.samples_in_chunk()
        ));
    }
    Ok(raster.pixels)
}
