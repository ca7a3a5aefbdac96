//! Makes the checksums and lengths of a damaged file right again, so that its reader does not end
//! at the first of them. Each leaves alone what it does not understand.
#![allow(clippy::ptr_arg)] // all repairs have one type, as some change the length

use std::io::{Read, Write};

use atlas::{base::checksum, network::weights};
use flate2::{Compression, Crc, read::DeflateDecoder, read::GzDecoder, write::GzEncoder};

use crate::scratch;

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The number of `N` bytes at `at`.
fn little<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let field: [u8; N] = bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
    Some(field.iter().rev().fold(0, |number, b| number << 8 | usize::from(*b)))
}

/// The CRC of each chunk of a PNG.
pub fn png(bytes: &mut Vec<u8>) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let end = at + 8 + length;
        if end + 4 > bytes.len() {
            return;
        }
        let sum = crc(&bytes[at + 4..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&sum);
        at = end + 4;
    }
}

/// Compresses what is not compressed, and what a damaged gzip member still holds.
pub fn gzip(bytes: &mut Vec<u8>) {
    let mut text = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let _ = GzDecoder::new(&bytes[..]).take(1 << 22).read_to_end(&mut text);
    } else {
        text.clone_from(bytes);
    }
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(&text).expect("memory");
    *bytes = out.finish().expect("memory");
}

/// The CRC of each entry of a zip, in its own header and in the directory.
pub fn zip(bytes: &mut Vec<u8>) {
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"PK\x01\x02") {
            zip_entry(bytes, at);
        }
    }
}

/// The CRC of the entry at `at` of a zip's directory.
fn zip_entry(bytes: &mut [u8], at: usize) -> Option<()> {
    let (method, size) = (little::<2>(bytes, at + 10)?, little::<4>(bytes, at + 20)?);
    let local = little::<4>(bytes, at + 42)?;
    if !bytes.get(local..)?.starts_with(b"PK\x03\x04") {
        return None;
    }
    let begin = local + 30 + little::<2>(bytes, local + 26)? + little::<2>(bytes, local + 28)?;
    let packed = bytes.get(begin..begin.checked_add(size)?)?;
    let sum = match method {
        8 => {
            let mut text = Vec::new();
            DeflateDecoder::new(packed).take(1 << 22).read_to_end(&mut text).ok()?;
            crc(&text)
        }
        _ => crc(packed),
    };
    bytes[local + 14..local + 18].copy_from_slice(&sum.to_le_bytes());
    bytes[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// The length of a safetensors header, which ends with the last brace.
pub fn safetensors(bytes: &mut Vec<u8>) {
    let Some(text) = bytes.get(8..bytes.len().min(1 << 16)) else { return };
    // The numbers behind the header may hold braces, too, but not before a blank or a quote.
    let ends = text.windows(2).rposition(|w| w == b"}}");
    let Some(end) = ends.map(|i| i + 2) else { return };
    let blanks = text[end..].iter().take_while(|b| **b == b' ').count();
    let length = ((end + blanks) as u64).to_le_bytes();
    bytes[..8].copy_from_slice(&length);
}

/// The checksum in the header of a checkpoint.
pub fn checkpoint(bytes: &mut Vec<u8>) {
    safetensors(bytes);
    let path = scratch::file("resealed.safetensors", bytes);
    let Ok((tensors, metadata)) = weights::read(&path) else { return };
    let (Some(state), Some(old)) = (metadata.get("state"), metadata.get("xxh3")) else { return };
    let new = weights::checksum(state, &tensors);
    let place = bytes.windows(old.len().max(1)).position(|w| w == old.as_bytes());
    if let Some(at) = place.filter(|_| old.len() == new.len()) {
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
}

/// The seal at the end of a shard or of predictions: eight bytes of magic, length of the list of
/// contents, place and length of the images, checksum of these and of all else.
pub fn seal(bytes: &mut [u8]) {
    let Some(end) = bytes.len().checked_sub(40) else { return };
    let list = bytes[..end].windows(13).rposition(|w| w == b"{\"attributes\"");
    if let Some(begin) = list {
        bytes[end + 8..end + 16].copy_from_slice(&((end - begin) as u64).to_le_bytes());
    }
    let field = |i: usize| little::<8>(bytes, end + 8 * i).unwrap_or(0);
    let (offset, length) = (field(2), field(3));
    let Some(images) = offset.checked_add(length).filter(|e| *e <= end) else { return };
    let content = checksum::of(&[&bytes[..offset], &bytes[images..end]].concat());
    let fields = [&bytes[end + 8..end + 32], &content.to_le_bytes()].concat();
    bytes[end + 32..].copy_from_slice(&checksum::of(&fields).to_le_bytes());
}
