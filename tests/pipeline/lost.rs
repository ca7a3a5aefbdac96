//! Files of a finished run that are lost: the same command makes again what it can, and keeps what
//! is left.

use std::fs;

use super::small::{Small, files, stderr, succeeds};

#[test]
fn lost_files_of_a_finished_run_are_made_again() {
    let small = Small::new();
    let run = || succeeds(&small.run(&["run", "--run", "r"]));
    run();
    for lost in [
        "config.toml",
        "fold_0/history.csv",
        "fold_0/validation.h5",
        "fold_0/model_checkpoints/last.safetensors",
        "fold_0/model_checkpoints/best.safetensors",
    ] {
        let path = small.result("r", lost);
        let before = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        run();
        assert!(fs::read(&path).is_ok_and(|now| now == before), "{lost}");
    }

    // Of a cut history, the message has the command that writes it again.
    let history = small.result("r", "fold_1/history.csv");
    let before = fs::read(&history).unwrap();
    fs::write(&history, &before[..before.len() - 2]).unwrap();
    let out = small.run(&["run", "--run", "r"]);
    let wanted = "history.csv: cut or damaged; run `atlas train --run r --fold 1";
    assert!(out.status.code() == Some(65) && stderr(&out).contains(wanted), "{}", stderr(&out));
    succeeds(&small.run(&["train", "--run", "r", "--fold", "1"]));
    assert!(fs::read(&history).unwrap() == before);
}

#[test]
fn a_fold_of_which_only_the_best_weights_are_left_is_finished() {
    let small = Small::new();
    let run = || small.run(&["run", "--run", "r"]);
    succeeds(&run());
    let fold = small.result("r", "fold_0");
    for (name, _) in files(&fold) {
        if !name.ends_with("best.safetensors") && name != "validation.h5" {
            fs::remove_file(fold.join(name)).unwrap();
        }
    }
    let left = files(&fold);
    succeeds(&run());
    assert!(files(&fold) == left);
}

#[test]
fn damaged_last_weights_are_no_reason_to_begin_anew() {
    let small = Small::new();
    let run = || small.run(&["run", "--run", "r"]);
    succeeds(&run());
    let checkpoints = small.result("r", "fold_0/model_checkpoints");
    for (name, bytes) in files(&checkpoints) {
        fs::remove_file(checkpoints.join(&name)).unwrap();
        if name == "last.safetensors" {
            fs::write(checkpoints.join(name), &bytes[..bytes.len() - 9]).unwrap();
        }
    }
    let left = files(&small.result("r", "fold_0"));
    let out = run();
    let said = stderr(&out);
    assert!(out.status.code() == Some(65) && said.contains("last.safetensors"), "{said}");
    assert!(files(&small.result("r", "fold_0")).into_iter().all(|(name, bytes)| {
        left.get(&name).is_some_and(|before| *before == bytes) || name.starts_with("tensorboard")
    }));
}

#[test]
fn shards_of_other_sizes_and_pixels_are_searched_for_duplicates_again() {
    let mut small = Small::new();
    small.prepare();
    small.set("preprocess.shard_samples=25");
    small.prepare();
    let before = fs::read_to_string(small.path("work/dedup.json")).unwrap();
    small.set("preprocess.size=48");
    small.prepare();
    assert_ne!(fs::read_to_string(small.path("work/dedup.json")).unwrap(), before);
}
