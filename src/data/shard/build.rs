//! Makes one shard of the manifest from its image files.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rayon::prelude::*;

use super::{
    Reader, Writer, path,
    sample_image::{Bad, Memory, Settings, load},
};
use crate::{
    base::{Error, Result, csv_file, progress::Progress, stop_request::Stop},
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
    settings: Settings,
    stop: &'a Stop,
}

impl<'a> Builder<'a> {
    /// `stop` ends a shard under way.
    pub fn new(work: &'a Path, manifest: &'a Manifest, settings: Settings, stop: &'a Stop) -> Self {
        Self { work, manifest, hash: manifest.hash(), settings, stop }
    }

    /// Makes the shard with the position `unit` in [`Manifest::shards`], in the current rayon pool,
    /// with the memory of one image per thread whatever the shard's size. A shard that is there,
    /// belongs to this manifest and these settings and verifies is left alone, unless a sample that
    /// it lacks can be used now. A sample with a file that cannot be used is left out and listed in
    /// the quarantine.
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
        if let Some(bad) = self.present(&path, unit, samples) {
            progress.add(samples.len() as u64);
            self.refuse(unit, &bad, allowed)?;
            return Ok(ShardOutcome { built: false, samples: samples.len() - count(&bad), bad });
        }
        let writer = Writer::create(&path, plan.part, samples.len(), size)?;
        let (memory, bad_samples) = (Memory::of_pool(), AtomicUsize::new(0));
        // The thread that decodes a sample also writes it, so that a thread holds one image
        // whatever the size of the shard.
        let one = |(slot, sample): (usize, &Sample)| -> Result<_> {
            if self.stop.asked() {
                return Err(Error::Stopped(
                    "stopped; the finished shards stay, run it again to go on".into(),
                ));
            }
            if bad_samples.load(Relaxed) > allowed {
                // if a folder is not mounted, there is no need to try all its files
                return Ok(Err(Vec::new()));
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
        write_bad(&quarantine_path(self.work, unit), &bad)?;
        self.refuse(unit, &bad, allowed)?;
        writer.finish(self.hash)?;
        Ok(ShardOutcome { built: true, samples: samples.len() - count(&bad), bad })
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

    /// The quarantine of a shard that is there, whole and up to date; `None` where it has to be
    /// made.
    fn present(&self, path: &Path, unit: usize, samples: &[Sample]) -> Option<Vec<Bad>> {
        if !path.exists() {
            return None;
        }
        // The inner error says why the shard has to be made again.
        let check = || -> Result<Result<Vec<Bad>, &str>> {
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
            let memory = Memory::of_pool();
            if samples.par_iter().any(|s| {
                quarantined.contains(s.id.as_str()) && load(s, self.settings, &memory).is_ok()
            }) {
                return Ok(Err("lacks samples that can be read now"));
            }
            reader.verify()?;
            Ok(Ok(bad))
        };
        match check() {
            Ok(Ok(bad)) => return Some(bad),
            Ok(Err(why)) => log::info!("{} {why}; made again", path.display()),
            Err(e) => log::warn!("{e}: made again"),
        }
        None
    }
}

/// Writes a list of files that could not be used (`id,file,reason`), whole or not at all.
pub fn write_bad(path: &Path, bad: &[Bad]) -> Result<()> {
    csv_file::write(path, &["id", "file", "reason"], bad)
}
