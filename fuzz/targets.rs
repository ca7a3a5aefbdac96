//! The targets: one function of bytes per reader of the program.

mod archives;
mod explorer;
mod faults;
mod hdf5;
mod images;
mod records;
mod tables;
mod weights;

use crate::repair;

/// Gives some bytes to a reader.
pub struct Target {
    pub name: &'static str,
    /// Its folder in `corpus/`.
    pub corpus: &'static str,
    /// Must return, whatever the bytes are; panics where damage is accepted.
    pub read: fn(&[u8]),
    /// Makes checksums right again.
    pub repair: Option<fn(&mut Vec<u8>)>,
    /// Words of the format, for mutations of text.
    pub words: &'static [&'static str],
}

const fn target(name: &'static str, read: fn(&[u8])) -> Target {
    Target { name, corpus: name, read, repair: None, words: &[] }
}

impl Target {
    const fn repaired(self, repair: fn(&mut Vec<u8>)) -> Self {
        Self { repair: Some(repair), ..self }
    }

    const fn corpus(self, corpus: &'static str) -> Self {
        Self { corpus, ..self }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }
}

/// The target called `name`.
pub fn find(name: &str) -> &'static Target {
    ALL.iter().chain([&FAULTY]).find(|t| t.name == name).unwrap_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|t| t.name).collect();
        panic!("no target is called `{name}`; there are {}", names.join(", "))
    })
}

/// Not one of [`ALL`].
pub static FAULTY: Target = target("faulty", faults::faulty);

pub static ALL: [Target; 43] = [
    target("png", images::one_image).repaired(repair::png),
    target("jpeg", images::one_image),
    target("tiff", images::one_image),
    target("gzip", images::one_image).repaired(repair::gzip),
    target("sample_images", images::sample_of_four).corpus("png").repaired(repair::png),
    target("shard", hdf5::shard),
    target("shard_resealed", hdf5::shard_resealed).corpus("shard"),
    target("predictions", hdf5::predictions),
    target("predictions_resealed", hdf5::predictions_resealed).corpus("predictions"),
    target("predictions_hdf5", hdf5::foreign_predictions),
    target("checkpoint", weights::checkpoint).repaired(repair::safetensors),
    target("checkpoint_resealed", weights::checkpoint_resealed).corpus("checkpoint"),
    target("safetensors", weights::safetensors).repaired(repair::safetensors).words(&[
        "F32",
        "BF16",
        "I64",
        "BOOL",
        "F8_E4M3",
        "data_offsets",
        "shape",
        "arch",
    ]),
    target("torch", weights::state_dict).repaired(repair::zip),
    target("pickle", weights::pickle),
    target("npy", tables::npy).words(&["'<f4'", "'|O'", "'>u8'", "True", "(28,", "'descr'"]),
    target("zip", archives::zip).repaired(repair::zip),
    target("xml", archives::xml).words(archives::XML),
    target("xml_gzip", archives::xml).corpus("xml").repaired(repair::gzip).words(archives::XML),
    target("labels", tables::labels).words(tables::CLASS_NAMES),
    target("sample_submission", tables::sample_submission),
    target("submission", tables::submission).words(tables::CLASS_NAMES),
    target("probabilities", tables::probabilities),
    target("data_folder", tables::data_folder).corpus("labels").words(tables::CLASS_NAMES),
    target("external_folder", tables::external_folder).corpus("labels").words(&["Id,Target"]),
    target("manifest", tables::manifest).words(&["official", "external", "train", "test"]),
    target("folds", tables::folds),
    target("duplicates", tables::duplicates),
    target("hashes", tables::hashes),
    target("history", tables::history),
    target("thresholds", tables::thresholds).words(&["constant", "shrunken", "half"]),
    target("scores", tables::scores).words(&["constant", "shrunken", "half"]),
    target("quarantine", tables::quarantine),
    target("problems", tables::problems),
    target("ledger", records::ledger).words(&["train/", "train.csv"]),
    target("kaggle_json", records::kaggle_json).words(&["username", "key"]),
    target("access_token", records::access_token),
    target("provenance", records::provenance),
    target("plan_json", records::plan_json),
    target("task_log", records::task_log),
    target("metrics", records::metrics),
    target("configuration", records::configuration).words(records::KEYS),
    target("upload", explorer::upload).words(explorer::PARTS),
];
