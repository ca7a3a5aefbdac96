//! Data that can be read but not learnt from: said by `plan` and `preprocess`, which go on.
use std::{fs, path::Path, process::Output};

use super::{
    CHANNELS, Set, fails, succeeds,
    synthetic::{pattern, png, png_as},
};

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// As a 12-bit camera leaves them in 16 bits, up to 3341.
fn twelve_bits(path: &Path, side: usize, pixels: &[u8]) {
    let values = pixels.iter().flat_map(|&v| ((u32::from(v) * 3341 / 255) as u16).to_be_bytes());
    png_as(path, side, png::BitDepth::Sixteen, &values.collect::<Vec<_>>());
}

/// The warnings of `preprocess`, which are also in its log.
fn warnings(set: &Set, more: &[&str]) -> Vec<String> {
    let out = set.run("preprocess", &[&["--json"], more].concat());
    succeeds(&out);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let lines = json["warnings"].as_array().unwrap().iter();
    let lines: Vec<String> = lines.map(|line| line.as_str().unwrap().into()).collect();
    assert!(lines.iter().all(|line| stderr(&out).contains(line.as_str())), "{}", stderr(&out));
    lines
}

#[test]
fn dark_16_bit_files_are_said_by_channel_and_each_task_says_its_own() {
    let set = Set::with(6, 2, 64, "png", twelve_bits);
    set.plan(&["--set", "preprocess.shard_samples=4", "--set", "preprocess.tasks=2"]);
    let lines = warnings(&set, &[]);
    assert_eq!(lines.len(), 4, "one for each channel: {lines:#?}");
    for (line, channel) in lines.iter().zip(CHANNELS) {
        let example = format!("test-000_{channel}.png");
        for part in [&format!("{channel}: 8 of 8 "), &example, " 13 of 255", " 12 bits", " 16 "] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert_eq!(warnings(&set, &[]), [""; 0], "nothing is read anew");

    // Each task reads, and judges, its own files; the advice works.
    for (task, images) in [("0", "6 of 6 "), ("1", "2 of 2 ")] {
        let _ = fs::remove_dir_all(set.work().join("shards"));
        let lines = warnings(&set, &["--task", task]);
        assert!(lines.len() == 4 && lines[0].contains(images), "{lines:#?}");
    }
    for part in ["train", "test"] {
        for file in fs::read_dir(set.path(part)).unwrap() {
            let path = file.unwrap().path();
            super::synthetic::png16(&path, 64, &pattern(64, path.as_os_str().len()));
        }
    }
    let lines = warnings(&set, &[]);
    assert!(!lines.iter().any(|line| line.contains("16-bit")), "{lines:#?}");
}

#[test]
fn empty_saturated_equal_and_oblong_images_are_said() {
    let set = Set::new(4, 0, 64);
    for i in 0..4 {
        let file = |c: &str| set.path(&format!("train/train-00{i}_{c}.png"));
        png(&file("red"), 64, &[0; 64 * 64]);
        let white: Vec<u8> = (0..64 * 64).map(|p| if p % 5 == 0 { 90 } else { 255 }).collect();
        png(&file("green"), 64, &white);
    }
    fs::copy(set.path("train/train-002_blue.png"), set.path("train/train-002_yellow.png")).unwrap();
    for c in CHANNELS {
        let path = set.path(&format!("train/train-003_{c}.png"));
        let pixels = &pattern(64, c.len())[..64 * 48];
        image::save_buffer(path, pixels, 64, 48, image::ExtendedColorType::L8).unwrap();
    }
    set.plan(&[]);
    let lines = warnings(&set, &[]);
    for (line, parts) in lines.iter().zip([
        ["red: 3 of 4 ", "train-000_red.png"],
        ["green: 3 of 4 ", "train-000_green.png"],
        ["blue and yellow ", "1 of 4 samples, such as train-002"],
        ["1 of 4 samples ", "train-003 (64x48 pixels)"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
}

#[test]
fn usual_images_are_no_reason_for_a_warning() {
    let set = Set::with(3, 1, 64, "png", super::synthetic::png16);
    set.plan(&[]);
    assert_eq!(warnings(&set, &[]), [""; 0]);
}

#[test]
fn classes_that_no_sample_has_and_samples_that_are_all_alike_are_said() {
    let set = Set::new(6, 0, 16);
    let table = |rows: &dyn Fn(usize) -> &'static str| {
        let rows: String = (0..6).map(|i| format!("train-{i:03},{}\n", rows(i))).collect();
        fs::write(set.path("train.csv"), format!("Id,Target\n{rows}")).unwrap();
        let out = set.run("plan", &["--json"]);
        succeeds(&out);
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        (json["warnings"].to_string(), stderr(&out))
    };
    // Her own five classes, by name.
    let five =
        ["Nucleoplasm", "cytosol;Nucleoli", "Golgi apparatus", "Mitochondria|Cytosol", "0", "25"];
    let (json, log) = table(&|i| five[i]);
    for text in [&json, &log] {
        let parts = ["23 of 28 classes", "Nuclear membrane", "Rods & rings", "macro_f1_present"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(!text.contains("Cytosol") && !text.contains("same classes"), "{text}");
    }
    let (json, _) = table(&|_| "Cytosol;Nucleoli");
    let parts = ["6 training samples", "Nucleoli, Cytosol", "Target"];
    assert!(parts.iter().all(|part| json.contains(part)), "{json}");
}

#[test]
fn ids_that_are_written_otherwise_in_the_table_are_said_where_nothing_fits() {
    let set = Set::new(5, 0, 16);
    let table = fs::read_to_string(set.path("train.csv")).unwrap();
    let problems = || fs::read_to_string(set.work().join("problems.csv")).unwrap();
    for (from, to) in [
        (",", ".png,"),
        (",", ".TIF.GZ,"),
        (",", "_red.png,"),
        ("train-", "TRAIN-"),
        ("train-", "0train-"),
    ] {
        let (header, rows) = table.split_once('\n').unwrap();
        fs::write(set.path("train.csv"), format!("{header}\n{}", rows.replace(from, to))).unwrap();
        let written = rows.replace(from, to);
        let first = written.split(',').next().unwrap();
        let hint = "the images are called `train-000`";
        fails(&set.run("plan", &[]), 65, &["empty", hint, "problems.csv"]);
        let listed = problems();
        let row = format!("labels without images,train,{first},{hint}");
        assert!(listed.contains(&row), "{listed}");
        assert_eq!(listed.lines().count(), 11, "each row and each sample: {listed}");
    }
}

/// Or every row of a submission would get the commonest class.
#[test]
fn a_sample_submission_of_other_ids_is_refused() {
    let set = Set::new(3, 3, 16);
    let table = fs::read_to_string(set.path("sample_submission.csv")).unwrap();
    fs::write(set.path("sample_submission.csv"), table.replace(",0", ".png,0")).unwrap();
    let parts = ["sample_submission.csv", "3 ids", "test-002.png", "test-000"];
    fails(&set.run("plan", &[]), 65, &parts);
    let listed = fs::read_to_string(set.work().join("problems.csv")).unwrap();
    let row = "ids without images,test,test-001.png,the images are called `test-001`";
    assert!(listed.contains(row), "{listed}");
    // One that fits is enough: the others may have been lost.
    fs::write(set.path("sample_submission.csv"), table.replacen(",0", ".png,0", 2)).unwrap();
    succeeds(&set.run("plan", &[]));
}

#[test]
fn what_is_wrong_is_listed_also_where_nothing_can_be_used() {
    let set = Set::new(3, 0, 16);
    let table = fs::read_to_string(set.path("train.csv")).unwrap();
    let rows = |text: &str| -> String {
        let header = "Id,Target\n".to_string();
        header + &(0..3).map(|i| format!("train-00{i},{text}\n")).collect::<String>()
    };
    let utf16: Vec<u8> = table.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, parts) in [
        (rows("3.0").into_bytes(), &["3 unknown classes", "line 2", "`3.0`", "`3`?"][..]),
        (rows("Nucleoplsm").into_bytes(), &["line 4", "`Nucleoplsm`", "`Nucleoplasm`?"]),
        (rows("3/5").into_bytes(), &["line 3", "`3/5`", "`;`"]),
        (rows("").into_bytes(), &["3 images without labels"]),
        (table.replace(',', ";").into_bytes(), &["train.csv", "line 1", "commas"]),
        (table.replace("Target", "class").into_bytes(), &["Target", "`Id,class`"]),
        (b"Id,Target\ntrain-000\xe9,1\n".to_vec(), &["line 2", "0xE9", "UTF-8"]),
        (utf16, &["train.csv", "UTF-16", "UTF-8"]),
    ] {
        fs::write(set.path("train.csv"), content).unwrap();
        let _ = fs::remove_file(set.work().join("problems.csv"));
        fails(&set.run("plan", &[]), 65, parts);
        let listed = fs::read_to_string(set.work().join("problems.csv")).unwrap();
        assert!(listed.lines().count() > 1, "{parts:?}: {listed}");
    }
    // The external folder, alone: its only table is no table.
    let external = set.path("external");
    fs::create_dir_all(external.join("images")).unwrap();
    fs::write(external.join("labels.csv"), "Id;Target\na;1\n").unwrap();
    let out = super::atlas(&[
        "plan",
        "--set",
        &format!("data.external={}", external.display()),
        "--set",
        &format!("paths.work={}", set.work().display()),
    ]);
    fails(&out, 65, &["labels.csv", "line 1", "`;`", "commas"]);
    let listed = fs::read_to_string(set.work().join("problems.csv")).unwrap();
    assert!(listed.contains("labels.csv") && listed.contains("external"), "{listed}");
}
