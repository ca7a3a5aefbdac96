//! HDF5 files: damage to our own is found before anything reads them, those of other programs are
//! read within limits, and other programs read ours.
use std::{
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use assert_cmd::Command;
use atlas::{
    base::checksum,
    data::{
        labels::Labels,
        manifest::Part,
        shard::{Entry, Reader, Writer},
    },
    scoring::prediction_file::{Predictions, read_hdf5},
};
use hdf5::types::{FixedUnicode, VarLenUnicode};
use ndarray::Array2;

const ROWS: usize = 40;

fn shard(path: &Path) {
    let mut writer = Writer::create(path, Part::Train, 2, 8).unwrap();
    for i in 0..2 {
        let labels = Labels::from_classes([i, 25]).unwrap();
        let image = (0..256).map(|p| (p * (i + 3) / 7) as u8).collect();
        writer.push(Entry::new(format!("id {i} µ"), labels, [i as u64, 1, 2, 3], image)).unwrap();
    }
    writer.finish(42).unwrap();
}

fn predictions() -> Predictions {
    let ids = (0..ROWS).map(|i| format!("sample {i} µ")).collect();
    let probabilities = Array2::from_shape_fn((ROWS, 28), |(i, c)| (i * 28 + c) as f32 / 1200.0);
    Predictions { ids, probabilities }
}

/// Reads all of a shard, or of a prediction file; the exit code and the message where it is
/// refused.
fn refused(path: &Path) -> Option<(u8, String)> {
    let read = match path.ends_with("shard.h5") {
        true => Reader::open(path).and_then(|shard| shard.verify()),
        false => read_hdf5(path).map(|_| ()),
    };
    read.err().map(|e| (e.exit_code(), e.to_string()))
}

/// One file of each kind.
fn own(folder: &Path) -> [PathBuf; 2] {
    let [a, b] = ["shard.h5", "predictions.h5"].map(|name| folder.join(name));
    shard(&a);
    predictions().write(&b, 7).unwrap();
    [a, b]
}

#[test]
fn no_damage_to_our_own_files_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    for path in own(dir.path()) {
        let whole = fs::read(&path).unwrap();
        assert_eq!(refused(&path), None);
        let is_refused = |bytes: &[u8], damage: &str| {
            fs::write(&path, bytes).unwrap();
            let (code, message) = refused(&path).expect(damage);
            assert_eq!(code, 65, "{damage}: {message}");
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(message.contains(name) && !message.contains('\n'), "{damage}: {message}");
        };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= [0x40, 0x01, 0xff][at % 3];
            is_refused(&bytes, &format!("byte {at} changed"));
        }
        for size in [16, 64, 512, 4096] {
            for at in (0..whole.len()).step_by(size) {
                let mut bytes = whole.clone();
                bytes[at..whole.len().min(at + size)].fill(0);
                if bytes != whole {
                    is_refused(&bytes, &format!("{size} bytes zeroed at {at}"));
                }
            }
        }
        for length in (0..whole.len()).step_by(61).chain(whole.len() - 80..whole.len()) {
            is_refused(&whole[..length], &format!("cut to {length} bytes"));
        }
        is_refused(&[&whole[..], b"more"].concat(), "longer");
        is_refused(&[&whole[..], &whole[..]].concat(), "twice");
    }
}

/// Replaces a part of the list of contents, and makes the seal fit: it has no key.
fn resealed(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let (rest, seal) = bytes.split_at(bytes.len() - 40);
    let field = |i: usize| u64::from_le_bytes(seal[i * 8..(i + 1) * 8].try_into().unwrap());
    let (content, list) = rest.split_at(rest.len() - field(1) as usize);
    let list = str::from_utf8(list).unwrap();
    assert!(list.contains(from), "{list}");
    let new = [content, list.replacen(from, to, 1).as_bytes()].concat();
    fs::write(path, &new).unwrap();
    let (end, apart) = (new.len() as u64, field(2)..field(2) + field(3));
    let parts: [Range<u64>; 2] = [0..apart.start, apart.end..end];
    let sum = checksum::of_file_parts(&File::open(path).unwrap(), &parts).unwrap();
    let mut fields = [end - content.len() as u64, field(2), field(3), sum];
    fields[3] = checksum::of(fields.map(u64::to_le_bytes).as_flattened());
    let seal = [&seal[..8], fields.map(u64::to_le_bytes).as_flattened()].concat();
    fs::write(path, [new, seal].concat()).unwrap();
}

#[test]
fn what_a_list_of_contents_claims_is_checked_although_its_seal_fits() {
    let dir = tempfile::tempdir().unwrap();
    let [shard_file, prediction_file] = own(dir.path());
    resealed(&shard_file, "\"size\":8", "\"size\":8");
    assert_eq!(refused(&shard_file), None, "the test makes seals that fit");
    let claims = [
        (&shard_file, "\"shape\":[2,8,8,4]", "\"shape\":[200,8,8,4]"),
        (&shard_file, "\"shape\":[2,8,8,4]", "\"shape\":[1,8,8,4]"),
        (&shard_file, "\"shape\":[2,8,8,4]", "\"shape\":[4611686018427387904,8,8,4]"),
        (&shard_file, "\"shape\":[2,8,8,4]", "\"shape\":[8,8,4]"),
        (&shard_file, "\"shape\":[2,8,8,4]", "\"shape\":[]"),
        (&shard_file, "\"size\":8", "\"size\":0"),
        (&shard_file, "\"size\":8", "\"size\":4294967296"),
        (&shard_file, "\"shape\":[2]", "\"shape\":[1000000000000]"),
        (&shard_file, "\"mean\"", "\"average\""),
        (&prediction_file, "\"shape\":[40,28]", "\"shape\":[1000000000000,28]"),
        (&prediction_file, "\"shape\":[40,28]", "\"shape\":[1000000000000,0]"),
        (&prediction_file, "\"shape\":[40,28]", "\"shape\":[40]"),
        (&prediction_file, "\"shape\":[40,28]", "\"shape\":[80,28]"),
        (&prediction_file, "\"element\":4", "\"element\":0"),
        (&prediction_file, "\"element\":4", "\"element\":8"),
        (&prediction_file, "\"offset\":", "\"offset\":18446744073709550000,\"o\":"),
        (&prediction_file, "\"offset\":", "\"offset\":100000,\"o\":"),
        (&prediction_file, "{", "["),
        (&prediction_file, "\"ids\"", "\"names\""),
    ];
    for (path, from, to) in claims {
        own(dir.path());
        resealed(path, from, to);
        let (code, message) = refused(path).expect(to);
        assert_eq!(code, 65, "{to}: {message}");
    }
}

/// Both kinds of text, the numbers and the attributes are those that HDF5 itself reads.
#[test]
fn hdf5_reads_our_files() {
    let dir = tempfile::tempdir().unwrap();
    let [shard_file, prediction_file] = own(dir.path());
    let file = hdf5::File::open(&prediction_file).unwrap();
    let (want, ids) = (predictions(), file.dataset("ids").unwrap());
    let ids = ids.read_raw::<FixedUnicode<32>>().unwrap();
    assert!(ids.iter().map(|id| id.as_str()).eq(want.ids.iter().map(String::as_str)));
    let values = file.dataset("probabilities").unwrap();
    assert_eq!(values.read_2d::<f32>().unwrap(), want.probabilities);
    assert_eq!(file.attr("source").unwrap().read_scalar::<u64>().unwrap(), 7);

    let (file, shard) =
        (hdf5::File::open(&shard_file).unwrap(), Reader::open(&shard_file).unwrap());
    let mut image = vec![0; 256];
    shard.read(1, &mut image).unwrap();
    assert_eq!(file.dataset("images").unwrap().read_raw::<u8>().unwrap()[256..], image);
    let ids = file.dataset("ids").unwrap().read_raw::<FixedUnicode<32>>().unwrap();
    assert!(ids.iter().map(|id| id.as_str()).eq(shard.ids().iter().map(String::as_str)));
    let table = |name: &str| file.dataset(name).unwrap();
    assert_eq!(table("phash").read_raw::<u64>().unwrap(), shard.phash().as_flattened());
    assert_eq!(table("checksum").read_raw::<u64>().unwrap(), shard.checksums());
    assert_eq!(table("mean").read_raw::<f64>().unwrap(), shard.mean());
    assert_eq!(table("std").read_raw::<f64>().unwrap(), shard.std());
    let labels = table("labels").read_2d::<u8>().unwrap();
    assert_eq!((labels.shape(), labels[[1, 1]], labels[[1, 2]]), (&[2, 28][..], 1, 0));
    for (name, value) in
        [("format_version", 2), ("size", 8), ("channels", 4), ("manifest_hash", 42)]
    {
        assert_eq!(file.attr(name).unwrap().read_scalar::<u64>().unwrap(), value, "{name}");
    }
}

fn evaluate(path: &Path) -> std::process::Output {
    let truth = path.with_file_name("truth.csv");
    let rows = predictions()
        .ids
        .iter()
        .enumerate()
        .fold("Id,Target\n".to_string(), |t, (i, id)| format!("{t}{id},{}\n", i % 28));
    fs::write(&truth, rows).unwrap();
    let mut command = Command::cargo_bin("atlas").unwrap();
    command.arg("evaluate").arg("--predictions").arg(path).arg("--truth").arg(&truth);
    command.arg("--json").timeout(Duration::from_mins(2)).output().unwrap()
}

/// A file as other programs, and earlier versions of this one, write it.
fn foreign(path: &Path) -> hdf5::File {
    let file = hdf5::File::create(path).unwrap();
    let ids: Vec<VarLenUnicode> = predictions().ids.iter().map(|i| i.parse().unwrap()).collect();
    file.new_dataset_builder().with_data(&ids).create("ids").unwrap();
    file
}

fn complete(file: &hdf5::File) {
    let values = predictions().probabilities;
    file.new_dataset_builder().with_data(&values).create("probabilities").unwrap();
}

fn fails(path: &Path, parts: &[&str]) {
    let out = evaluate(path);
    let message = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(65), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts.iter().chain([&path.file_name().unwrap().to_str().unwrap()]) {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn files_of_other_programs_score_as_ours_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    predictions().write(&path("ours.h5"), 7).unwrap();
    complete(&foreign(&path("variable.h5")));
    let fixed = hdf5::File::create(path("fixed.h5")).unwrap();
    complete(&fixed);
    let ids: Vec<FixedUnicode<100>> =
        predictions().ids.iter().map(|id| id.parse().unwrap()).collect();
    fixed.new_dataset_builder().with_data(&ids).create("ids").unwrap();
    fixed.close().unwrap();
    let scores: Vec<_> = ["ours.h5", "variable.h5", "fixed.h5"]
        .map(|name| {
            let out = evaluate(&path(name));
            assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        })
        .into();
    assert!(scores[0] == scores[1] && scores[1] == scores[2]);
}

/// The HDF5 library never comes to an end with the first of these files.
#[test]
fn damaged_files_of_other_programs_are_refused_in_bounded_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.h5");
    complete(&foreign(&path));
    let whole = fs::read(&path).unwrap();
    let heap = whole.windows(4).position(|w| w == b"GCOL").unwrap();
    let mut looping = whole.clone();
    looping[heap + 16..heap + 32].fill(0);
    fs::write(&path, &looping).unwrap();
    fails(&path, &["come to an end"]);
    for bytes in [&whole[..whole.len() - 100], &whole[..60], b"no HDF5", b""] {
        fs::write(&path, bytes).unwrap();
        fails(&path, &["HDF5"]);
    }
}

#[test]
fn claims_and_content_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.h5");
    for rows in [1usize << 40, 10_000_000, ROWS] {
        let file = foreign(&path);
        file.new_dataset::<f32>().shape([rows, 28]).create("probabilities").unwrap();
        file.close().unwrap();
        fails(&path, &["/probabilities", &rows.to_string()]);
    }
    let file = foreign(&path);
    file.link_soft("/elsewhere", "probabilities").unwrap();
    file.close().unwrap();
    fails(&path, &["/probabilities", "link"]);
    let file = foreign(&path);
    let values = predictions().probabilities;
    let new = file.new_dataset_builder();
    new.chunk([ROWS, 28]).shuffle().with_data(&values).create("probabilities").unwrap();
    file.close().unwrap();
    fails(&path, &["/probabilities", "compressed"]);
    let file = foreign(&path);
    let new = file.new_dataset_builder().external("/etc/passwd", 0, ROWS * 28 * 4).empty::<f32>();
    new.shape([ROWS, 28]).create("probabilities").unwrap();
    file.close().unwrap();
    fails(&path, &["/probabilities", "other files"]);
    // Of the right size, but without a list, one per row.
    let file = hdf5::File::create(&path).unwrap();
    complete(&file);
    let ids: Vec<VarLenUnicode> = vec!["a".parse().unwrap(); ROWS - 1];
    file.new_dataset_builder().with_data(&ids).create("ids").unwrap();
    file.close().unwrap();
    fails(&path, &["/ids", &ROWS.to_string()]);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.h5");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fails(&path, &["regular file"]);
}
