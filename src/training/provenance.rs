//! Where a run comes from: program, libraries, machine, configuration and data.

use std::fs;

use serde::Serialize;

use crate::{
    base::{checksum, host},
    config::Config,
    data::work_folder::WorkFolder,
    distributed::device,
    training::run_identity,
};

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
    /// These two tell runs apart, see `run_identity`.
    training_samples_xxh3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights_xxh3: Option<String>,
    folds_xxh3: Option<String>,
}

/// The text of `provenance.json` for a run that starts now.
/// The samples are those that the manifest in `work` lists.
pub fn provenance(config: &Config, work: &WorkFolder) -> String {
    let hash =
        |name: &str| checksum::of_file(&work.path().join(name)).ok().map(|h| format!("{h:016x}"));
    let (a, b, c) = hdf5::library_version();
    let provenance = Provenance {
        atlas_version: env!("CARGO_PKG_VERSION"),
        git_commit: env!("ATLAS_GIT_COMMIT"),
        libtorch: device::LIBTORCH,
        hdf5: format!("{a}.{b}.{c}"),
        host: host::name(),
        processor: processor(),
        threads: config.threads(),
        started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        config_xxh3: format!("{:016x}", checksum::of(config.to_toml().as_bytes())),
        manifest_xxh3: hash("manifest.csv"),
        training_samples_xxh3: run_identity::of_samples(work),
        weights_xxh3: run_identity::of_weights(config),
        folds_xxh3: hash("folds.csv"),
    };
    serde_json::to_string_pretty(&provenance).expect("plain data") + "\n"
}

/// The kind of processor, as the kernel names it.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown", |l| l.trim_start_matches([' ', '\t', ':']))
        .into()
}
