//! The results folder: a folder for each run, and in it one for each fold.

use std::{
    fs,
    io::{ErrorKind, Write},
    ops::Range,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    base::{Error, Result, atomic_file, checksum, file_lock, host, slurm, stop_request::Stop},
    config::{Config, Keep},
    data::manifest::Manifest,
    training::{
        checkpoint::CheckpointFolder,
        provenance::provenance,
        run_identity::{self, Difference},
    },
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
        let n = n.trim_end_matches('/'); // which a shell completes to the name of a folder
        if n.contains('/') || n.starts_with('.') || n.is_empty() || n == LATEST {
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
            let mut fitting = Self::all_of(config)?.into_iter();
            let found = fitting.find(|run| folds.clone().any(|k| !finished(run, k)));
            Ok(found.unwrap_or_else(|| Self::new(results)))
        };
        match slurm::array() {
            None => unfinished(fold..fold + 1),
            Some(array) => {
                // Not the paths: a node may have the folders at another place.
                let keys = format!("{:?}", run_identity::keys(config));
                let choose = || unfinished(0..config.split.folds);
                Self::of_array(results, &array, &keys, choose)
            }
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
            Err(e) if e.kind() == ErrorKind::AlreadyExists => marked(results, &marker),
            Err(_) => mark_without_links(run, &marker).unwrap_or_else(|| marked(results, &marker)),
        }
    }

    /// The newest run of this configuration and of the training samples in `paths.work`, finished
    /// or not.
    pub fn newest(config: &Config) -> Result<Option<Self>> {
        Ok(Self::all_of(config)?.into_iter().next())
    }

    /// The newest run of this configuration, of these samples or others.
    pub fn newest_of_any_samples(config: &Config) -> Result<Option<Self>> {
        Ok(all(&config.paths.results)?.into_iter().find(|run| run.is_of(config)))
    }

    /// The runs of this configuration and of the training samples in `paths.work`, newest first.
    fn all_of(config: &Config) -> Result<Vec<Self>> {
        let mut runs = all(&config.paths.results)?;
        runs.retain(|run| run.is_of(config));
        if !runs.is_empty() {
            let samples = run_identity::of_samples(&config.paths.work);
            runs.retain(|run| run.has_samples(samples.as_deref()));
        }
        Ok(runs)
    }

    /// The run named, else the newest one of this configuration and of the samples at hand. One
    /// that is named may be of other samples, with a warning.
    ///
    /// # Errors
    /// Usage where there is none, or it is of another configuration.
    pub fn existing(config: &Config, name: Option<&str>) -> Result<Self> {
        let (results, folder) = (&config.paths.results, config.paths.results.display());
        let run = match Self::named(results, name)? {
            Some(run) if !run.folder.join("config.toml").exists() => {
                return Err(Error::usage(format!("there is no run {} in {folder}", run.name())));
            }
            Some(run) => {
                run.must_be_of(config)?;
                if let Err(e) = run.must_have_samples(config) {
                    log::warn!("{e}");
                }
                return Ok(run);
            }
            None => match Self::newest(config)? {
                Some(run) => return Ok(run),
                None => match Self::newest_of_any_samples(config)? {
                    Some(run) => Some(run),
                    None => all(results)?.into_iter().next(),
                },
            },
        };
        let run = run.ok_or_else(|| {
            Error::usage(format!("there is no run in {folder}; run `atlas train` first"))
        })?;
        run.must_be_of(config)?;
        let all_the_same = |e| format!("{e}; --run={} takes this one all the same", run.name());
        run.must_have_samples(config).map_err(|e| Error::usage(all_the_same(e)))?;
        Ok(run)
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
            atomic_file::write(self.folder.join("provenance.json"), provenance(config))?;
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
        let path = self.folder.join("config.toml");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let theirs = toml::from_str::<Config>(&text).map_err(|e| {
            // What follows is the list of all keys.
            let what = e.message().lines().next().unwrap_or_default();
            let what = what.split(", expected one of").next().unwrap_or_default();
            Error::usage(format!(
                "{}: {what}; it is not a configuration of this version, so name another run with \
                 --run NAME",
                path.display()
            ))
        })?;
        let provenance = self.provenance();
        Ok(run_identity::differences(config, &theirs, provenance["weights_xxh3"].as_str()))
    }

    fn is_of(&self, config: &Config) -> bool {
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

    /// Whether the run is of these training samples, as far as that is known: of a run of an
    /// earlier version, or where there is no manifest, it is not.
    fn has_samples(&self, samples: Option<&str>) -> bool {
        let provenance = self.provenance();
        let theirs = provenance["training_samples_xxh3"].as_str();
        samples.is_none() || theirs.is_none() || samples == theirs
    }

    /// # Errors
    /// Usage, if the run was trained on other samples than the manifest in `paths.work` lists.
    pub fn must_have_samples(&self, config: &Config) -> Result<()> {
        let work = &config.paths.work;
        let samples = run_identity::of_samples(work);
        if self.has_samples(samples.as_deref()) {
            return Ok(());
        }
        let provenance = self.provenance();
        Err(Error::usage(format!(
            "the run {} was trained on other samples than {} lists (training_samples_xxh3 is {} in \
             its provenance.json and {} here); set paths.work to the folder that it was trained \
             from, or name another run with --run NAME",
            self.folder.display(),
            Manifest::path(work).display(),
            provenance["training_samples_xxh3"].as_str().unwrap_or_default(),
            samples.unwrap_or_default()
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

/// The run that `marker` names, a link or, without links, a file with the name and a line feed.
fn marked(results: &Path, marker: &Path) -> Result<Run> {
    for _ in 0..50 {
        if let Ok(name) = fs::read_link(marker) {
            return Ok(Run { folder: results.join(name) });
        }
        let text = fs::read_to_string(marker).map_err(Error::io("read", marker))?;
        if let Some(name) = text.strip_suffix('\n').filter(|name| !name.is_empty()) {
            return Ok(Run { folder: results.join(name) });
        }
        thread::sleep(Duration::from_millis(100)); // the task that makes it writes the name
    }
    Err(Error::data(marker, "names no run; remove it and run the command again"))
}

/// On file systems without links, a file that only one process can create decides; `None` where
/// another one has created it.
fn mark_without_links(run: Run, marker: &Path) -> Option<Result<Run>> {
    let mut file = match fs::File::create_new(marker) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return None,
        Err(e) => return Some(Err(Error::io("create", marker)(e))),
    };
    let written = file.write_all(format!("{}\n", run.name()).as_bytes());
    Some(match written {
        Ok(()) => Ok(run),
        Err(e) => {
            let _ = fs::remove_file(marker);
            Err(Error::io("write", marker)(e))
        }
    })
}

/// Name of the link to the run last worked on.
const LATEST: &str = "latest";

/// Longer than any array job lasts.
const LONG_AGO: Duration = Duration::from_secs(60 * 86_400);

/// All runs, newest first, by the time when they were made as they record it: the times of files
/// change when a folder is copied, and lie where the clocks of two machines differ.
fn all(results: &Path) -> Result<Vec<Run>> {
    let Ok(entries) = fs::read_dir(results) else { return Ok(Vec::new()) };
    let mut runs: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .filter(|p| !p.ends_with(LATEST)) // a copy, made by a program that follows links
        .filter(|p| p.join("config.toml").exists())
        .map(|folder| {
            let modified = fs::metadata(folder.join("provenance.json")).and_then(|m| m.modified());
            let run = Run { folder };
            let started = run.provenance()["started"].as_str().map(String::from);
            (started, modified.ok(), run.folder)
        })
        .collect();
    runs.sort();
    Ok(runs.into_iter().rev().map(|(.., folder)| Run { folder }).collect())
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
        let completed = format!("{}/", first.name());
        assert_eq!(Run::existing(&config, Some(&completed)).unwrap().name(), first.name());
        assert!(Run::named(&config.paths.results, Some("/")).is_err());
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
            let text = e.to_string();
            for part in ["train.epochs is 7 here", " --set train.loss.bce=0.0", &run.name()] {
                assert!(text.contains(part), "`{part}` is not in: {text}");
            }
        }
    }

    /// A manifest of one training sample in `paths.work`.
    fn plan(config: &Config, id: &str) {
        let header = "id,source,part,shard,target,red,green,blue,yellow";
        let row = format!("{id},official,train,0,1,/d/r.png,/d/g.png,/d/b.png,/d/y.png");
        fs::create_dir_all(&config.paths.work).unwrap();
        fs::write(Manifest::path(&config.paths.work), format!("{header}\n{row}\n")).unwrap();
    }

    #[test]
    fn a_run_is_of_its_samples_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.paths.work = dir.path().join("work");
        plan(&config, "a");
        let first = Run::to_train(&config, None, 0, Run::is_finished).unwrap();
        first.begin(&config).unwrap();
        let to_train = |config: &Config| Run::to_train(config, None, 0, Run::is_finished).unwrap();

        // Everything at another place: the same run.
        let moved = dir.path().join("moved");
        fs::create_dir(&moved).unwrap();
        fs::rename(&config.paths.results, moved.join("results")).unwrap();
        config.paths.results = moved.join("results");
        config.paths.work = moved.join("work");
        config.data.kaggle = Some("/mnt/data".into());
        plan(&config, "a");
        let run = Run { folder: config.paths.results.join(first.name()) };
        assert_eq!(to_train(&config).folder, run.folder);
        assert_eq!(Run::existing(&config, None).unwrap().folder, run.folder);
        run.begin(&config).unwrap();

        // Other samples at the same place: another run, and the old one only where it is named.
        plan(&config, "b");
        assert_ne!(to_train(&config).folder, run.folder);
        assert!(Run::newest(&config).unwrap().is_none());
        assert_eq!(Run::newest_of_any_samples(&config).unwrap().unwrap().folder, run.folder);
        let e = Run::existing(&config, None).unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 2 && text.contains("manifest.csv"), "{text}");
        Run::existing(&config, Some(&run.name())).unwrap();

        // Without a manifest, and for a run of an earlier version, nothing is known of the samples.
        fs::remove_file(Manifest::path(&config.paths.work)).unwrap();
        assert_eq!(to_train(&config).folder, run.folder);
        plan(&config, "b");
        fs::write(run.folder.join("provenance.json"), "{}").unwrap();
        assert_eq!(to_train(&config).folder, run.folder);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let run = Run::new(&config.paths.results);
        run.begin(&config).unwrap();
        fs::write(run.folder.join("config.toml"), "[train]\nfrom_the_future = 1\n").unwrap();
        let e = run.must_be_of(&config).unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 2 && text.contains("config.toml: "), "{text}");
        assert!(text.contains("`from_the_future`"), "{text}");
        assert!(Run::newest(&config).unwrap().is_none());
    }

    #[test]
    fn latest_is_no_reason_to_fail_and_no_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let latest = config.paths.results.join(LATEST);
        fs::create_dir_all(latest.join("fold_0")).unwrap();
        let run = Run::new(&config.paths.results);
        run.begin(&config).unwrap();
        fs::copy(run.folder.join("config.toml"), latest.join("config.toml")).unwrap();
        run.begin(&config).unwrap();
        assert!(latest.join("fold_0").is_dir(), "what has the name stays");
        let names: Vec<_> = all(&config.paths.results).unwrap().iter().map(Run::name).collect();
        assert_eq!(names, [run.name()]);
        let left = fs::read_dir(&config.paths.results).unwrap().count();
        assert_eq!(left, 2, "no temporary link remains");
    }

    #[test]
    fn the_newest_run_is_the_one_begun_last_whatever_its_files_say() {
        let dir = tempfile::tempdir().unwrap();
        for (name, started) in [("new", "2026-03-01T00:00:00Z"), ("old", "2026-02-01T00:00:00Z")] {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("config.toml"), "").unwrap();
            let text = format!("{{\"started\": \"{started}\"}}");
            fs::write(folder.join("provenance.json"), text).unwrap(); // the old one last
        }
        let names: Vec<_> = all(dir.path()).unwrap().iter().map(Run::name).collect();
        assert_eq!(names, ["new", "old"]);
    }

    #[test]
    fn tasks_of_an_array_agree_on_a_run_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let (results, marker) = (dir.path(), dir.path().join(".array-1-0"));
        let run = |name: &str| Run { folder: results.join(name) };
        let first = mark_without_links(run("a"), &marker).unwrap().unwrap();
        assert!(mark_without_links(run("b"), &marker).is_none());
        assert_eq!(marked(results, &marker).unwrap().folder, first.folder);
        fs::remove_file(&marker).unwrap();
        symlink("c", &marker).unwrap();
        assert_eq!(marked(results, &marker).unwrap().name(), "c");
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
