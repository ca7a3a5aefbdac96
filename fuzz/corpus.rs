//! The corpus: small files, valid and hostile, by target. `make` writes those of this program's own
//! kinds; `corpus.py` writes those of others; what a fuzzing found is added by hand.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use atlas::{
    data::{
        labels::Labels,
        manifest::Part,
        shard::{Entry, Writer},
    },
    loading::normalization::Normalization,
    network::{
        model::{Network, Spec},
        weights::NetworkState,
    },
    scoring::prediction_file::Predictions,
    training::checkpoint::Checkpoint,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use ndarray::Array2;
use tch::Device;

use crate::{synthetic::SyntheticRun, targets::Target, training_state::training_state};

/// The files of one target.
pub struct Corpus {
    pub files: Vec<Vec<u8>>,
}

impl Corpus {
    pub fn of(target: &Target) -> Self {
        let files = files(target.corpus);
        assert!(!files.is_empty(), "fuzz/corpus/{} has no file", target.corpus);
        Self { files }
    }
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The content of the files in a folder of the corpus, by name.
pub fn files(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(name)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    paths.sort();
    paths.iter().map(|path| content(path)).collect()
}

/// A large file that compresses well is committed packed by gzip.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("a file of the corpus");
    if path.extension().is_some_and(|e| e == "packed") {
        let packed = std::mem::take(&mut bytes);
        GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("packed by `make`");
    }
    bytes
}

/// Writes the files of this program's own kinds.
pub fn make() {
    let made = SyntheticRun::new(6, 2);
    let run = made.config.parent().unwrap();
    for (from, to) in [
        (made.work.join("manifest.csv"), "manifest/written.csv"),
        (run.join("thresholds.csv"), "thresholds/written.csv"),
        (run.join("scores.csv"), "scores/written.csv"),
    ] {
        let text = fs::read(from).unwrap();
        fs::create_dir_all(folder(to).parent().unwrap()).unwrap();
        fs::write(folder(to), text).unwrap();
    }
    for name in ["shard", "predictions", "predictions_hdf5", "checkpoint"] {
        fs::create_dir_all(folder(name)).unwrap();
    }
    shard("shard/train.h5", Part::Train, 3);
    shard("shard/test.h5", Part::Test, 1);
    shard("shard/empty.h5", Part::Test, 0);
    predictions("predictions/three.h5", 3);
    predictions("predictions/empty.h5", 0);
    predictions("predictions_hdf5/ours.h5", 2);
    checkpoint();
}

fn shard(name: &str, part: Part, samples: u8) {
    let mut writer = Writer::create(&folder(name), part, samples.into(), 2).unwrap();
    for i in 0..samples {
        let labels = match part {
            Part::Train => Labels::from_classes([usize::from(i), 27]).unwrap(),
            Part::Test => Labels::default(),
        };
        let image = (0..16).map(|v| v * 15 + i).collect();
        writer.push(Entry::new(format!("id-{i}"), labels, [1, 2, 3, u64::MAX], image)).unwrap();
    }
    writer.finish(7).unwrap();
}

fn predictions(name: &str, samples: usize) {
    let probabilities = Array2::from_shape_fn((samples, 28), |(i, c)| (i * 28 + c) as f32 / 100.0);
    let ids = (0..samples).map(|i| format!("id-{i}")).collect();
    Predictions { ids, probabilities }.write(&folder(name), 7).unwrap();
}

/// A checkpoint of the smallest network, all zero, so that it is small when it is packed.
fn checkpoint() {
    let mut model = atlas::config::Config::default().model;
    model.arch = "se_resnext_tiny".into();
    let spec = Spec::of(&model);
    let network = Network::new(&spec, 0, true, Device::Cpu).unwrap();
    let tensors = [
        ("parameters".to_string(), network.flat_parameters().zeros_like()),
        ("buffers".into(), network.flat_buffers().zeros_like()),
    ];
    let state = NetworkState { spec, normalization: Normalization::unit() };
    let checkpoint = Checkpoint { state: training_state(state, 1, 1), tensors: tensors.into() };
    let path = folder("checkpoint/tiny.safetensors");
    checkpoint.write(&path).unwrap();
    let packed = fs::File::create(folder("checkpoint/tiny.safetensors.packed")).unwrap();
    let mut packed = GzEncoder::new(packed, Compression::best());
    packed.write_all(&fs::read(&path).unwrap()).unwrap();
    packed.finish().unwrap();
    fs::remove_file(path).unwrap();
}
