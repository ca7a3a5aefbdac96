//! Makes one shard of the manifest from its image files.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rayon::prelude::*;

use super::{
    Reader, Tally, Writer, path,
    sample_image::{Bad, Memory, Settings, load},
    sources::{self, Sources},
};
use crate::{
    base::{Error, Result, checksum, csv_file, progress::Progress, stop_request::Stop},
    data::manifest::{Manifest, Sample, ShardPlan},
};

/// Whether a shard was made, and with what.
#[derive(Debug)]
pub struct ShardOutcome {
    /// False where it was there already.
    pub built: bool,
    /// Samples in it.
    pub samples: usize,
    /// What was left out; a sample may be here with several files.
    pub bad: Vec<Bad>,
    /// Samples with other pixels than in the shard that was there, which is why it was made again.
    pub replaced: Vec<String>,
    /// Of a shard that was made: samples of which a file came to its place after the manifest was
    /// written.
    pub newer: Vec<String>,
}

impl ShardOutcome {
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
    csv_file::read(&quarantine_path(work, unit), "preprocess")
}

/// Makes the shards of one manifest.
pub struct Builder<'a> {
    work: &'a Path,
    manifest: &'a Manifest,
    hash: u64,
    /// When the manifest was written, in nanoseconds since 1970.
    planned: i64,
    settings: Settings,
    stop: &'a Stop,
    /// Of the images in the shards that were made.
    pub tally: Tally,
}

/// What is known of a shard that is there.
enum Present {
    /// Whole and up to date, with its quarantine.
    Current(Vec<Bad>),
    /// To be made (again); the ids of samples whose images were replaced.
    Outdated(Vec<String>),
}

impl<'a> Builder<'a> {
    /// `stop` ends a shard under way.
    pub fn new(work: &'a Path, manifest: &'a Manifest, settings: Settings, stop: &'a Stop) -> Self {
        let planned = sources::written(&Manifest::path(work)).unwrap_or(i64::MAX);
        let tally = Tally::default();
        Self { work, manifest, hash: manifest.hash(), planned, settings, stop, tally }
    }

    /// Makes the shard with the position `unit` in [`Manifest::shards`], in the current rayon pool,
    /// with the memory of one image per thread whatever the shard's size. A shard that is there,
    /// belongs to this manifest and these settings and verifies is left alone, unless a sample that
    /// it lacks can be used now, or files were replaced and hold other pixels. A sample with a file
    /// that cannot be used is left out and listed in the quarantine.
    ///
    /// # Errors
    /// Where more than `allowed` samples are bad: the quarantine is written, a new shard is not.
    /// Else where files cannot be written; Stopped after a signal.
    pub fn build(
        &self,
        unit: usize,
        plan: &ShardPlan,
        allowed: usize,
        progress: &Progress,
    ) -> Result<ShardOutcome> {
        let samples = &self.manifest.samples[plan.samples.clone()];
        let size = self.settings.size;
        let path = path(self.work, plan.part, plan.number);
        let files = sources::now(samples);
        let replaced = match self.present(&path, unit, samples, &files)? {
            Present::Outdated(replaced) => replaced,
            Present::Current(bad) => {
                progress.add(samples.len() as u64);
                self.refuse(unit, &bad, allowed)?;
                let (samples, none) = (samples.len() - count(&bad), Vec::new);
                return Ok(ShardOutcome {
                    built: false,
                    samples,
                    bad,
                    replaced: none(),
                    newer: none(),
                });
            }
        };
        let writer = Writer::create(&path, plan.part, samples.len(), size)?;
        let (memory, bad_samples) = (Memory::of_pool(), AtomicUsize::new(0));
        // The thread that decodes a sample also writes it, so that a thread holds one image
        // whatever the size of the shard.
        let one = |(slot, sample): (usize, &Sample)| -> Result<_> {
            self.go_on()?;
            if bad_samples.load(Relaxed) > allowed {
                // if a folder is not mounted, there is no need to try all its files
                return Ok(Err(Vec::new()));
            }
            let row = match load(sample, self.settings, &memory, &self.tally) {
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
        write_bad(&quarantine_path(self.work, unit), &bad)?;
        self.refuse(unit, &bad, allowed)?;
        writer.finish(self.hash)?;
        // After the shard: with the list of an older one, files are compared once more.
        sources::write(self.work, unit, samples, &files)?;
        let newer = samples.iter().zip(&files).filter(|(_, files)| files.is_newer(self.planned));
        let newer = newer.map(|(sample, _)| sample.id.clone()).collect();
        let samples = samples.len() - count(&bad);
        Ok(ShardOutcome { built: true, samples, bad, replaced, newer })
    }

    /// # Errors
    /// Stopped after a signal.
    fn go_on(&self) -> Result<()> {
        match self.stop.asked() {
            true => Err(Error::Stopped(
                "stopped; the finished shards stay, run it again to go on".into(),
            )),
            false => Ok(()),
        }
    }

    /// Fails where more samples are bad than `allowed`, naming the first files.
    fn refuse(&self, unit: usize, bad: &[Bad], allowed: usize) -> Result<()> {
        if count(bad) <= allowed {
            return Ok(());
        }
        let few: Vec<String> =
            bad.iter().take(3).map(|b| format!("{}: {}", b.file, b.reason)).collect();
        let more = if bad.len() > 3 { "; ..." } else { "" };
        let what = format!(
            "more samples cannot be read than preprocess.max_bad_fraction allows ({}{more}); fix \
                the files and run again, or raise the limit",
            few.join("; ")
        );
        Err(Error::data(quarantine_path(self.work, unit), what))
    }

    /// Whether a shard is there, whole and up to date. `files` are those of `samples` now.
    ///
    /// # Errors
    /// Stopped after a signal.
    fn present(
        &self,
        path: &Path,
        unit: usize,
        samples: &[Sample],
        files: &[Sources],
    ) -> Result<Present> {
        if !path.exists() {
            return Ok(Present::Outdated(Vec::new()));
        }
        let mut replaced = Vec::new();
        // The inner error says why the shard has to be made again.
        let mut check = || -> Result<Result<Vec<Bad>, &str>> {
            let reader = Reader::open(path)?;
            if reader.manifest_hash() != self.hash || reader.size() != self.settings.size {
                return Ok(Err("belongs to another manifest or another preprocess.size"));
            }
            let bad = self::quarantined(self.work, unit)?;
            let quarantined: HashSet<&str> = bad.iter().map(|b| b.id.as_str()).collect();
            if !samples
                .iter()
                .map(|s| &s.id)
                .filter(|id| !quarantined.contains(id.as_str()))
                .eq(reader.ids())
            {
                return Ok(Err("does not fit its quarantine list"));
            }
            // Files may have been repaired since, or the limits raised.
            let (memory, settings, tally) = (Memory::of_pool(), self.settings, Tally::default());
            if samples.par_iter().any(|s| {
                quarantined.contains(s.id.as_str()) && load(s, settings, &memory, &tally).is_ok()
            }) {
                return Ok(Err("lacks samples that can be read now"));
            }
            let differ = sources::differ(self.work, unit, samples, files);
            replaced = self.replaced(&reader, samples, &differ, &memory)?;
            if !replaced.is_empty() {
                return Ok(Err("holds images that were replaced since"));
            }
            reader.verify()?;
            if differ.contains(&true)
                && let Err(e) = sources::write(self.work, unit, samples, files)
            {
                log::warn!("{e}: the next `preprocess` compares these images again");
            }
            Ok(Ok(bad))
        };
        match check() {
            Ok(Ok(bad)) => return Ok(Present::Current(bad)),
            Ok(Err(why)) => log::info!("{} {why}; made again", path.display()),
            Err(e @ Error::Stopped(_)) => return Err(e),
            Err(e) => log::warn!("{e}: made again"),
        }
        Ok(Present::Outdated(replaced))
    }

    /// Of the samples in a shard whose files `differ` in size or time, the ids of those that have
    /// other pixels now, or none.
    fn replaced(
        &self,
        reader: &Reader,
        samples: &[Sample],
        differ: &[bool],
        memory: &Memory,
    ) -> Result<Vec<String>> {
        let sums: HashMap<&str, u64> = reader
            .ids()
            .iter()
            .map(String::as_str)
            .zip(reader.checksums().iter().copied())
            .collect();
        let is_other = |(sample, differs): (&Sample, &bool)| -> Result<Option<String>> {
            let Some(sum) = sums.get(sample.id.as_str()).filter(|_| *differs) else {
                return Ok(None);
            };
            self.go_on()?;
            let now = load(sample, self.settings, memory, &Tally::default());
            let is_same = now.is_ok_and(|entry| checksum::of(&entry.image) == *sum);
            Ok((!is_same).then(|| sample.id.clone()))
        };
        let ids = samples.par_iter().zip(differ).map(is_other).collect::<Result<Vec<_>>>()?;
        Ok(ids.into_iter().flatten().collect())
    }
}

/// Writes a list of files that could not be used (`id,file,reason`), whole or not at all.
pub fn write_bad(path: &Path, bad: &[Bad]) -> Result<()> {
    csv_file::write(path, &["id", "file", "reason"], bad)
}
