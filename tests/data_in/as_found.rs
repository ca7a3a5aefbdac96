//! Folders and tables as people have them: what systems and spreadsheets leave in them is taken,
//! passed over or listed.
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
};

use atlas::data::manifest::{Manifest, Part};

use super::synthetic::{self, CHANNELS, Set, fails, succeeds};

/// Kind, place and id of each row of problems.csv.
fn problems(set: &Set) -> Vec<String> {
    let mut reader = csv::Reader::from_path(set.work().join("problems.csv")).unwrap();
    let row =
        |r: csv::Result<csv::StringRecord>| r.unwrap().iter().take(3).collect::<Vec<_>>().join("|");
    reader.records().map(row).collect()
}

fn ids(set: &Set, part: Part) -> Vec<String> {
    let samples = Manifest::read(&set.work()).unwrap().samples;
    samples.into_iter().filter(|s| s.part == part).map(|s| s.id).collect()
}

#[test]
fn what_systems_leave_beside_images_and_tables_is_passed_over() {
    let set = Set::new(4, 2, 32);
    let external = set.path("external");
    fs::create_dir_all(external.join("images")).unwrap();
    for c in CHANNELS {
        let to = external.join(format!("images/x_{c}.png"));
        fs::copy(set.path(&format!("train/train-000_{c}.png")), to).unwrap();
    }
    fs::write(external.join("labels.csv"), "Id,Target\nx,3\n").unwrap();
    fs::write(external.join("._labels.csv"), "\0\x05\x16\x07Mac OS X").unwrap();
    fs::write(external.join(".labels.csv"), "Id,Target\nx,4\n").unwrap();
    for folder in ["train", "test", "external/images"] {
        let images: Vec<_> =
            fs::read_dir(set.path(folder)).unwrap().map(|e| e.unwrap().path()).collect();
        for entry in images {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            fs::write(entry.with_file_name(format!("._{name}")), "\0\x05\x16\x07").unwrap();
        }
        for name in [".DS_Store", "Thumbs.db", "desktop.ini"] {
            fs::write(set.path(folder).join(name), "").unwrap();
        }
        fs::create_dir(set.path(folder).join("__MACOSX")).unwrap();
    }
    // Without the table, the test part is what lies in the folder.
    fs::remove_file(set.path("sample_submission.csv")).unwrap();
    let key = format!("data.external={}", external.display());
    let out = set.run("plan", &["--set", &key]);
    succeeds(&out);
    assert_eq!(problems(&set), [""; 0]);
    assert_eq!(ids(&set, Part::Test), ["test-000", "test-001"]);
    assert_eq!(ids(&set, Part::Train).len(), 5);
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(log.contains("test: 12 hidden and system files passed over"), "{log}");
    assert_eq!(set.preprocess(&["--set", &key])["samples"], 7);
}

#[test]
fn what_cannot_be_read_in_a_folder_is_listed_by_plan() {
    let set = Set::new(4, 2, 32);
    let path = |name: &str| set.path(name);
    // Upper case, and links to files elsewhere, are as good as any.
    fs::rename(path("train/train-000_red.png"), path("train/train-000_red.PNG")).unwrap();
    fs::rename(path("train/train-001_red.png"), path("elsewhere.png")).unwrap();
    symlink(path("elsewhere.png"), path("train/train-001_red.png")).unwrap();
    fs::remove_file(path("train/train-002_red.png")).unwrap();
    symlink("nowhere", path("train/train-002_red.png")).unwrap();
    fs::remove_file(path("test/test-000_blue.png")).unwrap();
    let _socket = UnixListener::bind(path("test/test-000_blue.png")).unwrap();
    fs::create_dir(path("train/more")).unwrap();
    fs::write(set.path("train").join(OsStr::from_bytes(b"caf\xe9_red.png")), "").unwrap();
    set.plan(&[]);
    assert_eq!(
        problems(&set),
        [
            "broken links|train|train-002_red.png",
            "files that are no channel of a sample|test|test-000_blue.png",
            "missing channels|test|test-000",
            "missing channels|train|train-002",
            r"names that are not UTF-8|train|caf\xe9_red.png",
            "sub-folders|train|more",
        ]
    );
    assert_eq!(ids(&set, Part::Train), ["train-000", "train-001", "train-003"]);
    assert_eq!(set.preprocess(&[])["samples"], 4);
}

#[test]
fn hash_takes_any_name_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9.PNG"));
    synthetic::png(&path, 32, &synthetic::pattern(32, 1));
    for words in [&["hash"][..], &["hash", "--json"]] {
        let mut atlas = assert_cmd::Command::cargo_bin("atlas").unwrap();
        succeeds(&atlas.args(words).arg(&path).output().unwrap());
    }
}

#[test]
fn labels_come_from_target_where_predicted_stands_beside_it() {
    let set = Set::new(4, 1, 16);
    let table = fs::read_to_string(set.path("train.csv")).unwrap();
    let with_both: String =
        table.lines().skip(1).map(|row| row.replacen(',', ",27,", 1) + "\n").collect();
    let read = |table: &str| {
        fs::write(set.path("train.csv"), table).unwrap();
        set.plan(&[]);
        let samples = Manifest::read(&set.work()).unwrap().samples;
        samples.iter().map(|s| s.labels.to_string()).collect::<Vec<_>>()
    };
    let want = read(&table);
    assert_eq!(want[..2], ["0 25", "1 25"]);
    assert_eq!(read(&format!("Id,Predicted,Target\n{with_both}")), want);
    // Names of classes are as good as their numbers.
    assert_eq!(read(&table.replace(" 25", ";Cytosol")), want);
}

#[test]
fn a_faulty_sample_submission_is_found_before_anything_else_is_done() {
    for (rows, parts) in [
        ("test-001,0\n,0\ntest-000,0\n", &["line 3", "empty"][..]),
        ("test-001,0\n \ntest-000,0\n", &["line 3", "empty"]),
        ("test-001,0\ntest-000,0\ntest-001,0\n", &["line 4", "test-001", "line 2"]),
        ("test-001,0\n,0\ntest-001,0\n", &["line 3", "1 more bad"]),
        ("test-001,0\nte,st,0\n", &["line 3", "`te,st,0`", "quotation"]),
        ("", &["no row"]),
    ] {
        let set = Set::new(2, 2, 16);
        fs::write(set.path("sample_submission.csv"), format!("Id,Predicted\n{rows}")).unwrap();
        fails(&set.run("plan", &[]), 65, &[&["sample_submission.csv"], parts].concat());
        assert!(set.work().join("problems.csv").exists() && !Manifest::path(&set.work()).exists());
    }
    // Blank lines hold no row.
    let set = Set::new(2, 2, 16);
    fs::write(set.path("sample_submission.csv"), "Id,Predicted\n\ntest-001,0\n\n\n").unwrap();
    set.plan(&[]);
    assert_eq!(ids(&set, Part::Test), ["test-001"]);
    fs::remove_file(set.path("sample_submission.csv")).unwrap();
    symlink("nowhere", set.path("sample_submission.csv")).unwrap();
    fails(&set.run("plan", &[]), 1, &["sample_submission.csv"]);
}

#[test]
fn a_table_that_cannot_be_read_is_named_and_the_rest_is_listed() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (name, content, parts) in [
        ("train.csv", utf16("\u{feff}Id,Target\na,1\n"), &["UTF-16", "UTF-8"][..]),
        ("train.csv", b"Id,Target\ncaf\xe9,1\n".to_vec(), &["line 2", "0xE9", "`caf`", "UTF-8"]),
        ("train.csv", b"Id;Target\na;1\n".to_vec(), &["line 1", "`;`", "commas"]),
        ("train.csv", b"Id,Labels\na,1\n".to_vec(), &["no column Target", "`Id,Labels`"]),
        ("sample_submission.csv", b"Id\tPredicted\na\t1\n".to_vec(), &["tabs", "commas"]),
    ] {
        let set = Set::new(2, 2, 16);
        fs::remove_file(set.path("test/test-000_red.png")).unwrap();
        fs::write(set.path("train/notes.txt"), "").unwrap();
        fs::write(set.path(name), content).unwrap();
        fails(&set.run("plan", &[]), 65, &[&[name], parts].concat());
        let place = if name == "train.csv" { "train" } else { "test" };
        let problems = problems(&set);
        assert!(problems.contains(&format!("broken tables|{place}|{name}")), "{problems:?}");
    }
    // The only table of the external folder is named with its fault.
    let set = Set::new(2, 2, 16);
    fs::create_dir_all(set.path("external/images")).unwrap();
    fs::write(set.path("external/labels.csv"), "Id;Target\na;1\n").unwrap();
    let key = format!("data.external={}", set.path("external").display());
    fails(&set.run("plan", &["--set", &key]), 65, &["external", "labels.csv", "`;`"]);
}

#[test]
fn problems_are_listed_also_where_nothing_can_be_used() {
    let set = Set::new(3, 1, 16);
    fs::write(set.path("train.csv"), "Id,Target\ntrain-000,Nucleus\ntrain-001,99\nz\0,1\n")
        .unwrap();
    fails(&set.run("plan", &[]), 65, &["empty", "unknown classes", "Nucleus", "problems.csv"]);
    assert_eq!(
        problems(&set),
        [
            "images without labels|train|train-002",
            r"labels without images|train|z\0",
            "unknown classes|train|train-000",
            "unknown classes|train|train-001",
        ]
    );
}
