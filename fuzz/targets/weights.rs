//! Checkpoints and weights, our own and those of PyTorch.

use std::{
    collections::BTreeSet,
    io::{Cursor, Write},
    sync::LazyLock,
};

use atlas::{
    base::Result,
    config::Config,
    network::weights::{self, Weights},
    operations::verify,
    training::{checkpoint::Checkpoint, trained_network::TrainedNetwork},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::hdf5::must_be_intact;
use crate::{corpus, repair, scratch};

fn checkpoint_content(bytes: &[u8]) -> Result<String> {
    let Checkpoint { state, tensors } =
        Checkpoint::read(&scratch::file("step_000000001.safetensors", bytes))?;
    Ok(format!("{state:?} {}", weights::checksum("", &tensors)))
}

pub fn checkpoint(bytes: &[u8]) {
    static INTACT: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        corpus::files("checkpoint").iter().filter_map(|b| checkpoint_content(b).ok()).collect()
    });
    assert!(!INTACT.is_empty(), "no intact checkpoint in the corpus");
    must_be_intact(checkpoint_content(bytes), &INTACT);
}

/// A checkpoint that someone sealed anew, as `predict` and `train` start from it.
pub fn checkpoint_resealed(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    repair::checkpoint(&mut bytes);
    let path = scratch::file("best.safetensors", &bytes);
    let _ = verify::check(&path);
    if let Ok(weights) = Weights::open(&path) {
        let _ = weights.normalization();
    }
    let _ = TrainedNetwork::from_checkpoint(&path, &Config::default().train, tch::Device::Cpu);
}

pub fn safetensors(bytes: &[u8]) {
    let path = scratch::file("weights.safetensors", bytes);
    if let Ok(weights) = Weights::open(&path) {
        let _ = weights.normalization();
    }
    let _ = weights::read(&path);
}

/// A file of `torch.save`.
pub fn state_dict(bytes: &[u8]) {
    let path = scratch::file("weights.pth", bytes);
    let _ = Weights::open(&path);
    let _ = weights::read(&path);
}

/// The pickle in a file of `torch.save`, beside two storages of a few numbers.
pub fn pickle(bytes: &[u8]) {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in [
        ("a/data.pkl", bytes),
        ("a/byteorder", b"little"),
        ("a/data/0", &[0; 64]),
        ("a/data/1", &[7; 48]),
    ] {
        archive.start_file(name, stored).expect("an archive in memory");
        archive.write_all(content).expect("an archive in memory");
    }
    state_dict(&archive.finish().expect("an archive in memory").into_inner());
}
