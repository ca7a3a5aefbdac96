//! Shards: what a reader finds, and what it says where a file is broken.
use std::{fs, path::Path};

use atlas::{
    config::Config,
    data::{
        labels::Labels,
        manifest::{Manifest, Part},
        shard::{Entry, Reader, Writer, path},
    },
    loading::normalization::Normalization,
    network::{
        model::{Network, Spec},
        weights,
    },
    scoring::prediction_file::Predictions,
    training::checkpoint::Checkpoint,
};

#[path = "data_in/synthetic.rs"]
mod synthetic;
#[path = "common/training_state.rs"]
mod training_state;
use synthetic::{Set, atlas, fails, succeeds};
use training_state::training_state;

fn write(file: &Path, part: Part, n: usize, capacity: usize, size: usize) -> Vec<Vec<u8>> {
    let mut writer = Writer::create(file, part, capacity, size).unwrap();
    let images: Vec<Vec<u8>> =
        (0..n).map(|i| (0..size * size * 4).map(|p| (p * (i + 3) / 7) as u8).collect()).collect();
    for (i, image) in images.iter().enumerate() {
        let labels = Labels::from_classes([i % 28, 25]).unwrap();
        writer
            .push(Entry::new(
                format!("id {i} µ"),
                labels,
                [i as u64, 1, u64::MAX, 3],
                image.clone(),
            ))
            .unwrap();
    }
    writer.finish(42).unwrap();
    images
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for (part, n, capacity) in [(Part::Train, 5, 5), (Part::Test, 3, 7), (Part::Train, 0, 4)] {
        let file = dir.path().join("s/a.h5");
        let images = write(&file, part, n, capacity, 16);
        let reader = Reader::open(&file).unwrap();
        reader.verify().unwrap();
        assert_eq!(
            (reader.len(), reader.size(), reader.manifest_hash(), reader.pixels()),
            (n, 16, 42, (n * 256) as u64)
        );
        assert_eq!(reader.labels().map(<[Labels]>::len), (part == Part::Train).then_some(n));
        let mut out = vec![0; 16 * 16 * 4];
        for (i, image) in images.iter().enumerate() {
            reader.read(i, &mut out).unwrap();
            assert!(
                out == *image
                    && reader.ids()[i] == format!("id {i} µ")
                    && reader.phash()[i] == [i as u64, 1, u64::MAX, 3]
            );
        }
        for c in 0..4 {
            let values: Vec<f64> =
                images.iter().flatten().skip(c).step_by(4).map(|&v| f64::from(v)).collect();
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let variance =
                values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len().max(1) as f64;
            assert!(
                (reader.mean()[c] - mean).abs() < 1e-9
                    && (reader.std()[c] - variance.sqrt()).abs() < 1e-6
            );
        }
        assert_eq!(
            fs::read_dir(file.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }
}

#[test]
fn a_shard_with_spare_room_is_byte_equal_to_one_without() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.h5"), dir.path().join("b.h5"));
    write(&a, Part::Train, 4, 4, 16);
    write(&b, Part::Train, 4, 9, 16);
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap());
}

#[test]
fn an_unfinished_shard_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(Writer::create(&dir.path().join("a.h5"), Part::Train, 4, 16).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn rows_are_those_of_the_whole_image() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.h5");
    let images = write(&file, Part::Train, 3, 3, 8);
    let reader = Reader::open(&file).unwrap();
    // The first time all rows are read, later those alone.
    for rows in [2..5, 0..8, 0..1, 7..8, 4..4, 3..6] {
        for (i, image) in images.iter().enumerate() {
            let mut out = vec![0; image.len()];
            reader.read_rows(i, rows.clone(), &mut out).unwrap();
            let bytes = rows.start * 32..rows.end * 32;
            assert!(out[bytes.clone()] == image[bytes], "rows {rows:?} of image {i}");
        }
    }
}

#[test]
fn a_damaged_image_is_refused_at_its_first_use_and_only_rows_are_read_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.h5");
    let images = write(&file, Part::Train, 3, 3, 8);
    let whole = fs::read(&file).unwrap();
    // A byte in the last row of each image.
    let mut bytes = whole.clone();
    for image in &images {
        let at = whole.windows(256).position(|w| w == image).unwrap();
        bytes[at + 7 * 32 + 3] ^= 1;
    }
    let reader = Reader::open(&file).unwrap();
    let mut out = vec![0; 256];
    reader.read_rows(0, 0..1, &mut out).unwrap();
    reader.read(1, &mut out).unwrap();
    fs::write(&file, &bytes).unwrap();
    let refused = |i: usize| {
        for _ in 0..2 {
            let e = reader.read_rows(i, 0..1, &mut vec![0; 256]).unwrap_err();
            assert!(e.exit_code() == 65 && e.to_string().contains("checksum"), "{e}");
        }
    };
    // Never read before: refused, each time, although the row that is asked for is sound.
    refused(2);
    // Whole when they were first read: now only the rows that are asked for are looked at, and
    // nothing else is written.
    for i in [0, 1] {
        out.fill(9);
        reader.read_rows(i, 1..3, &mut out).unwrap();
        assert!(out[32..96] == images[i][32..96] && out[..32] == [9; 32] && out[96..] == [9; 160]);
        assert!(reader.read(i, &mut out).is_err(), "a whole image is compared every time");
    }
    assert!(reader.verify().is_err());
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(100).unwrap();
    assert_eq!(reader.read_rows(0, 1..3, &mut out).unwrap_err().exit_code(), 65);
}

#[test]
fn broken_shards_are_named_with_what_to_do() {
    let set = Set::new(4, 0, 32);
    set.plan(&["--set", "preprocess.shard_samples=2"]);
    set.preprocess(&[]);
    let folder = set.work().join("shards");
    let verify = || atlas(&["verify", folder.to_str().unwrap()]);
    let out = verify();
    succeeds(&out);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout).lines().filter(|l| l.starts_with("ok ")).count(),
        2
    );

    let file = folder.join("train-00001.h5");
    let whole = fs::read(&file).unwrap();
    // A byte in the middle of the second image.
    let mut image = vec![0; 32 * 32 * 4];
    Reader::open(&file).unwrap().read(1, &mut image).unwrap();
    let at = whole.windows(64).position(|w| w == &image[..64]).unwrap();
    let mut bytes = whole.clone();
    bytes[at + 2000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    fails(&verify(), 65, &["train-00001.h5", "train-003", "checksum", "`atlas preprocess`"]);
    let store = set.store(Part::Train).unwrap();
    store.read(2, &mut image).unwrap();
    let e = store.read(3, &mut image).unwrap_err();
    assert!(
        e.exit_code() == 65
            && ["train-00001.h5", "train-003"].iter().all(|part| e.to_string().contains(part)),
        "{e}"
    );

    for keep in [0, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..keep]).unwrap();
        fails(&verify(), 65, &["train-00001.h5", "`atlas preprocess`"]);
        let e = set.store(Part::Train).unwrap_err();
        assert!(e.exit_code() == 65 && e.to_string().contains("train-00001.h5"), "{e}");
    }
    // Cut short while it is open: an error, not a crash.
    fs::write(&file, &whole).unwrap();
    let store = set.store(Part::Train).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(3000).unwrap();
    let e = store.read(3, &mut image).unwrap_err();
    assert!(e.exit_code() == 65 && e.to_string().contains("train-00001.h5"), "{e}");
    fs::remove_file(&file).unwrap();
    let e = set.store(Part::Train).unwrap_err().to_string();
    assert!(e.contains("train-00001.h5") && e.contains("`atlas preprocess`"), "{e}");
    fails(&atlas(&["verify", "/nowhere"]), 2, &["/nowhere"]);
    let notes = set.path("train.csv");
    fails(&atlas(&["verify", notes.to_str().unwrap()]), 65, &["train.csv", ".safetensors"]);
}

/// The kind of a file is found from its content, whatever its name and folder.
#[test]
fn verify_knows_every_kind_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    write(&file("a.h5"), Part::Train, 2, 2, 8);
    let ids = (0..40).map(|i| format!("id{i}")).collect();
    Predictions { ids, probabilities: ndarray::Array2::from_elem((40, 28), 0.5) }
        .write(&file("b.h5"), 1)
        .unwrap();
    let mut model = Config::default().model;
    model.arch = "se_resnext14_32x4d".into();
    let spec = Spec::of(&model);
    let trained = Network::new(&spec, 0, true, tch::Device::Cpu).unwrap();
    weights::save(&file("c.safetensors"), &trained, &weights::Metadata::new()).unwrap();
    let network = weights::NetworkState { spec, normalization: Normalization::unit() };
    let state = training_state(network, 1, 3);
    let tensors = [
        ("parameters".to_string(), trained.flat_parameters()),
        ("buffers".to_string(), trained.flat_buffers()),
    ]
    .into();
    Checkpoint { state, tensors }.write(&file("d.safetensors")).unwrap();

    let verify = || atlas(&["verify", dir.path().to_str().unwrap()]);
    let out = verify();
    succeeds(&out);
    let text = String::from_utf8(out.stdout).unwrap();
    let found: Vec<&str> = text.lines().map(|l| l.rsplit_once(": ").unwrap().1).collect();
    for (found, parts) in found.iter().zip([
        &["2 samples", "8 pixels"][..],
        &["predictions", "40 samples"],
        &["weights", "se_resnext14_32x4d"],
        &["se_resnext14_32x4d", "epoch 1", "step 3"],
    ]) {
        assert!(parts.iter().all(|part| found.contains(part)), "{found}: {parts:?}");
    }
    assert_eq!(found.len(), 4);

    let formats = [
        ("a.h5", "`atlas preprocess`"),
        ("b.h5", "seal"),
        ("c.safetensors", "safetensors file"),
        ("d.safetensors", "safetensors file"),
    ];
    for (name, format) in formats {
        let whole = fs::read(file(name)).unwrap();
        fs::write(file(name), &whole[..whole.len() - 40]).unwrap();
        let out = verify();
        fails(&out, 65, &[name, format]);
        assert_eq!(
            String::from_utf8_lossy(&out.stdout).lines().filter(|l| l.starts_with("ok ")).count(),
            3,
            "the others are whole"
        );
        fs::write(file(name), &whole).unwrap();
    }
    let mut bytes = fs::read(file("d.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file("d.safetensors"), bytes).unwrap();
    fails(&verify(), 65, &["d.safetensors", "checksum"]);
}

#[test]
fn a_store_joins_the_shards_of_its_manifest() {
    let set = Set::new(5, 2, 32);
    set.plan(&["--set", "preprocess.shard_samples=2"]);
    set.preprocess(&[]);
    let store = set.store(Part::Train).unwrap();
    assert_eq!(
        (store.len(), store.size(), store.shards().len(), store.find("train-004")),
        (5, 32, 3, Some(4))
    );
    assert_eq!((store.id(3), store.labels(3).to_string()), ("train-003", "3 25".into()));
    let mut all = Vec::new();
    let mut image = vec![0; 32 * 32 * 4];
    for i in 0..5 {
        store.read(i, &mut image).unwrap();
        for c in 0..4 {
            assert!(
                image.iter().skip(c).step_by(4).copied().eq(synthetic::pattern(32, i * 4 + c)),
                "sample {i}, channel {c}"
            );
        }
        let plane = atlas::data::image::Plane {
            width: 32,
            height: 32,
            pixels: synthetic::pattern(32, i * 4 + 2),
        };
        assert_eq!(store.phash(i)[2], atlas::data::phash::phash(&plane));
        all.extend_from_slice(&image);
    }
    for c in 0..4 {
        let values: Vec<f64> = all.iter().skip(c).step_by(4).map(|&v| f64::from(v)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let std =
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        assert!((store.mean()[c] - mean).abs() < 1e-9 && (store.std()[c] - std).abs() < 1e-6);
    }
    let test = set.store(Part::Test).unwrap();
    assert_eq!((test.id(0), test.id(1), test.labels(0).is_empty()), ("test-001", "test-000", true));
    assert!(
        (0..3).all(|i| path(&set.work(), Part::Train, i).exists())
            && !path(&set.work(), Part::Train, 3).exists()
    );

    // A manifest with another label: the shards no longer belong to it.
    let mut manifest = Manifest::read(&set.work()).unwrap();
    manifest.samples[0].labels.insert(27);
    manifest.write(&set.work()).unwrap();
    let e = set.store(Part::Train).unwrap_err();
    assert!(
        e.exit_code() == 65
            && ["train-00000.h5", "`atlas preprocess`"].iter().all(|p| e.to_string().contains(p)),
        "{e}"
    );
}

#[test]
fn a_shard_in_the_place_of_another_is_refused() {
    let set = Set::new(6, 4, 32);
    fs::write(set.path("train/train-001_red.png"), "no image").unwrap();
    let cut = ["--set", "preprocess.shard_samples=2", "--set", "preprocess.max_bad_fraction=0.5"];
    set.plan(&cut);
    set.preprocess(&cut);
    let file = |name: &str| set.work().join("shards").join(name);
    let refused = |part: Part, parts: &[&str]| {
        let e = set.store(part).unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 65 && parts.iter().all(|part| text.contains(part)), "{text}");
    };
    for (from, to, part) in [
        ("train-00001.h5", "train-00000.h5", Part::Train),
        ("train-00000.h5", "train-00002.h5", Part::Train),
        ("train-00000.h5", "test-00000.h5", Part::Test),
        ("test-00001.h5", "train-00001.h5", Part::Train),
        ("test-00001.h5", "test-00000.h5", Part::Test),
    ] {
        let own = fs::read(file(to)).unwrap();
        fs::copy(file(from), file(to)).unwrap();
        refused(part, &[&format!("{to}: "), from, "`atlas preprocess`"]);
        fails(&set.run("dedup", &[]), 65, &[to, from]);
        assert_eq!(set.preprocess(&cut)["built"], 1);
        assert!(fs::read(file(to)).unwrap() == own, "{to} is as it was");
    }

    // The only shard that lacks a sample needs its own quarantine list.
    let own = fs::read(file("quarantine-00000.csv")).unwrap();
    fs::copy(file("quarantine-00001.csv"), file("quarantine-00000.csv")).unwrap();
    refused(Part::Train, &["train-00000.h5", "quarantine-00000.csv", "train-001"]);
    fs::remove_file(file("quarantine-00000.csv")).unwrap();
    set.store(Part::Train).unwrap();
    fs::write(file("quarantine-00000.csv"), own).unwrap();
    set.store(Part::Train).unwrap();

    let e = set.store_of(Part::Test, 64).unwrap_err();
    let text = e.to_string();
    let parts = ["test-00000.h5", "32 pixels", "preprocess.size is 64", "preprocess.size=32"];
    assert!(e.exit_code() == 65 && parts.iter().all(|part| text.contains(part)), "{text}");
}
