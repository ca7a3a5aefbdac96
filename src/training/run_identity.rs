//! What makes two trainings one run: the keys that trained weights depend on, and the samples.
//! Paths, threads and ranks are no part of it, so that a project that was moved, or is mounted at
//! another place, goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use toml::Value;

use crate::{
    base::{advice, checksum},
    config::Config,
    data::work_folder::WorkFolder,
};

/// Sections that may change within a run: where things are, how data are fetched, and what follows
/// training.
const FREE_SECTIONS: [&str; 5] = ["paths", "data", "fetch", "predict", "submit"];

/// Keys that may change within a run, besides those sections: threads and ranks, how often
/// checkpoints are written, when to stop or to give up. The file `model.weights` is compared by its
/// content.
const FREE: [&str; 11] = [
    "threads",
    "preprocess.tasks",
    "model.weights",
    "train.checkpoint_steps",
    "train.max_skipped_steps",
    "train.max_minutes",
    "train.ranks",
    "train.tensorboard",
    "comm.backend",
    "comm.timeout_seconds",
    "comm.start_timeout_seconds",
];

/// At most so many keys are shown with their values.
const MOST_SHOWN: usize = 8;

/// A key that a run has otherwise than the configuration at hand; an unset key has no value.
#[derive(Debug, PartialEq)]
pub struct Difference {
    pub key: String,
    pub here: Option<Value>,
    pub there: Option<Value>,
}

impl Difference {
    /// The key with both values.
    pub fn shown(&self) -> String {
        let text =
            |value: &Option<Value>| value.as_ref().map_or("not set".into(), Value::to_string);
        format!("{} is {} here and {} there", self.key, text(&self.here), text(&self.there))
    }
}

/// The keys by which runs are told apart.
pub fn keys(config: &Config) -> BTreeMap<String, Value> {
    let mut leaves = config.leaves();
    leaves.retain(|key, _| {
        let section = key.split('.').next().unwrap_or_default();
        !FREE_SECTIONS.contains(&section) && !FREE.contains(&key.as_str())
    });
    leaves
}

/// The keys in which the configuration of a run, `there`, is not `here`. `weights` gives the hash
/// of the file that the run began with, as [`of_weights`] makes it, where the run states it; it is
/// called only where the paths of that file differ.
pub fn differences(
    here: &Config,
    there: &Config,
    weights: impl FnOnce() -> Option<String>,
) -> Vec<Difference> {
    let (mine, theirs) = (keys(here), keys(there));
    let all: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    let differing = all.into_iter().filter(|key| mine.get(*key) != theirs.get(*key));
    let difference = |key: &String| Difference {
        key: key.clone(),
        here: mine.get(key).cloned(),
        there: theirs.get(key).cloned(),
    };
    let mut differences: Vec<_> = differing.map(difference).collect();
    if !same_weights(here, there, weights) {
        let key = "model.weights";
        let value = |config: &Config| config.leaves().remove(key);
        differences.push(Difference { key: key.into(), here: value(here), there: value(there) });
    }
    differences
}

/// Whether both begin with the same weights: by the path, else by the content, else (where the file
/// is no longer there, or an old run states no hash) by its name.
fn same_weights(here: &Config, there: &Config, hash: impl FnOnce() -> Option<String>) -> bool {
    match (&here.model.weights, &there.model.weights) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => true,
        (Some(a), Some(b)) => match hash().and_then(|theirs| Some(of_weights(here)? == theirs)) {
            Some(is_same) => is_same,
            None => a.file_name() == b.file_name(),
        },
        _ => false,
    }
}

/// A hash of the file that a training begins with, if there is one.
pub fn of_weights(config: &Config) -> Option<String> {
    checksum::of_file(config.model.weights.as_ref()?).ok().map(hex)
}

/// A hash of the training samples that the manifest in `work` lists, wherever their files are;
/// `None` where there is no manifest.
pub fn of_samples(work: &WorkFolder) -> Option<String> {
    work.manifest().ok().map(|manifest| hex(manifest.training_hash()))
}

fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Says in what the run in `folder` differs, and what to do.
pub fn explain(folder: &Path, differences: &[Difference]) -> String {
    let shown = differences.iter().take(MOST_SHOWN).map(Difference::shown);
    let shown = shown.collect::<Vec<_>>().join(", ");
    let (more, advice) = match differences.len().checked_sub(MOST_SHOWN) {
        None | Some(0) => {
            let sets = differences.iter().map(|d| format!(" --set {}", set(d)));
            (String::new(), format!("add{} to use this run", sets.collect::<String>()))
        }
        Some(more) => {
            (format!(", and {more} more keys"), "to use this run, set them as there".into())
        }
    };
    let run = folder.display();
    let there = folder.join("config.toml");
    format!(
        "the run {run} was made with another configuration: {shown}{more} ({}); {advice}, or name \
         another run with --run NAME",
        there.display()
    )
}

/// The value of a `--set` that makes the key as it is there, for a shell.
fn set(difference: &Difference) -> String {
    let value = match &difference.there {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    advice::quoted(format!("{}={value}", difference.key))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(sets: &[&str]) -> Config {
        Config::load(None, &sets.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn differing(a: &[&str], b: &[&str]) -> Vec<String> {
        differences(&config(a), &config(b), || None).into_iter().map(|d| d.key).collect()
    }

    #[test]
    fn paths_threads_and_ranks_are_no_part_of_a_run() {
        for set in [
            "threads=3",
            "train.ranks=2",
            "comm.backend=mpi",
            "paths.work=/elsewhere/work",
            "paths.results=results/",
            "data.kaggle=data/",
            "data.kaggle=./data",
            "data.external=/mnt/hpa",
            "fetch.tasks=7",
            "predict.tta=none",
            "submit.thresholds=half",
        ] {
            assert_eq!(differing(&[set], &["data.kaggle=data"]), [""; 0], "{set}");
        }
        for (set, key) in [
            ("train.lr=0.5", "train.lr"),
            ("train.loss.bce=1", "train.loss.bce"),
            ("preprocess.size=64", "preprocess.size"),
            ("split.seed=3", "split.seed"),
            ("comm.wire=bf16", "comm.wire"),
            ("model.weights=/w.safetensors", "model.weights"),
        ] {
            assert_eq!(differing(&[set], &[]), [key]);
            assert_eq!(differing(&[], &[set]), [key]);
        }
        // Numbers are compared, not how they are written.
        assert_eq!(differing(&["train.lr=1e-3"], &["train.lr=0.001"]), [""; 0]);
        assert_eq!(differing(&["train.clip=1"], &["train.clip=1.0"]), [""; 0]);
    }

    #[test]
    fn weights_to_begin_with_are_told_apart_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for (name, text) in [("a", "one"), ("moved", "one"), ("b", "two")] {
            fs::write(path(name), text).unwrap();
        }
        let of = |name: &str| config(&[&format!("model.weights={}", path(name))]);
        let is_same = |here: &str, there: &str, hash: Option<&str>| {
            differences(&of(here), &of(there), || hash.map(String::from)).is_empty()
        };
        let hash = of_weights(&of("a"));
        assert!(is_same("moved", "a", hash.as_deref()), "the same file at another place");
        assert!(!is_same("b", "a", hash.as_deref()));
        assert!(is_same("a", "a", None), "a run of an earlier version");
        fs::create_dir(path("old")).unwrap();
        assert!(is_same("a", "old/a", None) && !is_same("b", "old/a", None), "by their names");
        assert!(is_same("gone/a", "a", hash.as_deref()), "no longer needed");
    }

    #[test]
    fn a_message_has_both_values_and_a_command_that_makes_them_equal() {
        let sets = ["train.lr=0.5", "train.milestones=[1, 2]", "model.weights=/it's/w"];
        let (here, there) = (config(&sets), config(&["train.optimizer=sgd"]));
        let text = explain(Path::new("/results/r"), &differences(&here, &there, || None));
        for part in [
            "/results/r/config.toml",
            "train.lr is 0.5 here and ",
            "model.weights is \"/it's/w\" here and not set there",
            "train.optimizer is \"adamw\" here and \"sgd\" there",
            " --set train.optimizer=sgd",
            " --set model.weights= ",
            " --set 'train.milestones=[",
        ] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        assert!(!text.contains("--config"), "what may just have been done: {text}");
        // The advice, taken, makes them equal.
        let advised = differences(&here, &there, || None);
        let advised = advised.iter().map(|d| set(d).trim_matches('\'').to_string());
        let taken: Vec<String> = sets.iter().map(ToString::to_string).chain(advised).collect();
        let taken = Config::load(None, &taken).unwrap();
        assert_eq!(differences(&taken, &there, || None), []);
        let quoted = explain(Path::new("r"), &differences(&there, &here, || None));
        assert!(quoted.contains(" --set 'model.weights=/it'\\''s/w'"), "{quoted}");
        // With many keys, some are named.
        let many = "train.lr=0.5 train.epochs=3 train.batch=4 train.seed=9 train.clip=3 \
            train.gamma=0.3 train.ema=0.5 split.seed=7 split.folds=3 augment.flip=0.1";
        let here = config(&many.split_whitespace().collect::<Vec<_>>());
        let text = explain(Path::new("r"), &differences(&here, &config(&[]), || None));
        assert!(text.contains("and 2 more keys") && text.contains("split.folds is 3"), "{text}");
    }
}
