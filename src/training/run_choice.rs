//! Which run a job works on: the one that the user names, else one that fits the configuration and
//! the training samples at hand.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    ops::Range,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::Duration,
};

use crate::{
    base::{Error, Result, advice, checksum, slurm},
    config::{Config, PROVENANCE},
    data::work_folder::WorkFolder,
    training::{
        run_folder::{LATEST, Run},
        run_identity,
    },
};

/// The run that a fold's training belongs to: the one named, else the newest of the same
/// configuration and samples in which this fold is not `finished`, else a new one. The tasks of a
/// Slurm array agree on one run: the newest in which any fold is not finished, else a new one.
/// Writes no run; see [`Run::begin`].
pub fn to_train(
    config: &Config,
    work: &WorkFolder,
    name: Option<&str>,
    fold: usize,
    finished: impl Fn(&Run, usize) -> bool,
) -> Result<Run> {
    let results = &config.paths.results;
    if let Some(run) = Run::named(results, name)? {
        return Ok(run);
    }
    let unfinished = |folds: Range<usize>| {
        let samples = run_identity::of_samples(work);
        let mut fitting = fitting(config).into_iter();
        let found = fitting.find(|run| {
            run.has_samples(samples.as_deref()) && folds.clone().any(|k| !finished(run, k))
        });
        found.unwrap_or_else(|| Run::new(results))
    };
    match slurm::array() {
        None => Ok(unfinished(fold..fold + 1)),
        Some(array) => {
            // Not the paths: a node may have the folders at another place.
            let keys = format!("{:?}", run_identity::keys(config));
            of_array(results, &array, &keys, || unfinished(0..config.split.folds))
        }
    }
}

/// The newest run of this configuration and of the training samples in `work`, finished or not.
pub fn newest(config: &Config, work: &WorkFolder) -> Option<Run> {
    newest_of(fitting(config), work)
}

/// The newest run of this configuration, of these samples or others.
pub fn newest_of_any_samples(config: &Config) -> Option<Run> {
    fitting(config).into_iter().next()
}

/// The run named, else the newest one of this configuration and of the samples in `work`. One that
/// is named may be of other samples, with a warning.
///
/// # Errors
/// Usage where there is none, or it is of another configuration.
pub fn existing(config: &Config, work: &WorkFolder, name: Option<&str>) -> Result<Run> {
    let (results, folder) = (&config.paths.results, config.paths.results.display());
    if let Some(run) = Run::named(results, name)? {
        if !run.folder.join("config.toml").exists() {
            return Err(Error::usage(format!("there is no run {} in {folder}", run.name())));
        }
        run.must_be_of(config)?;
        if let Err(e) = run.must_have_samples(work) {
            log::warn!("{e}");
        }
        return Ok(run);
    }
    let fitting = fitting(config);
    let of_any_samples = fitting.first().cloned();
    if let Some(run) = newest_of(fitting, work) {
        return Ok(run);
    }
    let run = of_any_samples.or_else(|| all(results).into_iter().next()).ok_or_else(|| {
        Error::usage(format!("there is no run in {folder}; run `atlas train --fold 0` first"))
    })?;
    run.must_be_of(config)?;
    let all_the_same =
        |e| format!("{e}; --run={} takes this one all the same", advice::quoted(run.name()));
    run.must_have_samples(work).map_err(|e| Error::usage(all_the_same(e)))?;
    Ok(run)
}

/// The runs of this configuration, newest first.
fn fitting(config: &Config) -> Vec<Run> {
    let mut runs = all(&config.paths.results);
    runs.retain(|run| run.is_of(config));
    runs
}

/// The first of `runs` that is of the training samples in `work`.
fn newest_of(runs: Vec<Run>, work: &WorkFolder) -> Option<Run> {
    if runs.is_empty() {
        return None; // the manifest need not be read
    }
    let samples = run_identity::of_samples(work);
    runs.into_iter().find(|run| run.has_samples(samples.as_deref()))
}

/// All runs, newest first, by the time when they were made as they record it: the times of files
/// change when a folder is copied, and lie where the clocks of two machines differ.
fn all(results: &Path) -> Vec<Run> {
    let Ok(entries) = fs::read_dir(results) else { return Vec::new() };
    let mut runs: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .filter(|p| !p.ends_with(LATEST)) // a copy, made by a program that follows links
        .filter(|p| p.join("config.toml").exists())
        .map(|folder| {
            let modified = fs::metadata(folder.join(PROVENANCE)).and_then(|m| m.modified());
            let run = Run { folder };
            let started = run.provenance()["started"].as_str().map(String::from);
            (started, modified.ok(), run.folder)
        })
        .collect();
    runs.sort();
    runs.into_iter().rev().map(|(.., folder)| Run { folder }).collect()
}

/// The run that the first task of a Slurm array chooses; `keys` is the text of what tells runs
/// apart. A symbolic link appears whole or not at all, so the task that makes it decides, and the
/// others read it.
fn of_array(results: &Path, array: &str, keys: &str, choose: impl FnOnce() -> Run) -> Result<Run> {
    // Another array may have had the same number: on another cluster, with other keys, or long ago,
    // before Slurm restarted its count.
    let cluster = slurm::cluster().unwrap_or_default();
    let hash = checksum::of_parts([keys.as_bytes(), cluster.as_bytes()]) as u32;
    let marker = results.join(format!(".array-{array}-{hash:08x}"));
    let made = fs::symlink_metadata(&marker).and_then(|m| m.modified());
    if made.is_ok_and(|m| m.elapsed().is_ok_and(|age| age > LONG_AGO)) {
        let _ = fs::remove_file(&marker);
    }
    fs::create_dir_all(results).map_err(Error::io("create the folder", results))?;
    let run = choose();
    let marked = symlink(run.name(), &marker).or_else(|e| match e.kind() {
        ErrorKind::AlreadyExists => Err(e),
        _ => mark_without_links(&run.name(), &marker),
    });
    match marked {
        Ok(()) => Ok(run),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => marked_run(results, &marker),
        Err(e) => Err(Error::io("create", &marker)(e)),
    }
}

/// The run that `marker` names, a link or, without links, a file with the name and a line feed.
fn marked_run(results: &Path, marker: &Path) -> Result<Run> {
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

/// On file systems without links, a file that only one process can create decides.
fn mark_without_links(name: &str, marker: &Path) -> io::Result<()> {
    let mut file = fs::File::create_new(marker)?;
    file.write_all(format!("{name}\n").as_bytes()).inspect_err(|_| {
        let _ = fs::remove_file(marker);
    })
}

/// Longer than any array job lasts.
const LONG_AGO: Duration = Duration::from_secs(60 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::manifest::Manifest;

    fn config(folder: &Path) -> Config {
        let mut config = Config::default();
        config.paths.results = folder.join("results");
        config.paths.work = folder.join("work");
        config
    }

    fn work(config: &Config) -> WorkFolder {
        WorkFolder::of(config)
    }

    fn to_train(config: &Config) -> Run {
        super::to_train(config, &work(config), None, 0, Run::is_finished).unwrap()
    }

    fn existing(config: &Config, name: Option<&str>) -> Result<Run> {
        super::existing(config, &work(config), name)
    }

    #[test]
    fn an_unfinished_run_of_the_same_configuration_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let first = to_train(&config);
        assert!(!first.folder.exists(), "nothing is written before training can begin");
        first.begin(&config, &work(&config)).unwrap();
        config.threads = Some(3);
        assert_eq!(to_train(&config).folder, first.folder);
        assert_eq!(existing(&config, None).unwrap().folder, first.folder);
        assert_eq!(
            fs::read_link(config.paths.results.join("latest")).unwrap().to_str(),
            Some(first.name().as_str())
        );
        let completed = format!("{}/", first.name());
        assert_eq!(existing(&config, Some(&completed)).unwrap().name(), first.name());
        assert!(Run::named(&config.paths.results, Some("/")).is_err());
        assert!(existing(&config, Some("../x")).is_err());
        let e = existing(&config, Some("no-such")).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("no-such"), "{e}");
    }

    #[test]
    fn another_configuration_is_another_run_unless_it_only_concerns_what_follows_training() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let run = Run::new(&config.paths.results);
        run.begin(&config, &work(&config)).unwrap();
        config.fetch.connections = 3;
        config.predict.batch = 7;
        config.submit.thresholds = Some(crate::config::Method::Half);
        assert_eq!(existing(&config, None).unwrap().folder, run.folder);
        run.begin(&config, &work(&config)).unwrap();
        let kept = fs::read_to_string(run.folder.join("config.toml")).unwrap();
        assert!(kept.contains("half"), "the effective configuration is kept");

        config.train.epochs = 7;
        config.train.loss.bce = 1.0;
        for result in [
            existing(&config, None).map(drop),
            existing(&config, Some(&run.name())).map(drop),
            run.begin(&config, &work(&config)),
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
        plan(&config, "a");
        let first = to_train(&config);
        first.begin(&config, &work(&config)).unwrap();

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
        assert_eq!(existing(&config, None).unwrap().folder, run.folder);
        run.begin(&config, &work(&config)).unwrap();

        // Other samples at the same place: another run, and the old one only where it is named.
        plan(&config, "b");
        assert_ne!(to_train(&config).folder, run.folder);
        assert!(newest(&config, &work(&config)).is_none());
        assert_eq!(newest_of_any_samples(&config).unwrap().folder, run.folder);
        let e = existing(&config, None).unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 2 && text.contains("manifest.csv"), "{text}");
        existing(&config, Some(&run.name())).unwrap();

        // Without a manifest, and for a run of an earlier version, nothing is known of the samples.
        fs::remove_file(Manifest::path(&config.paths.work)).unwrap();
        assert_eq!(to_train(&config).folder, run.folder);
        plan(&config, "b");
        fs::write(run.folder.join(PROVENANCE), "{}").unwrap();
        assert_eq!(to_train(&config).folder, run.folder);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let run = Run::new(&config.paths.results);
        run.begin(&config, &work(&config)).unwrap();
        fs::write(run.folder.join("config.toml"), "[train]\nfrom_the_future = 1\n").unwrap();
        let e = run.must_be_of(&config).unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 2 && text.contains("config.toml: "), "{text}");
        assert!(text.contains("`from_the_future`"), "{text}");
        assert!(newest(&config, &work(&config)).is_none());
    }

    #[test]
    fn latest_is_no_reason_to_fail_and_no_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let latest = config.paths.results.join(LATEST);
        fs::create_dir_all(latest.join("fold_0")).unwrap();
        let run = Run::new(&config.paths.results);
        run.begin(&config, &work(&config)).unwrap();
        fs::copy(run.folder.join("config.toml"), latest.join("config.toml")).unwrap();
        run.begin(&config, &work(&config)).unwrap();
        assert!(latest.join("fold_0").is_dir(), "what has the name stays");
        let names: Vec<_> = all(&config.paths.results).iter().map(Run::name).collect();
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
            fs::write(folder.join(PROVENANCE), text).unwrap(); // the old one last
        }
        let names: Vec<_> = all(dir.path()).iter().map(Run::name).collect();
        assert_eq!(names, ["new", "old"]);
    }

    #[test]
    fn tasks_of_an_array_agree_on_a_run_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let (results, marker) = (dir.path(), dir.path().join(".array-1-0"));
        mark_without_links("a", &marker).unwrap();
        let e = mark_without_links("b", &marker).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        assert_eq!(marked_run(results, &marker).unwrap().name(), "a");
        fs::remove_file(&marker).unwrap();
        symlink("c", &marker).unwrap();
        assert_eq!(marked_run(results, &marker).unwrap().name(), "c");
    }
}
