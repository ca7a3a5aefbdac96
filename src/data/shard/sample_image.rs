//! From a sample's four image files to one stored image of four channels.

use std::sync::{Condvar, Mutex};

use multiversion::multiversion;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Entry,
    tally::{Levels, Tally},
};
use crate::{
    base::{Error, Result},
    data::{
        image::{self, AreaMean, Channel, Encoded},
        manifest::{CHANNELS, Sample},
        phash::{Phash, phash},
    },
};

/// How image files become stored images.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Side of the stored images in pixels.
    pub size: usize,
    /// Largest side that is decoded, in pixels.
    pub max_side: u32,
}

/// A file that could not be used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    pub id: String,
    pub file: String,
    pub reason: String,
}

/// Reads samples in the current rayon pool: by sample its image, u8 `[size, size, 4]`, or its files
/// that could not be used. What it reads is counted in `tally`.
pub fn read_images(
    samples: &[Sample],
    settings: Settings,
    tally: &Tally,
) -> Vec<Result<Vec<u8>, Vec<Bad>>> {
    let memory = Memory::of_pool();
    samples
        .par_iter()
        .map(|sample| load(sample, settings, &memory, tally).map(|entry| entry.image))
        .collect()
}

/// Decodes, hashes and resizes a sample's four images.
pub(super) fn load(
    sample: &Sample,
    settings: Settings,
    memory: &Memory,
    tally: &Tally,
) -> Result<Entry, Vec<Bad>> {
    let (mut hashes, mut planes, mut faults) = ([0; 4], [const { Vec::new() }; 4], Vec::new());
    let mut levels = [const { Levels::new(0, false) }; 4];
    let mut first: Option<(usize, (u32, u32))> = None;
    for c in 0..4 {
        let file = sample.file(c);
        let mut fault = |reason: String| {
            faults.push(Bad { id: sample.id.clone(), file: file.to_string_lossy().into(), reason })
        };
        let encoded = match Encoded::read(&file, settings.max_side) {
            Ok(encoded) => encoded,
            Err(e) => {
                fault(reason(&e));
                continue;
            }
        };
        let dimensions = encoded.dimensions();
        let (other, (w, h)) = *first.get_or_insert((c, dimensions));
        if dimensions != (w, h) {
            fault(format!(
                "{}x{} pixels, but {} has {w}x{h}",
                dimensions.0, dimensions.1, CHANNELS[other]
            ));
            continue;
        }
        let _taken = memory.take(encoded.memory());
        levels[c] = Levels::new(w as usize * h as usize, encoded.is_wide());
        match encoded.channel(c) {
            Ok(channel) => {
                (hashes[c], planes[c]) =
                    hashed_and_resized(channel, dimensions, settings.size, &mut levels[c])
            }
            Err(e) => fault(reason(&e)),
        }
    }
    match faults.is_empty() {
        true => {
            tally.add(sample, first.map_or((0, 0), |first| first.1), &levels, &planes);
            let image = interleaved(&planes);
            planes.into_iter().for_each(image::reuse);
            Ok(Entry::new(sample.id.clone(), sample.labels, hashes, image))
        }
        false => Err(faults),
    }
}

/// The hash of a channel and its pixels at `size`, in one pass where it has to shrink; its values
/// are counted in `levels`.
fn hashed_and_resized(
    channel: Channel,
    (width, height): (u32, u32),
    size: usize,
    levels: &mut Levels,
) -> (u64, Vec<u8>) {
    let (width, height) = (width as usize, height as usize);
    let shrinks = width > size || height > size;
    match shrinks.then(|| AreaMean::new(width, height, size)).flatten() {
        Some(mean) => {
            let (mut hash, mut small) =
                (Phash::new(width, height), Vec::with_capacity(size * size));
            channel.bands(mean.band(), |rows| {
                hash.push(rows);
                levels.push(rows);
                mean.rows(rows, &mut small);
            });
            (hash.finish(), small)
        }
        None => {
            let plane = channel.whole();
            let hash = phash(&plane);
            levels.push(&plane.pixels);
            if width == size && height == size {
                return (hash, plane.pixels);
            }
            let large = image::resize(&plane, size).pixels;
            image::reuse(plane.pixels);
            (hash, large)
        }
    }
}

/// The fault without the file's name, which has a column of its own.
fn reason(e: &Error) -> String {
    match e {
        Error::Data { what, .. } => what.clone(),
        Error::Io { action, source, .. } => format!("cannot {action}: {source}"),
        other => other.to_string(),
    }
}

/// Four planes of one size, red, green, blue, yellow, as pixels of four values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn interleaved([red, green, blue, yellow]: &[Vec<u8>; 4]) -> Vec<u8> {
    let pixels: Vec<[u8; 4]> = red
        .iter()
        .zip(green)
        .zip(blue)
        .zip(yellow)
        .map(|(((&r, &g), &b), &y)| [r, g, b, y])
        .collect();
    pixels.into_flattened()
}

/// Memory for decoding, shared by the threads: a thread that needs more than is free waits. An
/// image larger than all of it is decoded alone.
pub(super) struct Memory {
    total: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

pub(super) struct Taken<'a>(&'a Memory, u64);

impl Memory {
    /// What all threads of the current rayon pool together may take.
    pub fn of_pool() -> Self {
        Self::new((96 << 20).max(rayon::current_num_threads() as u64 * (24 << 20)))
    }

    fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), freed: Condvar::new() }
    }

    fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        *self.freed.wait_while(free, |free| *free < bytes).unwrap_or_else(|e| e.into_inner()) -=
            bytes;
        Taken(self, bytes)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(|e| e.into_inner()) += self.1;
        self.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::tests::rgb_jpeg;

    #[test]
    fn memory_is_never_exceeded_and_a_huge_image_is_decoded_alone() {
        use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
        let (memory, used, peak) = (Memory::new(10), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|s| {
            for want in [3, 4, 5, 99, 6, 1, 2, 10] {
                let (memory, used, peak) = (&memory, &used, &peak);
                s.spawn(move || {
                    for _ in 0..50 {
                        let _taken = memory.take(want);
                        peak.fetch_max(used.fetch_add(want.min(10), SeqCst) + want.min(10), SeqCst);
                        std::thread::yield_now();
                        used.fetch_sub(want.min(10), SeqCst);
                    }
                });
            }
        });
        assert!(peak.load(SeqCst) <= 10);
        assert_eq!(*memory.free.lock().unwrap(), 10);
    }

    #[test]
    fn bands_give_the_same_hash_and_pixels_as_the_whole_channel() {
        let dir = tempfile::tempdir().unwrap();
        let (width, height) = (1024, 1000);
        let pixels: Vec<u8> = (0..3 * width * height).map(|i| ((i * i) >> 9) as u8).collect();
        for (name, layout) in
            [("planes.jpg", turbojpeg::Subsamp::Sub2x2), ("colours.jpg", turbojpeg::Subsamp::None)]
        {
            let file = dir.path().join(name);
            std::fs::write(&file, rgb_jpeg(&pixels, width, height, layout, 90)).unwrap();
            for (c, size) in [(0, 1000), (1, 384), (3, 77), (2, 1010)] {
                let read = || Encoded::read(&file, 2000).unwrap().channel(c).unwrap();
                let plane = read().whole();
                let dimensions = (width as u32, height as u32);
                let (hash, small) =
                    hashed_and_resized(read(), dimensions, size, &mut Levels::new(0, false));
                assert!(
                    hash == phash(&plane) && small == image::resize(&plane, size).pixels,
                    "{name}, channel {c} at {size}"
                );
            }
        }
    }
}
