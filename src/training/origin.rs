//! What trained weights state of their training: fold, keys and samples. A file that was copied
//! from another fold or run is found by it: its out-of-fold predictions would be of samples that
//! it was trained on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::run_identity;
use crate::config::Config;

/// Part of the state in every checkpoint; those of earlier versions have none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub fold: usize,
    /// The keys by which runs are told apart, as TOML.
    keys: String,
    /// `training_samples_xxh3` of the run.
    samples: Option<String>,
    /// `weights_xxh3` of the run: of the file that it began with.
    weights: Option<String>,
}

impl Origin {
    /// Of the training of `fold` in a run with this configuration and `provenance.json`.
    pub fn of(config: &Config, provenance: &Value, fold: usize) -> Self {
        let keys = run_identity::keys(config);
        let keys = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let hash = |name: &str| provenance[name].as_str().map(String::from);
        Self { fold, keys, samples: hash("training_samples_xxh3"), weights: hash("weights_xxh3") }
    }

    /// Says in what weights of this origin are not those of `wanted`; `None` where they are.
    pub fn unlike(&self, wanted: &Self) -> Option<String> {
        if self.fold != wanted.fold {
            return Some(format!("they are of fold {}, not {}", self.fold, wanted.fold));
        }
        // Keys that another version had are not compared.
        let parsed = |origin: &Self| Config::parse(&origin.keys).ok();
        if let (Some(theirs), Some(ours)) = (parsed(self), parsed(wanted)) {
            let differences = run_identity::differences(&ours, &theirs, || None);
            if let Some(first) = differences.first() {
                return Some(format!("they were trained in another run: {}", first.shown()));
            }
        }
        let differs = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        if differs(&self.samples, &wanted.samples) {
            return Some("they were trained in another run, on other samples".into());
        }
        differs(&self.weights, &wanted.weights)
            .then(|| "they were trained in another run, from another file model.weights".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin(sets: &[&str], samples: &str, fold: usize) -> Origin {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let config = Config::load(None, &sets).unwrap();
        Origin::of(&config, &json!({ "training_samples_xxh3": samples }), fold)
    }

    #[test]
    fn fold_keys_and_samples_tell_weights_apart_but_no_paths() {
        let wanted = origin(&["train.lr=0.1"], "a", 0);
        let text = serde_json::to_string(&wanted).unwrap();
        let read: Origin = serde_json::from_str(&text).unwrap();
        assert_eq!(read.unlike(&wanted), None);
        let moved = ["train.lr=1e-1", "paths.work=/elsewhere", "threads=3", "train.ranks=2"];
        assert_eq!(origin(&moved, "a", 0).unlike(&wanted), None);
        for (other, parts) in [
            (origin(&["train.lr=0.1"], "a", 1), ["fold 1", "not 0"]),
            (origin(&["train.lr=0.2"], "a", 0), ["train.lr is 0.1 here", "0.2 there"]),
            (origin(&["train.lr=0.1"], "b", 0), ["another run", "samples"]),
        ] {
            let what = other.unlike(&wanted).unwrap();
            assert!(parts.iter().all(|part| what.contains(part)), "{what}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        let wanted = origin(&[], "a", 0);
        let unknown = Origin { samples: None, keys: "no.such.key = 1\n".into(), ..wanted.clone() };
        assert_eq!(unknown.unlike(&wanted), None);
        assert_eq!(wanted.unlike(&unknown), None);
    }
}
