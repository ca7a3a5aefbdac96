//! The results folder: a folder for each run, and in it one for each fold.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    base::{Error, Result, advice, atomic_file, file_lock, host, slurm, stop_request::Stop},
    config::{Config, Keep, PROVENANCE},
    data::{manifest::Manifest, work_folder::WorkFolder},
    training::{
        checkpoint::CheckpointFolder,
        provenance::provenance,
        run_identity::{self, Difference},
    },
};

/// Bytes of a run's name; a file's name may have 255, and some file systems leave fewer.
const MAX_NAME: usize = 128;

/// One run: `results/<name>/`.
#[derive(Clone, Debug)]
pub struct Run {
    pub folder: PathBuf,
}

impl Run {
    /// The run in `results` that `--run`, else `ATLAS_RUN` names, which need not exist yet.
    ///
    /// # Errors
    /// Usage where the name is not one that every command and file system takes.
    pub fn named(results: &Path, name: Option<&str>) -> Result<Option<Self>> {
        let variable = || std::env::var_os("ATLAS_RUN").filter(|n| !n.is_empty());
        let (name, source) = match (name, variable()) {
            (Some(name), _) => (name.to_string(), ""),
            (None, Some(name)) => (name.to_string_lossy().into_owned(), "ATLAS_RUN: "),
            (None, None) => return Ok(None),
        };
        let n = name.trim_end_matches('/'); // which a shell completes to the name of a folder
        let is_unusable = |c: char| c == '/' || c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if n.is_empty()
            || n.len() > MAX_NAME
            || n.starts_with(['.', '-'])
            || n.contains(is_unusable)
            || n == LATEST
        {
            let shown = n.escape_debug().to_string();
            return Err(Error::usage(format!(
                "{source}`{shown:.60}` is not a run's name: expected a folder name in \
                 paths.results of at most {MAX_NAME} bytes, such as 20260131-235959; not \
                 `{LATEST}`, and not one that begins with `.` or `-`"
            )));
        }
        Ok(Some(Self { folder: results.join(n) }))
    }

    /// A new run in `results`, named by the time (UTC).
    pub fn new(results: &Path) -> Self {
        loop {
            let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
            let folder = results.join(now);
            if !folder.exists() {
                return Self { folder };
            }
            thread::sleep(Duration::from_millis(100)); // two runs in one second
        }
    }

    /// Makes the folder with `config.toml` and `provenance.json`, or joins the run that exists, and
    /// points `results/latest` at it.
    ///
    /// # Errors
    /// Usage where the existing run is of another configuration.
    pub fn begin(&self, config: &Config, work: &WorkFolder) -> Result<()> {
        let (results, path) = (&config.paths.results, self.folder.join("config.toml"));
        fs::create_dir_all(results).map_err(Error::io("create the folder", results))?;
        // If several processes begin the same run, one makes it and the others wait for its
        // configuration.
        let made = match fs::create_dir(&self.folder) {
            Ok(()) => true,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
            Err(e) => return Err(Error::io("create the folder", &self.folder)(e)),
        };
        for _ in 0..50 {
            if made || path.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let text = config.to_toml();
        if path.exists() {
            self.must_be_of(config)?;
        } else {
            atomic_file::write(self.folder.join(PROVENANCE), provenance(config, work))?;
        }
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            // new, or with other settings for what follows training
            atomic_file::write(&path, text)?;
        }
        self.point_latest();
        Ok(())
    }

    /// Holds a fold for this process until the file is dropped. A job that Slurm restarted waits
    /// for it: where Slurm lost a node, its processes may live on for a while.
    ///
    /// # Errors
    /// Usage where another process trains it; Stopped after `stop`.
    pub fn lock(&self, fold: usize, stop: &Stop) -> Result<fs::File> {
        let folder = self.fold(fold);
        fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        let path = folder.join(".lock");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        let what =
            format!("fold {fold} of the run {} is being trained by another process", self.name());
        let mut warned = false;
        loop {
            if file_lock::hold(&file, &path) {
                return Ok(file);
            }
            if !slurm::is_restarted() {
                return Err(Error::usage(format!(
                    "{what}; wait for it, or train into another run with --run NAME"
                )));
            }
            if stop.asked() {
                return Err(Error::Stopped(format!("{what}; run this again to go on")));
            }
            if !std::mem::replace(&mut warned, true) {
                log::warn!("{what}, as may happen after a restart; waiting for its end");
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// The keys in which the run's configuration differs from this one, but for those that may
    /// change within a run.
    fn differences(&self, config: &Config) -> Result<Vec<Difference>> {
        let weights = || self.provenance()["weights_xxh3"].as_str().map(String::from);
        Ok(run_identity::differences(config, &self.config()?, weights))
    }

    /// The configuration that it records.
    ///
    /// # Errors
    /// Usage where it is not there or not of this version.
    pub(super) fn config(&self) -> Result<Config> {
        let path = self.folder.join("config.toml");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Config::parse(&text).map_err(|e| {
            // What follows is the list of all keys.
            let what = e.message().lines().next().unwrap_or_default();
            let what = what.split(", expected one of").next().unwrap_or_default();
            Error::usage(format!(
                "{}: {what}; it is not a configuration of this version, so name another run with \
                 --run NAME",
                path.display()
            ))
        })
    }

    /// Whether the run is of this configuration.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        self.differences(config).is_ok_and(|differences| differences.is_empty())
    }

    /// # Errors
    /// Usage, if the run exists and is of another configuration; keys and values are named.
    pub fn must_be_of(&self, config: &Config) -> Result<()> {
        if !self.folder.join("config.toml").exists() {
            return Ok(());
        }
        match self.differences(config)? {
            differences if differences.is_empty() => Ok(()),
            differences => Err(Error::usage(run_identity::explain(&self.folder, &differences))),
        }
    }

    /// False only where both hashes are known and differ: a run of an earlier version, or a work
    /// folder without a manifest, counts as fitting.
    pub(super) fn has_samples(&self, samples: Option<&str>) -> bool {
        let theirs = self.training_samples();
        samples.is_none() || theirs.is_none() || samples == theirs.as_deref()
    }

    /// The hash of the samples that it was trained on, where it states one.
    fn training_samples(&self) -> Option<String> {
        self.provenance()["training_samples_xxh3"].as_str().map(String::from)
    }

    /// # Errors
    /// Usage, if the run was trained on other samples than the manifest in `work` lists.
    pub fn must_have_samples(&self, work: &WorkFolder) -> Result<()> {
        let (here, there) = (run_identity::of_samples(work), self.training_samples());
        let (Some(here), Some(there)) = (here, there) else { return Ok(()) };
        if here == there {
            return Ok(());
        }
        Err(Error::usage(format!(
            "the run {} was trained on other samples than {} lists (training_samples_xxh3 is \
                {there} in its provenance.json and {here} here); set paths.work to the folder that \
                it was trained from, or name another run with --run NAME",
            self.folder.display(),
            Manifest::path(work.path()).display(),
        )))
    }

    pub fn fold(&self, fold: usize) -> PathBuf {
        self.folder.join(format!("fold_{fold}"))
    }

    /// The [`Heartbeat`](crate::distributed::Heartbeat) of a fold's training; removed when it ends
    /// in order.
    pub fn heartbeat(&self, fold: usize) -> PathBuf {
        self.fold(fold).join("heartbeat.json")
    }

    /// Out-of-fold predictions of a fold: its last file, and removed when the training goes on, so
    /// that the fold is finished if it exists.
    pub fn validation(&self, fold: usize) -> PathBuf {
        self.fold(fold).join("validation.h5")
    }

    /// The weights of a fold that validation and prediction use.
    pub fn weights(&self, fold: usize, keep: Keep) -> PathBuf {
        let folder = CheckpointFolder::of(&self.fold(fold));
        match keep {
            Keep::Best => folder.best(),
            Keep::Last => folder.last(),
        }
    }

    /// The content of `provenance.json`; null where there is none.
    pub fn provenance(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.folder.join(PROVENANCE)).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub fn is_finished(&self, fold: usize) -> bool {
        self.validation(fold).exists()
    }

    /// The finished folds in ascending order.
    pub fn finished_folds(&self) -> Result<Vec<usize>> {
        let mut folds: Vec<usize> = fs::read_dir(&self.folder)
            .map_err(Error::io("list", &self.folder))?
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.strip_prefix("fold_")?.parse().ok())
            .filter(|&k| self.is_finished(k))
            .collect();
        folds.sort_unstable();
        if folds.is_empty() {
            return Err(Error::usage(format!(
                "no fold of the run {} is finished; run `atlas train --fold 0 --run {}` first",
                self.folder.display(),
                advice::quoted(self.name())
            )));
        }
        Ok(folds)
    }

    /// The name of the run: its folder's.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// `results/latest` → this run. It is a convenience: where no link can be made, or something
    /// else has that name, the run goes on with one warning.
    fn point_latest(&self) {
        let link = self.folder.with_file_name(LATEST);
        let name = self.name();
        if fs::read_link(&link).is_ok_and(|to| to == Path::new(&name)) {
            return;
        }
        let host = host::name();
        let temporary = link.with_file_name(format!(".latest.{host}.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let made = symlink(&name, &temporary).and_then(|()| fs::rename(&temporary, &link));
        if let Err(e) = made {
            let _ = fs::remove_file(&temporary);
            static WARNED: AtomicBool = AtomicBool::new(false);
            if !WARNED.swap(true, Relaxed) {
                log::warn!(
                    "{} cannot be made a link to the run {name} ({e}); the run is in {}",
                    link.display(),
                    self.folder.display()
                );
            }
        }
    }
}

/// Name of the link to the run last worked on.
pub(super) const LATEST: &str = "latest";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_is_trained_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::new(dir.path());
        let stop = Stop::new();
        let held = run.lock(0, &stop).unwrap();
        assert_eq!(run.lock(0, &stop).unwrap_err().exit_code(), 2);
        run.lock(1, &stop).unwrap();
        drop(held);
        run.lock(0, &stop).unwrap();
    }
}
