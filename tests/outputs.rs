//! Where output goes, from outside: files that a user names which are links, pipes or standard
//! output; a reader that went away and a full disk under standard output and standard error; file
//! systems without HDF5's locks.

use std::{
    fs::{self, File, Permissions},
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A table of labels, from which `split` makes a table of folds without any image.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let row = |i: usize| format!("sample{i},{} {}\n", i % 5, 5 + i % 3);
        let rows: String = (0..60).map(row).collect();
        fs::write(place.path("labels.csv"), format!("Id,Target\n{rows}")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn atlas(&self, words: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("atlas"));
        command.current_dir(self.0.path()).args(words).env_remove("RUST_LOG");
        command
    }

    fn split(&self, out: &str) -> Command {
        self.atlas(&["split", "--labels", "labels.csv", "--out", out])
    }

    /// What `split` writes into a plain file.
    fn table(&self) -> Vec<u8> {
        assert!(self.split("plain.csv").output().unwrap().status.success());
        fs::read(self.path("plain.csv")).unwrap()
    }
}

fn without_a_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_disk() -> Option<File> {
    File::options().write(true).open("/dev/full").ok()
}

/// Jobs that only print, or end early, in a folder without anything.
const PRINTING: [&[&str]; 7] = [
    &["config"],
    &["config", "--json"],
    &["config", "--get", "train.batch"],
    &["completions", "bash"],
    &["--help"],
    &["--version"],
    &["doctor"],
];

#[test]
fn a_reader_that_went_away_ends_every_job_quietly_with_141() {
    let place = Place::new();
    for words in PRINTING {
        let out = place.atlas(words).stdout(without_a_reader()).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(141), "{words:?}: {err}");
        assert!(!err.contains("panicked") && !err.contains("atlas: "), "{words:?}: {err}");
    }
    let table = place.table();
    let out = place.split("folds.csv").stdout(without_a_reader()).output().unwrap();
    assert_eq!(out.status.code(), Some(141), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(fs::read(place.path("folds.csv")).unwrap(), table, "the work is done first");
}

#[test]
fn a_job_whose_standard_error_is_gone_ends_as_usual() {
    let place = Place::new();
    let both_gone = |mut command: Command| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let again = writer.try_clone().unwrap();
        command.stdout(writer).stderr(again).status().unwrap().code()
    };
    for words in PRINTING {
        assert_eq!(both_gone(place.atlas(words)), Some(141), "{words:?}");
    }
    // A message that nobody can read changes no exit code.
    let mut wrong = place.atlas(&["config", "--set", "train.no_such_key=1"]);
    assert_eq!(wrong.stderr(without_a_reader()).status().unwrap().code(), Some(2));
    let mut unknown = place.atlas(&["no-such-job"]);
    assert_eq!(unknown.stderr(without_a_reader()).status().unwrap().code(), Some(2));
    if let Some(full) = full_disk() {
        let out = place.split("folds.csv").stderr(full).output().unwrap();
        assert_eq!(out.status.code(), Some(0));
    }
}

#[test]
fn a_full_disk_under_standard_output_fails_the_job_after_its_work() {
    let place = Place::new();
    let table = place.table();
    for words in PRINTING {
        let Some(full) = full_disk() else { return };
        let out = place.atlas(words).stdout(full).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{words:?}: {err}");
        assert!(err.contains("standard output") && !err.contains("panicked"), "{words:?}: {err}");
    }
    let full = full_disk().unwrap();
    let out = place.split("folds.csv").stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(fs::read(place.path("folds.csv")).unwrap(), table);
}

#[test]
fn a_table_goes_to_standard_output_alone() {
    let place = Place::new();
    let table = place.table();
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let piped = place.split(name).output().unwrap();
        assert!(piped.status.success(), "{name}: {}", String::from_utf8_lossy(&piped.stderr));
        assert_eq!(piped.stdout, table, "{name}");
        assert!(!piped.stderr.is_empty(), "the summary goes to standard error");
        // A redirection to a file keeps what is before, and the file.
        let path = place.path("redirected.csv");
        fs::write(&path, "before\n").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        let inode = file.metadata().unwrap().ino();
        assert!(place.split(name).stdout(file).status().unwrap().success(), "{name}");
        assert_eq!(fs::read(&path).unwrap(), [b"before\n".as_slice(), &table].concat(), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        let both = place.split(name).arg("--json").output().unwrap();
        assert_eq!(both.status.code(), Some(2), "{name}");
        assert!(String::from_utf8_lossy(&both.stderr).contains("--out"));
    }
    assert!(!place.path("-").exists());
    let gone = place.split("-").stdout(without_a_reader()).output().unwrap();
    assert_eq!(gone.status.code(), Some(141), "{}", String::from_utf8_lossy(&gone.stderr));
}

#[test]
fn what_cannot_be_replaced_is_written_into() {
    let place = Place::new();
    let table = place.table();
    let script = r#""$0" split --labels labels.csv --out >(cat >got.csv; touch done) &&
        until [ -e done ]; do sleep 0.05; done"#;
    let out = Command::new("bash")
        .args(["-c", script])
        .arg(assert_cmd::cargo::cargo_bin!("atlas"))
        .current_dir(place.0.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(fs::read(place.path("got.csv")).unwrap(), table);

    assert!(place.split("/dev/null").status().unwrap().success());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut writer = place.split("pipe").stdout(Stdio::null()).spawn().unwrap();
    let mut read = Vec::new();
    File::open(&pipe).unwrap().read_to_end(&mut read).unwrap();
    assert!(writer.wait().unwrap().success());
    assert_eq!(read, table);
    let missing = place.split("/dev/no-such-device.csv").output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(!Path::new("/dev/no-such-device.csv").exists());
    let folder = place.split(".").output().unwrap();
    assert_eq!(folder.status.code(), Some(2));
}

#[test]
fn the_file_to_read_is_never_the_file_to_write() {
    let place = Place::new();
    let labels = fs::read(place.path("labels.csv")).unwrap();
    symlink("labels.csv", place.path("same.csv")).unwrap();
    for name in ["labels.csv", "./labels.csv", "same.csv"] {
        let out = place.split(name).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && err.contains("--out"), "{name}: {err}");
        assert_eq!(fs::read(place.path("labels.csv")).unwrap(), labels);
    }
}

#[test]
fn links_stay_and_what_they_lead_to_keeps_its_mode() {
    let place = Place::new();
    let table = place.table();
    fs::create_dir(place.path("elsewhere")).unwrap();
    let real = place.path("elsewhere/real.csv");
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink("elsewhere/real.csv", place.path("link.csv")).unwrap();
    assert!(place.split("link.csv").output().unwrap().status.success());
    assert!(place.path("link.csv").is_symlink());
    assert_eq!(fs::read(&real).unwrap(), table);
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(place.path("elsewhere")).unwrap().count(), 1);
}

#[test]
fn a_locked_hdf5_file_is_read() {
    let place = Place::new();
    let ids: Vec<hdf5::types::VarLenUnicode> =
        (0..60).map(|i| format!("sample{i}").parse().unwrap()).collect();
    let file = hdf5::File::create(place.path("p.h5")).unwrap();
    file.new_dataset_builder().with_data(&ids).create("ids").unwrap();
    let values = ndarray::Array2::<f32>::from_elem((60, 28), 0.25);
    file.new_dataset_builder().with_data(&values).create("probabilities").unwrap();
    file.close().unwrap();
    let held = File::options().read(true).write(true).open(place.path("p.h5")).unwrap();
    held.lock().unwrap();
    for locking in ["TRUE", "BEST_EFFORT", "FALSE", ""] {
        let out = place
            .atlas(&["evaluate", "--predictions", "p.h5", "--truth", "labels.csv"])
            .env("HDF5_USE_FILE_LOCKING", locking)
            .output()
            .unwrap();
        assert!(out.status.success(), "{locking}: {}", String::from_utf8_lossy(&out.stderr));
    }
}
