//! The results folder: one folder per run, one per fold in it, and where a run came from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    artefact,
    config::Config,
    error::{Error, Result},
};

/// One run: `results/<name>/`.
#[derive(Clone, Debug)]
pub struct Run {
    pub folder: PathBuf,
}

impl Run {
    /// The run that training fold `fold` belongs to: the one named, else the newest of the same configuration in which
    /// this fold is unfinished, else a new one named by the time (UTC). Writes nothing; see [`begin`](Self::begin).
    pub fn to_train(config: &Config, name: Option<&str>, fold: usize) -> Result<Self> {
        let folder = match named(name)? {
            Some(name) => config.paths.results.join(name),
            None => newest_first(&config.paths.results)?
                .into_iter()
                .find(|f| is_of(f, config) && !Self { folder: f.clone() }.is_finished(fold))
                .unwrap_or_else(|| config.paths.results.join(Self::stamp(&config.paths.results))),
        };
        if folder.join("config.toml").exists() && !is_of(&folder, config) {
            return Err(Error::usage(format!(
                "the run {} was made with another configuration (its config.toml); name another run with --run, or take that configuration",
                folder.display()
            )));
        }
        Ok(Self { folder })
    }

    /// Writes `config.toml` and `provenance.json` unless they are there, and points `results/latest` here.
    pub fn begin(&self, config: &Config) -> Result<()> {
        if !self.folder.join("config.toml").exists() {
            artefact::write(self.folder.join("provenance.json"), provenance(config))?;
            artefact::write(self.folder.join("config.toml"), config.to_toml())?;
        }
        self.point_latest()
    }

    /// The newest run of this configuration, finished or not.
    pub fn same(config: &Config) -> Result<Option<Self>> {
        Ok(newest_first(&config.paths.results)?.into_iter().find(|f| is_of(f, config)).map(|folder| Self { folder }))
    }

    /// A name for a new run in `results`: the time, UTC.
    pub fn stamp(results: &Path) -> String {
        loop {
            let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
            if !results.join(&stamp).exists() {
                return stamp;
            }
            std::thread::sleep(std::time::Duration::from_millis(100)); // two runs in one second
        }
    }

    /// The run named, else the newest one.
    pub fn existing(config: &Config, name: Option<&str>) -> Result<Self> {
        let results = &config.paths.results;
        if let Some(name) = named(name)? {
            let folder = results.join(&name);
            return folder
                .is_dir()
                .then_some(Self { folder })
                .ok_or_else(|| Error::usage(format!("there is no run {name} in {}", results.display())));
        }
        let newest = newest_first(results)?.into_iter().next();
        newest
            .map(|folder| Self { folder })
            .ok_or_else(|| Error::usage(format!("there is no run in {}; run `atlas train` first", results.display())))
    }

    pub fn fold(&self, fold: usize) -> PathBuf {
        self.folder.join(format!("fold_{fold}"))
    }

    /// Out-of-fold predictions of a fold: its last file, so that it also says that the fold is finished.
    pub fn validation(&self, fold: usize) -> PathBuf {
        self.fold(fold).join("validation.h5")
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
        Ok(folds)
    }

    /// The name of the run: its folder's.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// `results/latest` → this run.
    pub fn point_latest(&self) -> Result<()> {
        let link = self.folder.with_file_name("latest");
        let temporary = artefact::temporary_name(&link)?;
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink(self.name(), &temporary).map_err(Error::io("link", &link))?;
        artefact::publish(&temporary, &link)
    }
}

/// `--run`, else `ATLAS_RUN`; a name, not a path.
fn named(name: Option<&str>) -> Result<Option<String>> {
    let name = name.map(str::to_string).or_else(|| std::env::var("ATLAS_RUN").ok().filter(|n| !n.is_empty()));
    match name {
        Some(n) if n.contains('/') || n.starts_with('.') || n.is_empty() || n == "latest" => {
            Err(Error::usage(format!("`{n}` is not a run's name: expected a folder name in paths.results, such as 20260131-235959")))
        }
        other => Ok(other),
    }
}

/// Whether a run was made with this configuration; the number of threads may differ.
fn is_of(run: &Path, config: &Config) -> bool {
    let without_threads = |mut c: Config| {
        c.threads = None;
        c
    };
    let text = fs::read_to_string(run.join("config.toml")).unwrap_or_default();
    toml::from_str::<Config>(&text).is_ok_and(|old| without_threads(old) == without_threads(config.clone()))
}

/// Run folders, newest first; a run that one names oneself sorts by its time of making.
fn newest_first(results: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(results) else { return Ok(Vec::new()) };
    let mut runs: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .filter(|p| p.join("config.toml").exists())
        .map(|p| (fs::metadata(p.join("config.toml")).and_then(|m| m.modified()).ok(), p))
        .collect();
    runs.sort();
    Ok(runs.into_iter().rev().map(|(_, p)| p).collect())
}

#[derive(Serialize)]
struct Provenance {
    atlas_version: &'static str,
    git_commit: &'static str,
    libtorch: &'static str,
    hdf5: String,
    host: String,
    processor: String,
    threads: usize,
    started: String,
    config_xxh3: String,
    manifest_xxh3: Option<String>,
    folds_xxh3: Option<String>,
}

fn provenance(config: &Config) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let hash = |name: &str| artefact::checksum_file(&config.paths.work.join(name)).ok().map(|h| format!("{h:016x}"));
    let (a, b, c) = hdf5::library_version();
    let provenance = Provenance {
        atlas_version: env!("CARGO_PKG_VERSION"),
        git_commit: env!("ATLAS_GIT_COMMIT"),
        libtorch: "2.11.0",
        hdf5: format!("{a}.{b}.{c}"),
        host: read("/proc/sys/kernel/hostname").trim().into(),
        processor: processor(),
        threads: config.threads(),
        started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        config_xxh3: format!("{:016x}", artefact::checksum(config.to_toml().as_bytes())),
        manifest_xxh3: hash("manifest.csv"),
        folds_xxh3: hash("folds.csv"),
    };
    serde_json::to_string_pretty(&provenance).expect("plain data") + "\n"
}

/// The kind of processor, as the kernel names it.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix("model name")).map_or("unknown", |l| l.trim_start_matches([' ', '\t', ':'])).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_run_of_the_same_configuration_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.paths.results = dir.path().join("results");
        let first = Run::to_train(&config, None, 0).unwrap();
        assert!(!first.folder.exists(), "nothing is written before training can begin");
        first.begin(&config).unwrap();
        config.threads = Some(3);
        assert_eq!(Run::to_train(&config, None, 0).unwrap().folder, first.folder);
        config.train.epochs = 7;
        let e = Run::to_train(&config, Some(&first.name()), 0).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        assert_eq!(Run::existing(&config, None).unwrap().folder, first.folder);
        assert_eq!(fs::read_link(config.paths.results.join("latest")).unwrap().to_str(), Some(first.name().as_str()));
        assert!(Run::existing(&config, Some("../x")).is_err());
    }
}
