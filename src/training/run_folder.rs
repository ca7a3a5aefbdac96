//! The results folder: a folder for each run, and in it one for each fold.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    ops::Range,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    base::{Error, Result, atomic_file, checksum, slurm, stop_request::Stop},
    config::{Config, Keep},
    training::{checkpoint::CheckpointFolder, provenance::provenance},
};

/// One run: `results/<name>/`.
#[derive(Clone, Debug)]
pub struct Run {
    pub folder: PathBuf,
}

impl Run {
    /// The run in `results` that `--run`, else `ATLAS_RUN` names, which need not exist yet.
    pub fn named(results: &Path, name: Option<&str>) -> Result<Option<Self>> {
        let variable = || std::env::var("ATLAS_RUN").ok().filter(|n| !n.is_empty());
        let Some(n) = name.map(str::to_string).or_else(variable) else { return Ok(None) };
        if n.contains('/') || n.starts_with('.') || n.is_empty() || n == "latest" {
            return Err(Error::usage(format!(
                "`{n}` is not a run's name: expected a folder name in paths.results, such as \
                    20260131-235959"
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

    /// The run that a fold's training belongs to: the one named, else the newest of the same
    /// configuration in which this fold is not `finished`, else a new one. The tasks of a Slurm
    /// array agree on one run: the newest in which any fold is not finished, else a new one. Writes
    /// no run; see [`begin`](Self::begin).
    pub fn to_train(
        config: &Config,
        name: Option<&str>,
        fold: usize,
        finished: impl Fn(&Self, usize) -> bool,
    ) -> Result<Self> {
        let results = &config.paths.results;
        if let Some(run) = Self::named(results, name)? {
            return Ok(run);
        }
        let unfinished = |folds: Range<usize>| -> Result<Self> {
            let runs = all(results)?.into_iter();
            let mut fitting = runs.filter(|run| run.differences(config).is_empty());
            let found = fitting.find(|run| folds.clone().any(|k| !finished(run, k)));
            Ok(found.unwrap_or_else(|| Self::new(results)))
        };
        match slurm::array() {
            None => unfinished(fold..fold + 1),
            Some(array) => Self::of_array(results, &array, &config.to_toml(), || {
                unfinished(0..config.split.folds)
            }),
        }
    }

    /// The run that the first task of a Slurm array chooses; `config` is the text of its
    /// configuration. A symbolic link appears whole or not at all, so the task that makes it
    /// decides, and the others read it.
    fn of_array(
        results: &Path,
        array: &str,
        config: &str,
        choose: impl FnOnce() -> Result<Self>,
    ) -> Result<Self> {
        // Another array may have had the same number: on another cluster, with another
        // configuration, or long ago, before Slurm restarted its count.
        let cluster = slurm::cluster().unwrap_or_default();
        let hash = checksum::of_parts([config.as_bytes(), cluster.as_bytes()]) as u32;
        let marker = results.join(format!(".array-{array}-{hash:08x}"));
        let made = fs::symlink_metadata(&marker).and_then(|m| m.modified()).ok();
        if made.and_then(|m| m.elapsed().ok()).is_some_and(|age| age > LONG_AGO) {
            let _ = fs::remove_file(&marker);
        }
        fs::create_dir_all(results).map_err(Error::io("create the folder", results))?;
        let run = choose()?;
        match symlink(run.name(), &marker) {
            Ok(()) => Ok(run),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let name = fs::read_link(&marker).map_err(Error::io("read the link", &marker))?;
                Ok(Self { folder: results.join(name) })
            }
            Err(e) => Err(Error::io("link", &marker)(e)),
        }
    }

    /// The newest run of this configuration, finished or not.
    pub fn newest(config: &Config) -> Result<Option<Self>> {
        Ok(all(&config.paths.results)?.into_iter().find(|r| r.differences(config).is_empty()))
    }

    /// The run named, else the newest one of this configuration.
    ///
    /// # Errors
    /// Usage where there is none, or the one named is of another configuration.
    pub fn existing(config: &Config, name: Option<&str>) -> Result<Self> {
        let (results, folder) = (&config.paths.results, config.paths.results.display());
        let run = match Self::named(results, name)? {
            Some(run) if !run.folder.join("config.toml").exists() => {
                return Err(Error::usage(format!("there is no run {} in {folder}", run.name())));
            }
            Some(run) => run,
            None => {
                let any = all(results)?.into_iter().next();
                Self::newest(config)?.or(any).ok_or_else(|| {
                    Error::usage(format!("there is no run in {folder}; run `atlas train` first"))
                })?
            }
        };
        run.must_be_of(config).map(|()| run)
    }

    /// Makes the folder with `config.toml` and `provenance.json`, or joins the run that exists, and
    /// points `results/latest` at it.
    ///
    /// # Errors
    /// Usage where the existing run is of another configuration.
    pub fn begin(&self, config: &Config) -> Result<()> {
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
            let provenance = provenance(&config.paths.work, config.threads(), &text);
            atomic_file::write(self.folder.join("provenance.json"), provenance)?;
        }
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            // new, or with other settings for what follows training
            atomic_file::write(&path, text)?;
        }
        self.point_latest()
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
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::Error(e)) => {
                    let path = path.display();
                    log::warn!(
                        "{path} cannot be locked ({e}): do not train this fold twice at once"
                    );
                    return Ok(file);
                }
                Err(fs::TryLockError::WouldBlock) if !slurm::is_restarted() => {
                    return Err(Error::usage(format!(
                        "{what}; wait for it, or train into another run with --run NAME"
                    )));
                }
                Err(fs::TryLockError::WouldBlock) if stop.asked() => {
                    return Err(Error::Stopped(format!("{what}; run this again to go on")));
                }
                Err(fs::TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut warned, true) {
                log::warn!("{what}, as may happen after a restart; waiting for its end");
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// The keys in which the run's configuration differs from this one. Keys that may change within
    /// a run do not count: threads and ranks, how data are fetched, how often checkpoints are
    /// written, when to stop or to give up, and everything that follows training.
    fn differences(&self, config: &Config) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("config.toml")).unwrap_or_default();
        let leaves = |c: &Config| {
            let Config { fetch, predict, submit, .. } = config.clone();
            let c = Config { threads: None, fetch, predict, submit, ..c.clone() };
            let mut leaves = c.leaves();
            for key in FREE {
                leaves.remove(key);
            }
            leaves
        };
        let Ok(theirs) = toml::from_str::<Config>(&text) else {
            return vec!["its config.toml, which cannot be read".into()];
        };
        let (mine, theirs) = (leaves(config), leaves(&theirs));
        let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        keys.into_iter().filter(|k| mine.get(*k) != theirs.get(*k)).cloned().collect()
    }

    /// # Errors
    /// Usage, if the run exists and is of another configuration; the keys are named.
    pub fn must_be_of(&self, config: &Config) -> Result<()> {
        if !self.folder.join("config.toml").exists() {
            return Ok(());
        }
        let differences = self.differences(config);
        if differences.is_empty() {
            return Ok(());
        }
        let few = differences.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        let more = if differences.len() > 4 { ", ..." } else { "" };
        let folder = self.folder.display();
        Err(Error::usage(format!(
            "the run {folder} was made with another configuration (it differs in {few}{more}); \
             name another run with --run, or take its own by --config '{folder}/config.toml'"
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
        let text = fs::read_to_string(self.folder.join("provenance.json")).ok();
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
                "no fold of the run {} is finished; run `atlas train` first",
                self.folder.display()
            )));
        }
        Ok(folds)
    }

    /// The name of the run: its folder's.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// `results/latest` → this run.
    fn point_latest(&self) -> Result<()> {
        let link = self.folder.with_file_name("latest");
        let temporary = atomic_file::temporary_name(&link)?;
        let _ = fs::remove_file(&temporary);
        symlink(self.name(), &temporary).map_err(Error::io("link", &link))?;
        atomic_file::publish(&temporary, &link)
    }
}

/// Longer than any array job lasts.
const LONG_AGO: Duration = Duration::from_secs(60 * 86_400);

/// Keys that may change within a run, besides threads, [fetch] and all that follows training.
const FREE: [&str; 9] = [
    "preprocess.tasks",
    "train.checkpoint_steps",
    "train.max_skipped_steps",
    "train.max_minutes",
    "train.ranks",
    "train.tensorboard",
    "comm.backend",
    "comm.timeout_seconds",
    "comm.start_timeout_seconds",
];

/// All runs, newest first, by the time when they were made.
fn all(results: &Path) -> Result<Vec<Run>> {
    let Ok(entries) = fs::read_dir(results) else { return Ok(Vec::new()) };
    let mut runs: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .filter(|p| p.join("config.toml").exists())
        .map(|p| (fs::metadata(p.join("provenance.json")).and_then(|m| m.modified()).ok(), p))
        .collect();
    runs.sort();
    Ok(runs.into_iter().rev().map(|(_, folder)| Run { folder }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let mut config = Config::default();
        config.paths.results = folder.join("results");
        config
    }

    #[test]
    fn an_unfinished_run_of_the_same_configuration_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let first = Run::to_train(&config, None, 0, Run::is_finished).unwrap();
        assert!(!first.folder.exists(), "nothing is written before training can begin");
        first.begin(&config).unwrap();
        config.threads = Some(3);
        assert_eq!(Run::to_train(&config, None, 0, Run::is_finished).unwrap().folder, first.folder);
        assert_eq!(Run::existing(&config, None).unwrap().folder, first.folder);
        assert_eq!(
            fs::read_link(config.paths.results.join("latest")).unwrap().to_str(),
            Some(first.name().as_str())
        );
        assert!(Run::existing(&config, Some("../x")).is_err());
        let e = Run::existing(&config, Some("no-such")).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("no-such"), "{e}");
    }

    #[test]
    fn another_configuration_is_another_run_unless_it_only_concerns_what_follows_training() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let run = Run::new(&config.paths.results);
        run.begin(&config).unwrap();
        config.fetch.connections = 3;
        config.predict.batch = 7;
        config.submit.thresholds = Some(crate::config::Method::Half);
        assert_eq!(Run::existing(&config, None).unwrap().folder, run.folder);
        run.begin(&config).unwrap();
        let kept = fs::read_to_string(run.folder.join("config.toml")).unwrap();
        assert!(kept.contains("half"), "the effective configuration is kept");

        config.train.epochs = 7;
        config.train.loss.bce = 1.0;
        for result in [
            Run::existing(&config, None).map(drop),
            Run::existing(&config, Some(&run.name())).map(drop),
            run.begin(&config),
        ] {
            let e = result.unwrap_err();
            assert_eq!(e.exit_code(), 2);
            assert!(e.to_string().contains("train.epochs, train.loss.bce)"), "{e}");
        }
    }

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
