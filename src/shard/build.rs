//! Makes one shard of the manifest from its pictures.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Entry, Reader, Writer, path};
use crate::{
    artefact,
    error::{Error, Result},
    image::{self, AreaMean, Channel, Encoded},
    manifest::{CHANNELS, Manifest, Sample, ShardPlan},
    phash::{Phash, phash},
    progress::Progress,
    stop::Stop,
};

/// How the pictures become images.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Side of the stored images in pixels.
    pub size: usize,
    /// Largest side that is decoded, in pixels.
    pub max_side: u32,
}

/// A file that could not be used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub id: String,
    pub file: String,
    pub reason: String,
}

/// What became of a shard.
#[derive(Debug)]
pub struct Outcome {
    /// False where it was there already.
    pub built: bool,
    /// Samples in it.
    pub samples: usize,
    /// What was left out; a sample may be here with several files.
    pub bad: Vec<Bad>,
}

impl Outcome {
    /// Number of samples left out.
    pub fn bad_samples(&self) -> usize {
        count(&self.bad)
    }
}

fn count(bad: &[Bad]) -> usize {
    bad.iter().map(|b| b.id.as_str()).collect::<HashSet<_>>().len()
}

/// The list of what was left out of the shard with the position `unit` in [`Manifest::shards`].
pub fn quarantine_path(work: &Path, unit: usize) -> PathBuf {
    work.join("shards").join(format!("quarantine-{unit:05}.csv"))
}

/// Reads a quarantine list (`id,file,reason`).
pub fn quarantined(work: &Path, unit: usize) -> Result<Vec<Bad>> {
    let path = quarantine_path(work, unit);
    let mut reader = csv::Reader::from_path(&path).map_err(|e| Error::data(&path, e))?;
    let row = |r: csv::Result<csv::StringRecord>| {
        let r = r.map_err(|e| Error::data(&path, e))?;
        let field = |i: usize| r.get(i).unwrap_or_default().to_string();
        Ok(Bad { id: field(0), file: field(1), reason: field(2) })
    };
    reader.records().map(row).collect()
}

/// Makes the shards of one manifest.
pub struct Builder<'a> {
    work: &'a Path,
    manifest: &'a Manifest,
    hash: u64,
    settings: Settings,
    stop: &'a Stop,
}

impl<'a> Builder<'a> {
    /// `stop` ends a shard under way.
    pub fn new(work: &'a Path, manifest: &'a Manifest, settings: Settings, stop: &'a Stop) -> Self {
        Self { work, manifest, hash: manifest.hash(), settings, stop }
    }

    /// Makes the shard with the position `unit` in [`Manifest::shards`], in the current rayon pool, with the memory of
    /// one image per thread whatever the shard's size. A shard that is there, belongs to this manifest and these settings
    /// and verifies is left alone, unless a sample that it lacks can be used now. A sample with a file that cannot be used is
    /// left out and listed in the quarantine.
    ///
    /// # Errors
    /// Where more than `allowed` samples are bad: the quarantine is written, a new shard is not. Else where files cannot
    /// be written; Stopped after a signal.
    pub fn build(&self, unit: usize, plan: &ShardPlan, allowed: usize, progress: &Progress) -> Result<Outcome> {
        let samples = &self.manifest.samples[plan.samples.clone()];
        let size = self.settings.size;
        let path = path(self.work, plan.part, plan.number);
        if let Some(bad) = self.present(&path, unit, samples) {
            progress.add(samples.len() as u64);
            self.refuse(unit, &bad, allowed)?;
            return Ok(Outcome { built: false, samples: samples.len() - count(&bad), bad });
        }
        let writer = Writer::create(&path, plan.part, samples.len(), size)?;
        let (memory, bad_samples) = (self.memory(), AtomicUsize::new(0));
        // Who has decoded a sample also writes it, so that a thread holds one image whatever the size of the shard.
        let one = |(slot, sample): (usize, &Sample)| -> Result<_> {
            if self.stop.asked() {
                return Err(Error::Stopped("stopped; the finished shards stay, run it again to go on".into()));
            }
            if bad_samples.load(Relaxed) > allowed {
                return Ok(Err(Vec::new())); // a folder that is not mounted need not be tried to its end
            }
            let row = match load(sample, self.settings, &memory) {
                Ok(entry) => Ok(writer.place(slot, entry)?),
                Err(faults) => {
                    bad_samples.fetch_add(1, Relaxed);
                    Err(faults)
                }
            };
            progress.add(1);
            Ok(row)
        };
        let rows: Vec<_> = samples.par_iter().enumerate().map(one).collect::<Result<_>>()?;
        let (mut writer, mut bad) = (writer, Vec::new());
        for (slot, row) in rows.into_iter().enumerate() {
            match row {
                Ok(row) => writer.list(slot, row),
                Err(faults) => bad.extend(faults),
            }
        }
        write_quarantine(self.work, unit, &bad)?;
        self.refuse(unit, &bad, allowed)?;
        writer.finish(self.hash)?;
        Ok(Outcome { built: true, samples: samples.len() - count(&bad), bad })
    }

    /// What all threads together may take for decoding.
    fn memory(&self) -> Memory {
        Memory::new((96 << 20).max(rayon::current_num_threads() as u64 * (24 << 20)))
    }

    /// Fails where more samples are bad than `allowed`, naming the first files.
    fn refuse(&self, unit: usize, bad: &[Bad], allowed: usize) -> Result<()> {
        if count(bad) <= allowed {
            return Ok(());
        }
        let few: Vec<String> = bad.iter().take(3).map(|b| format!("{}: {}", b.file, b.reason)).collect();
        let more = if bad.len() > 3 { "; ..." } else { "" };
        let what = format!(
            "more samples cannot be read than preprocess.max_bad_fraction allows ({}{more}); mend the files and run again, or raise the limit",
            few.join("; ")
        );
        Err(Error::data(quarantine_path(self.work, unit), what))
    }

    /// The quarantine of a shard that is there, whole and up to date; `None` where it has to be made.
    fn present(&self, path: &Path, unit: usize, samples: &[Sample]) -> Option<Vec<Bad>> {
        if !path.exists() {
            return None;
        }
        let check = || -> Result<Option<Vec<Bad>>> {
            let reader = Reader::open(path)?;
            if reader.manifest_hash() != self.hash || reader.size() != self.settings.size {
                log::info!("{} belongs to another manifest or another preprocess.size; made again", path.display());
                return Ok(None);
            }
            let bad = quarantined(self.work, unit)?;
            let left: HashSet<&str> = bad.iter().map(|b| b.id.as_str()).collect();
            if !samples.iter().map(|s| &s.id).filter(|id| !left.contains(id.as_str())).eq(reader.ids()) {
                log::info!("{} does not fit its quarantine list; made again", path.display());
                return Ok(None);
            }
            // Files may have been mended since, or the limits raised.
            let memory = self.memory();
            if samples.par_iter().any(|s| left.contains(s.id.as_str()) && load(s, self.settings, &memory).is_ok()) {
                log::info!("{} lacks samples that can be read now; made again", path.display());
                return Ok(None);
            }
            reader.verify()?;
            Ok(Some(bad))
        };
        check().unwrap_or_else(|e| {
            log::warn!("{e}: made again");
            None
        })
    }
}

/// Decodes, hashes and resizes a sample's four pictures.
fn load(sample: &Sample, settings: Settings, memory: &Memory) -> Result<Entry, Vec<Bad>> {
    let (mut hashes, mut planes, mut faults) = ([0; 4], [const { Vec::new() }; 4], Vec::new());
    let mut first: Option<(usize, (u32, u32))> = None;
    for c in 0..4 {
        let file = sample.file(c);
        let mut fault = |reason: String| faults.push(Bad { id: sample.id.clone(), file: file.to_string_lossy().into(), reason });
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
            fault(format!("{}x{} pixels, but {} has {w}x{h}", dimensions.0, dimensions.1, CHANNELS[other]));
            continue;
        }
        let _taken = memory.take(encoded.memory());
        match encoded.channel(c) {
            Ok(channel) => (hashes[c], planes[c]) = hashed_and_resized(channel, dimensions, settings.size),
            Err(e) => fault(reason(&e)),
        }
    }
    match faults.is_empty() {
        true => {
            let image = interleaved(&planes);
            planes.into_iter().for_each(image::reuse);
            Ok(Entry::new(sample.id.clone(), sample.labels, hashes, image))
        }
        false => Err(faults),
    }
}

/// The hash of a channel and its pixels at `size`, in one go where it has to shrink.
fn hashed_and_resized(channel: Channel, (width, height): (u32, u32), size: usize) -> (u64, Vec<u8>) {
    let (width, height) = (width as usize, height as usize);
    match AreaMean::new(width, height, size).filter(|_| width > size || height > size) {
        Some(mean) => {
            let (mut hash, mut small) = (Phash::new(width, height), Vec::with_capacity(size * size));
            channel.bands(mean.band(), |rows| {
                hash.push(rows);
                mean.rows(rows, &mut small);
            });
            (hash.finish(), small)
        }
        None => {
            let plane = channel.whole();
            (phash(&plane), if width == size && height == size { plane.pixels } else { image::resize(&plane, size).pixels })
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

/// Four planes of one size as pixels of four values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn interleaved([red, green, blue, yellow]: &[Vec<u8>; 4]) -> Vec<u8> {
    let pixels: Vec<[u8; 4]> = red.iter().zip(green).zip(blue).zip(yellow).map(|(((&r, &g), &b), &y)| [r, g, b, y]).collect();
    pixels.into_flattened()
}

fn write_quarantine(work: &Path, unit: usize, bad: &[Bad]) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["id", "file", "reason"]).map_err(Error::failed)?;
    for b in bad {
        writer.write_record([&b.id, &b.file, &b.reason]).map_err(Error::failed)?;
    }
    artefact::write(quarantine_path(work, unit), writer.into_inner().map_err(Error::failed)?)
}

/// Memory for decoding, shared by the threads: who needs more than is left waits. A picture larger than all of it is
/// decoded alone.
struct Memory {
    total: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

struct Taken<'a>(&'a Memory, u64);

impl Memory {
    fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), freed: Condvar::new() }
    }

    fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        *self.freed.wait_while(free, |free| *free < bytes).unwrap_or_else(|e| e.into_inner()) -= bytes;
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

    #[test]
    fn memory_is_never_overdrawn_and_a_giant_passes_alone() {
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
    fn in_bands_a_channel_is_what_it_is_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (width, height) = (1024, 1000);
        let pixels: Vec<u8> = (0..3 * width * height).map(|i| ((i * i) >> 9) as u8).collect();
        let picture = turbojpeg::Image { pixels: &pixels[..], width, pitch: 3 * width, height, format: turbojpeg::PixelFormat::RGB };
        for (name, layout) in [("planes.jpg", turbojpeg::Subsamp::Sub2x2), ("colours.jpg", turbojpeg::Subsamp::None)] {
            let file = dir.path().join(name);
            std::fs::write(&file, turbojpeg::compress(picture, 90, layout).unwrap()).unwrap();
            for (c, size) in [(0, 1000), (1, 384), (3, 77), (2, 1010)] {
                let read = || Encoded::read(&file, 2000).unwrap().channel(c).unwrap();
                let plane = read().whole();
                let (hash, small) = hashed_and_resized(read(), (width as u32, height as u32), size);
                assert!(hash == phash(&plane) && small == image::resize(&plane, size).pixels, "{name}, channel {c} at {size}");
            }
        }
    }
}
