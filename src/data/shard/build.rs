//! Makes one shard of the manifest from its pictures.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rayon::prelude::*;

use super::{
    Reader, Writer, path,
    pictures::{Bad, Memory, Settings, load},
};
use crate::{
    base::{Error, Result, atomic_file, progress::Progress, stop::Stop},
    data::manifest::{Manifest, Sample, ShardPlan},
};

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
    ) -> Result<Outcome> {
        let samples = &self.manifest.samples[plan.samples.clone()];
        let size = self.settings.size;
        let path = path(self.work, plan.part, plan.number);
        if let Some(bad) = self.present(&path, unit, samples) {
            progress.add(samples.len() as u64);
            self.refuse(unit, &bad, allowed)?;
            return Ok(Outcome { built: false, samples: samples.len() - count(&bad), bad });
        }
        let writer = Writer::create(&path, plan.part, samples.len(), size)?;
        let (memory, bad_samples) = (Memory::of_pool(), AtomicUsize::new(0));
        // Who has decoded a sample also writes it, so that a thread holds one image whatever the
        // size of the shard.
        let one = |(slot, sample): (usize, &Sample)| -> Result<_> {
            if self.stop.asked() {
                return Err(Error::Stopped(
                    "stopped; the finished shards stay, run it again to go on".into(),
                ));
            }
            if bad_samples.load(Relaxed) > allowed {
                // a folder that is not mounted need not be tried to its end
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
        Ok(Outcome { built: true, samples: samples.len() - count(&bad), bad })
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
            "more samples cannot be read than preprocess.max_bad_fraction allows ({}{more}); mend \
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
        let check = || -> Result<Option<Vec<Bad>>> {
            let reader = Reader::open(path)?;
            if reader.manifest_hash() != self.hash || reader.size() != self.settings.size {
                log::info!(
                    "{} belongs to another manifest or another preprocess.size; made again",
                    path.display()
                );
                return Ok(None);
            }
            let bad = quarantined(self.work, unit)?;
            let left: HashSet<&str> = bad.iter().map(|b| b.id.as_str()).collect();
            if !samples
                .iter()
                .map(|s| &s.id)
                .filter(|id| !left.contains(id.as_str()))
                .eq(reader.ids())
            {
                log::info!("{} does not fit its quarantine list; made again", path.display());
                return Ok(None);
            }
            // Files may have been mended since, or the limits raised.
            let memory = Memory::of_pool();
            if samples
                .par_iter()
                .any(|s| left.contains(s.id.as_str()) && load(s, self.settings, &memory).is_ok())
            {
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

/// Writes a list of files that could not be used (`id,file,reason`), whole or not at all.
pub fn write_bad(path: &Path, bad: &[Bad]) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["id", "file", "reason"]).map_err(Error::failed)?;
    for b in bad {
        writer.write_record([&b.id, &b.file, &b.reason]).map_err(Error::failed)?;
    }
    atomic_file::write(path, writer.into_inner().map_err(Error::failed)?)
}
