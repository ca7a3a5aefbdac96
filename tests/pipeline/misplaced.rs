//! Whole files in the wrong place: of another fold, run or data set, as `cp` and `rsync` put them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    json,
    small::{Small, files, stderr, succeeds},
};

/// Puts back, and removes what was added to, a folder as it was.
struct Undo(PathBuf, std::collections::BTreeMap<String, Vec<u8>>);

impl Undo {
    fn of(folder: PathBuf) -> Self {
        let kept = files(&folder);
        Self(folder, kept)
    }

    fn now(&self) {
        fs::remove_dir_all(&self.0).unwrap();
        for (name, bytes) in &self.1 {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// Asserts that each job is refused with exit code 65 and a last line that has all `parts`.
fn refused(small: &Small, jobs: &[&[&str]], parts: &[&str]) {
    for job in jobs {
        let out = small.run(job);
        let text = stderr(&out);
        assert_eq!(out.status.code(), Some(65), "{job:?}: {text}");
        let line = text.lines().last().unwrap_or_default();
        for part in parts {
            assert!(line.contains(part), "{job:?}: `{part}` is not in: {line}");
        }
    }
}

const READERS: [&[&str]; 3] =
    [&["predict", "--run", "r"], &["submit", "--run", "r"], &["report", "--run", "r"]];

#[test]
fn weights_and_predictions_of_another_fold_or_run_are_refused() {
    let small = Small::new();
    small.prepare();
    for (run, lr) in [("r", "0.001"), ("s", "0.002")] {
        let lr = format!("--set=train.lr={lr}");
        for words in [&["train", "--fold=0"][..], &["train", "--fold=1"], &["predict"], &["submit"]]
        {
            succeeds(&small.run(&[words, &["--run", run, &lr]].concat()));
        }
    }
    let mut small = small;
    small.set("train.lr=0.001");
    let small = small;
    READERS.iter().for_each(|job| succeeds(&small.run(job)));
    let whole = Undo::of(small.result("r", ""));
    let (fold, other) = (small.result("r", "fold_0"), small.result("r", "fold_1"));
    let best = |fold: &Path| fold.join("model_checkpoints/best.safetensors");
    let path = best(&fold).display().to_string();

    // The weights alone, then with everything else of that fold.
    fs::copy(best(&other), best(&fold)).unwrap();
    let export = ["weights", "export", &path, "--output", &small.path("w.safetensors")];
    let out = small.atlas(&export).output().unwrap();
    assert!(out.status.code() == Some(65) && stderr(&out).contains("fold 1"), "{}", stderr(&out));
    let parts = ["fold_0/model_checkpoints/best.safetensors", "of fold 1, not 0"];
    refused(&small, &READERS, &parts);
    refused(&small, &[&["run", "--run=r"]], &parts);
    let train = ["train", "--run", "r", "--fold", "0"];
    fs::remove_file(fold.join("validation.h5")).unwrap();
    refused(&small, &[&train], &["fold_0/model_checkpoints", "of fold 1, not 0"]);
    copy_all(&other, &fold);
    refused(&small, &READERS, &parts);
    let out = small.run(&train);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(stderr(&out).contains("fold 1, not 0"), "{}", stderr(&out));
    let status = json(&small.run(&["status", "--json", "--run", "r"]));
    assert_eq!(status["finished"], false);
    whole.now();

    // Predictions alone: found by the weights, and without these by folds.csv.
    fs::copy(other.join("validation.h5"), fold.join("validation.h5")).unwrap();
    let parts = ["fold_0/validation.h5", "atlas train --fold 0 --run r"];
    refused(&small, &READERS[1..], &parts);
    fs::remove_file(best(&fold)).unwrap();
    refused(&small, &READERS[1..], &["fold_0/validation.h5", "put the file of this fold back"]);
    whole.now();

    // Damaged predictions are not called those of other weights.
    let mut bytes = fs::read(fold.join("validation.h5")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(fold.join("validation.h5"), bytes).unwrap();
    refused(&small, &READERS[1..], &["fold_0/validation.h5", "checksum"]);
    whole.now();

    // The same fold of a run with another learning rate.
    copy_all(&small.result("s", "fold_0"), &fold);
    let parts = ["fold_0/model_checkpoints/best", "train.lr is 0.001 here and 0.002 there"];
    refused(&small, &READERS, &parts);
    whole.now();
    // Thresholds that are not those of the scores beside them.
    let table = fs::read_to_string(small.result("r", "thresholds.csv")).unwrap();
    let other_values = |line: &str| {
        let (class, name) = (line.split(',').next().unwrap(), line.split(',').nth(1).unwrap());
        let values = line.split(',').skip(2).map(|_| ",0.999").collect::<String>();
        format!("{class},{name}{values}\n")
    };
    let (header, rows) = table.split_once('\n').unwrap();
    let rows: String = rows.lines().map(other_values).collect();
    fs::write(small.result("r", "thresholds.csv"), format!("{header}\n{rows}")).unwrap();
    refused(&small, &READERS[2..], &["thresholds.csv", "`atlas submit"]);
    whole.now();

    // The curves of another fold are shown, with a warning.
    fs::copy(other.join("history.csv"), fold.join("history.csv")).unwrap();
    let out = small.run(READERS[2]);
    succeeds(&out);
    assert!(stderr(&out).contains("fold_0/history.csv"), "{}", stderr(&out));
    whole.now();
    READERS.iter().for_each(|job| succeeds(&small.run(job)));
}

#[test]
fn shards_and_tables_of_other_data_or_another_size_are_refused_by_every_job() {
    let small = Small::new();
    small.prepare();
    succeeds(&small.run(&["train", "--fold", "0", "--run", "r"]));
    let all: [&[&str]; 5] = [
        &["dedup"],
        &["split"],
        &["train", "--fold", "1", "--run", "r"],
        &["predict", "--run", "r"],
        &["submit", "--run", "r"],
    ];
    // `dedup` and `submit` read the test part, the others the training part, or both.
    let shard = |name: &str| PathBuf::from(small.path(&format!("work/shards/{name}.h5")));
    let (train, next, test) = (shard("train-00000"), shard("train-00001"), shard("test-00000"));
    let whole = [fs::read(&train).unwrap(), fs::read(&test).unwrap()];
    fs::copy(&next, &train).unwrap();
    refused(&small, &all[..3], &["train-00000.h5", "train-00001.h5", "`atlas preprocess"]);
    fs::write(&train, &whole[0]).unwrap();
    fs::copy(&train, &test).unwrap();
    let two = [all[0], all[3], all[4]];
    refused(&small, &two, &["test-00000.h5", "train-00000.h5", "`atlas preprocess"]);
    let status = json(&small.run(&["status", "--json"]));
    assert_eq!(status["finished"], false);
    succeeds(&small.run(&["preprocess"]));
    assert!(fs::read(&test).unwrap() == whole[1], "made again");

    for job in [all[0], all[1], &["train", "--fold", "0", "--run", "new"]] {
        let job = [job, &["--set", "preprocess.size=32"]].concat();
        refused(&small, &[&job], &["train-00000.h5", "64 pixels", "preprocess.size is 32"]);
    }

    let table = small.path("work/duplicates.csv");
    let own = fs::read_to_string(&table).unwrap();
    fs::write(&table, own.lines().next().unwrap().to_string() + "\n").unwrap();
    let is_empty = own.lines().count() < 2;
    assert!(!is_empty, "the data set has duplicates");
    refused(&small, &[&["split"]], &["duplicates.csv", "`atlas dedup"]);
    succeeds(&small.run(&["dedup"]));
    assert_eq!(fs::read_to_string(&table).unwrap(), own);
    succeeds(&small.run(&["split"]));
}
