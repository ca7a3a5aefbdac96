//! From a TOML file and `--set key=value` to a checked configuration with absolute paths.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Config,
    check::{self, check},
    explain::{located, must_be_shallow},
    set,
};
use crate::base::{Error, Result};

impl Config {
    /// The configuration that TOML states, with its paths as they stand there.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        must_be_shallow(text).map_err(serde::de::Error::custom)?;
        toml::from_str(text)
    }

    /// Reads `file` (if any), then applies `sets` (`key=value`) in order, resolves the paths and
    /// checks the ranges.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|e| {
                Error::usage(format!("cannot read the configuration {}: {e}", path.display()))
            })?;
            // For an error with its line; what is used is the table, so that `sets` can follow.
            let config = Self::parse(&text).map_err(|e| located(path, &text, &e))?;
            check::paths(&config).map_err(|fault| fault.of(&format!("{}: ", path.display())))?;
            table = toml::from_str(&text).map_err(|e| located(path, &text, &e))?;
            resolve_file_paths(&mut table, path);
            follow_move(&mut table, path);
        }
        let here = std::env::current_dir().map_err(Error::io("find", "the current directory"))?;
        for set in sets {
            set::apply(&mut table, set)
                .map_err(|e| Error::usage(format!("--set {}: {e}", set.replace('\n', "\\n"))))?;
        }
        let mut config: Self =
            table.try_into().map_err(|e: toml::de::Error| Error::usage(e.message()))?;
        // Ranges only now: two keys that depend on each other may come in any order.
        check(&config).map_err(|fault| {
            let is_cause = |set: &&String| {
                let key = set.split('=').next().unwrap_or_default().trim();
                fault.key.contains(key) || fault.want.contains(key) || key.starts_with(&fault.key)
            };
            let source = match (sets.iter().rev().find(is_cause), file) {
                (Some(set), _) => format!("--set {set}: "),
                (None, Some(path)) => format!("{}: ", path.display()),
                (None, None) => String::new(),
            };
            fault.of(&source)
        })?;
        let paths = [&mut config.paths.work, &mut config.paths.results];
        let optional =
            [&mut config.data.kaggle, &mut config.data.external, &mut config.model.weights];
        for path in paths.into_iter().chain(optional.into_iter().flatten()) {
            *path = here.join(at_home(path));
        }
        Ok(config)
    }

    /// As TOML, complete: what `results/<run>/config.toml` holds.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data with string keys")
    }

    /// All values by their dotted keys, such as `train.loss.bce`.
    pub fn leaves(&self) -> BTreeMap<String, toml::Value> {
        fn collect(at: &str, value: toml::Value, leaves: &mut BTreeMap<String, toml::Value>) {
            match value {
                toml::Value::Table(table) => {
                    for (key, value) in table {
                        let key = if at.is_empty() { key } else { format!("{at}.{key}") };
                        collect(&key, value, leaves);
                    }
                }
                value => {
                    leaves.insert(at.into(), value);
                }
            }
        }
        let mut leaves = BTreeMap::new();
        collect("", toml::Value::try_from(self).expect("plain data with string keys"), &mut leaves);
        leaves
    }

    /// Worker threads: the key, else what the allocation allows (cgroup and affinity counted).
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// The keys that name files and folders, with their defaults.
const PATHS: [(&str, &str, Option<&str>); 5] = [
    ("paths", "work", Some("work")),
    ("paths", "results", Some("results")),
    ("data", "kaggle", None),
    ("data", "external", None),
    ("model", "weights", None),
];

/// Makes the relative paths of a file, and the defaults of `paths`, absolute: against the project
/// of that file.
fn resolve_file_paths(table: &mut toml::Table, file: &Path) {
    let project = project_of(file);
    for (section, key, default) in PATHS {
        let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
        let path = section.get(key).and_then(toml::Value::as_str).or(default);
        let path = path.map(|path| project.join(at_home(Path::new(path))));
        let path = path.map(|path| path.to_string_lossy().into_owned());
        if let (Some(path), Some(section)) = (path, section.as_table_mut()) {
            section.insert(key.into(), path.into());
        }
    }
}

/// `path` with the home folder for a `~` at its begin, which no shell replaces in a file or after
/// `--set key=`.
fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) if !home.is_empty() => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

/// If the results folder in a run's `config.toml` is gone, the project was moved, or is mounted at
/// another place. Each path that is missing is then looked for at the same place relative to the
/// present results folder.
fn follow_move(table: &mut toml::Table, file: &Path) {
    let text = |table: &toml::Table, section: &str, key: &str| {
        table.get(section)?.get(key)?.as_str().map(PathBuf::from)
    };
    let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let is_of_run = file.ends_with("config.toml") && file.with_file_name(PROVENANCE).exists();
    let new = file.parent().and_then(Path::parent).filter(|_| is_of_run);
    let (Some(new), Some(old)) = (new, text(table, "paths", "results")) else { return };
    if old.exists() {
        return;
    }
    // Folder by folder upwards, as long as the names are the same.
    let mut same_name = true;
    let folders: Vec<(&Path, &Path)> = old
        .ancestors()
        .zip(new.ancestors())
        .take_while(|(a, b)| std::mem::replace(&mut same_name, a.file_name() == b.file_name()))
        .collect();
    for (section, key, _) in PATHS {
        let Some(path) = text(table, section, key).filter(|path| !path.exists()) else { continue };
        let moved = |(a, b): &(&Path, &Path)| match path.strip_prefix(a).ok()? {
            rest if rest.as_os_str().is_empty() => Some(b.to_path_buf()),
            rest => Some(b.join(rest)),
        };
        let there = folders.iter().filter_map(moved).find(|path| path.exists());
        if let (Some(there), Some(section)) =
            (there, table.get_mut(section).and_then(toml::Value::as_table_mut))
        {
            section.insert(key.into(), there.to_string_lossy().into_owned().into());
        }
    }
    log::info!("{}: the results are now in {}", file.display(), new.display());
}

/// The file beside a run's `config.toml`.
pub const PROVENANCE: &str = "provenance.json";

/// The nearest parent of a TOML that has a `configs/` folder, else the TOML's own folder.
fn project_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let own = file.parent().unwrap_or(Path::new("/"));
    own.ancestors().find(|d| d.join("configs").is_dir()).unwrap_or(own).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, sets: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        match Config::load(Some(&path), &sets) {
            Ok(_) => "ok".into(),
            Err(e) => {
                assert_eq!(e.exit_code(), 2);
                e.to_string().replace(&*path.to_string_lossy(), "c.toml")
            }
        }
    }

    #[test]
    fn wrong_keys_types_and_ranges_name_the_place() {
        for (text, sets, parts) in [
            ("[train]\nepoch = 3\n", &[][..], &["c.toml, line 2: ", "`epoch`", "`epochs`"][..]),
            ("[train]\n\nepochs = \"3\"\n", &[], &["c.toml, line 3: ", "\"3\""]),
            ("[paths]\nwork = 2024\n", &[], &["c.toml, line 2: ", "`2024`", "quotes"]),
            ("", &["train.epochz="], &["--set train.epochz=: ", "`epochz`", "`epochs`"]),
            ("", &["train.epochz=3"], &["--set train.epochz=3: ", "`epochz`", "`epochs`"]),
            ("", &["train.epochs=0"], &["--set train.epochs=0: train.epochs ", " 1"]),
            ("[train]\nepochs = 0\n", &["threads=3"], &["c.toml: train.epochs ", " 1"]),
            ("", &["augment.crop=2000", "threads=2"], &["--set augment.crop=2000: ", " 32 "]),
            ("", &["predict.tta=6"], &["--set predict.tta=6: "]),
            ("", &["train.epochs=1.5"], &["--set train.epochs=1.5: ", "`1.5`"]),
            ("", &["train.precision=bf17"], &["--set train.precision=bf17: ", "`bf17`", "`bf16`"]),
            ("", &["train.epochs"], &["--set train.epochs: ", "key=value"]),
            ("", &["=3"], &["--set =3: ", "key"]),
            ("", &["train.=3"], &["--set train.=3: ", "key"]),
            ("", &["train.epochs.x=3"], &["--set train.epochs.x=3: ", "epochs"]),
            ("", &["train=3"], &["--set train=3: ", "section"]),
            ("", &["train={epochs=3}"], &["--set train={epochs=3}: ", "one by one"]),
            ("", &["train.epochs=2\nlr=3"], &["--set train.epochs=2\\nlr=3: "]),
            ("", &["train.epochs==2"], &["--set train.epochs==2: ", "\"=2\""]),
            ("", &["train.precision=16"], &["--set train.precision=16: ", "`16`", "`bf16`"]),
            ("[data]\nkaggle = \"\"\n", &[], &["c.toml: ", "data.kaggle"]),
            ("[data]\nkaggle = \"/s/$USER/d\"\n", &[], &["c.toml: ", "data.kaggle", "$USER"]),
            ("", &["paths.work=${HOME}/w"], &["--set paths.work=", "${HOME}/w"]),
            ("", &["paths.work=\"\""], &["--set paths.work=\"\": ", "paths.work"]),
        ] {
            let message = message(text, sets);
            assert!(parts.iter().all(|part| message.contains(part)), "{message}: {parts:?}");
        }
        assert_eq!(message("", &["augment.resize=64", "augment.crop=48"]), "ok");
        for set in [
            "threads=0",
            "threads=4097",
            "train.lr=inf",
            "train.div=nan",
            "train.milestones=[nan]",
            "train.milestones=[1, -1]",
            "train.gamma=0",
            "train.balance=3",
            "train.clip=-1",
            "train.final_div=0.5",
            "train.loss.bce=-1",
            "train.loss.soft_f1=-0.1",
            "train.loss.focal_alpha=1.1",
            "train.loss.focal_gamma=11",
            "augment.brightness=11",
            "augment.elastic_affine=257",
            "augment.elastic_alpha=10001",
            "augment.elastic_sigma=1e12",
            "dedup.min_correlation=2",
            "train.max_samples=1",
            "fetch.competition=a/b",
            "fetch.images_url=ftp://x",
            "fetch.connections=0",
            "fetch.requests_per_second=0",
            "fetch.read_timeout_seconds=0",
            "fetch.attempts=0",
            "fetch.backoff_seconds=-1",
            "fetch.max_missing_fraction=2",
            "fetch.tasks=0",
        ] {
            let key = set.split('=').next().unwrap();
            let message = message("", &[set]);
            // The key again: its range, not its type, is wrong.
            assert!(message.starts_with(&format!("--set {set}: ")), "{message}");
            assert!(message[6 + set.len()..].contains(key), "{message}");
        }
    }

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        // As an editor of another system leaves it.
        std::fs::write(&file, "\u{feff}[data]\r\nkaggle = \"~/d\"\r\n").unwrap();
        let sets = ["paths.work=~/w", "paths.results=~x"].map(String::from);
        let config = Config::load(Some(&file), &sets).unwrap();
        assert_eq!(config.data.kaggle, Some(home.join("d")));
        assert_eq!(config.paths.work, home.join("w"));
        assert_eq!(config.paths.results, std::env::current_dir().unwrap().join("~x"));
    }

    #[test]
    fn paths_in_a_file_belong_to_its_project() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("configs/sub/c.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "[data]\nkaggle = \"d\"\n").unwrap();
        let config = Config::load(Some(&file), &["paths.results=r".into()]).unwrap();
        assert_eq!(config.data.kaggle, Some(dir.path().join("d")));
        assert_eq!(config.paths.work, dir.path().join("work"));
        assert_eq!(config.paths.results, std::env::current_dir().unwrap().join("r"));
    }

    #[test]
    fn a_runs_configuration_follows_its_project() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        let run = Path::new("results/r");
        for folder in ["results/r", "work", "data/kaggle"] {
            std::fs::create_dir_all(a.join(folder)).unwrap();
        }
        let mut config = Config::default();
        config.paths.work = a.join("work");
        config.paths.results = a.join("results");
        config.data.kaggle = Some(a.join("data/kaggle"));
        config.data.external = Some(dir.path().join("elsewhere"));
        config.model.weights = Some(a.join("gone"));
        std::fs::write(a.join(run).join("config.toml"), config.to_toml()).unwrap();
        std::fs::write(a.join(run).join(PROVENANCE), "{}").unwrap();
        let load = |project: &Path| {
            Config::load(Some(&project.join(run).join("config.toml")), &[]).unwrap()
        };
        assert_eq!(load(&a), config);
        std::fs::rename(&a, &b).unwrap();
        let moved = load(&b);
        assert_eq!(moved.paths.work, b.join("work"));
        assert_eq!(moved.paths.results, b.join("results"));
        assert_eq!(moved.data.kaggle, Some(b.join("data/kaggle")));
        assert_eq!(moved.data.external, config.data.external, "not of the project");
        assert_eq!(moved.model.weights, config.model.weights, "nowhere to be found");
        let sets = ["paths.work=/w".to_string()];
        let file = b.join(run).join("config.toml");
        let set = Config::load(Some(&file), &sets).unwrap();
        assert_eq!(set.paths.work, Path::new("/w"), "what is set counts");

        // A copy does not change what the original names.
        std::fs::create_dir_all(a.join("results")).unwrap();
        assert_eq!(load(&b), config);
        // Only of a run: another TOML names what it names.
        std::fs::remove_dir_all(&a).unwrap();
        std::fs::remove_file(b.join(run).join(PROVENANCE)).unwrap();
        assert_eq!(load(&b), config);
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let config = Config::load(None, &["data.kaggle=/k".into()]).unwrap();
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }
}
