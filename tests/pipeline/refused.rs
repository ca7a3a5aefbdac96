//! What the jobs refuse: missing and stale input, and wrong keys.

use std::fs;

use super::small::{Small, stderr, succeeds};

#[test]
fn a_submission_is_never_mixed_from_old_and_new_predictions() {
    let small = Small::new();
    small.prepare();
    let job = |words: &[&str]| small.run(&[words, &["--run", "r"]].concat());
    succeeds(&job(&["train", "--fold", "0"]));
    succeeds(&job(&["predict"]));
    succeeds(&job(&["submit"]));
    succeeds(&job(&["train", "--fold", "1"]));
    let out = job(&["submit"]);
    assert_eq!(out.status.code(), Some(65), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("test-00000.h5") && stderr(&out).contains("atlas predict"),
        "{}",
        stderr(&out)
    );
    succeeds(&job(&["predict"]));
    succeeds(&job(&["submit"]));

    // Thresholds of five crops do not go with whole images.
    succeeds(&job(&["predict", "--set", "predict.tta=none"]));
    let out = job(&["submit", "--set", "predict.tta=none"]);
    assert_eq!(out.status.code(), Some(65), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("validation.h5")
            && stderr(&out).contains("atlas train --fold 0 --run r"),
        "{}",
        stderr(&out)
    );

    // Other crops concern the answer alone: nothing is trained again, also where only the final
    // weights were kept. Another learning rate is another run.
    for entry in fs::read_dir(small.result("r", "fold_0/model_checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("step_") {
            fs::remove_file(path).unwrap();
        }
    }
    let metrics =
        |fold: usize| fs::read(small.result("r", &format!("fold_{fold}/metrics.jsonl"))).unwrap();
    let before = [metrics(0), metrics(1)];
    succeeds(&small.run(&["run", "--set", "predict.tta=none"]));
    assert!([metrics(0), metrics(1)] == before, "no step was trained again");
    for words in [
        &["predict", "--set", "train.lr=0.1"][..],
        &["train", "--fold", "0", "--run", "r", "--set", "train.lr=0.1"],
    ] {
        let out = small.run(words);
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        let text = stderr(&out);
        let own = fs::read_to_string(small.result("r", "config.toml")).unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("lr = ")).unwrap();
        for part in [
            "config.toml",
            &format!("train.lr is 0.1 here and {own} there"),
            &format!(" --set train.lr={own} "),
        ] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }
    // What is advised is never what was just done.
    let own = small.result("r", "config.toml").display().to_string();
    let words = ["report", "--config", &own, "--set", "train.lr=0.1"];
    let out = small.atlas(&words).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(!stderr(&out).contains("--config"), "{}", stderr(&out));

    // Weights that were lost after the last epoch come back from the checkpoint; folds of other
    // settings are refused.
    let best = small.result("r", "fold_0/model_checkpoints/best.safetensors");
    let bytes = fs::read(&best).unwrap();
    fs::remove_file(&best).unwrap();
    succeeds(&small.run(&["run", "--run", "r", "--set", "predict.tta=none"]));
    assert!(fs::read(&best).unwrap() == bytes && metrics(1) == before[1]);
    succeeds(&small.run(&["split", "--set", "split.seed=5"]));
    let out = job(&["train", "--fold", "0"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(
        stderr(&out).contains("folds.csv") && stderr(&out).contains("atlas split"),
        "{}",
        stderr(&out)
    );

    // So are folds that somebody else wrote over.
    succeeds(&small.run(&["split"]));
    let folds = small.path("work/folds.csv");
    fs::write(&folds, fs::read_to_string(&folds).unwrap().replace(",0\n", ",1\n")).unwrap();
    assert_eq!(job(&["train", "--fold", "0"]).status.code(), Some(65));
}

#[test]
fn what_is_missing_is_named_with_the_job_to_run() {
    let small = Small::new();
    let fails = |words: &[&str], code: i32, parts: &[&str]| {
        let out = small.run(words);
        let text = stderr(&out);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {text}");
        let last = text.lines().last().unwrap_or_default();
        parts
            .iter()
            .for_each(|part| assert!(last.contains(part), "{words:?}: `{part}` is not in: {last}"));
    };
    fails(&["predict"], 2, &["/results", "atlas train"]);
    fails(&["train", "--fold", "0"], 65, &["manifest.csv", "atlas plan"]);
    succeeds(&small.run(&["plan"]));
    fails(&["train", "--fold", "0"], 65, &["train-00000.h5", "atlas preprocess"]);
    succeeds(&small.run(&["preprocess"]));
    fails(&["split"], 65, &["duplicates.csv", "atlas dedup"]);
    succeeds(&small.run(&["dedup"]));
    fails(&["train", "--fold", "0"], 65, &["folds.csv", "atlas split"]);
    succeeds(&small.run(&["split"]));
    fails(&["train", "--fold", "2"], 2, &["--fold 2", "0 to 1"]);
    fails(
        &["train", "--fold", "0", "--set", "model.arch=resnet18"],
        2,
        &["resnet18", "se_resnext_tiny"],
    );
    fails(
        &["train", "--fold", "0", "--set", "model.weights=/nowhere"],
        2,
        &["/nowhere", "weights import"],
    );
    fails(&["train", "--fold", "0", "--set", "split.folds=1"], 2, &["split.folds", "2"]);
    fails(&["train", "--fold", "0", "--run", "../up"], 2, &["../up"]);
    fails(&["submit", "--run", "none"], 2, &["none", "/results"]);
    fails(&["split", "--set", "split.folds=90"], 65, &["folds.csv", "90"]);
    for words in [
        &["evaluate", "--predictions", "/nowhere", "--truth", "/nowhere"][..],
        &["forward", "--weights", "/nowhere", "--input", "/nowhere", "--output", "/tmp/x"],
        &["weights", "import", "/nowhere", "--output", "/tmp/x"],
        &["split", "--labels", "/nowhere", "--out", "/tmp/x"],
        &["dedup", "--hashes", "/nowhere", "--out", "/tmp/x"],
    ] {
        let out = small.atlas(words).output().unwrap();
        assert!(
            out.status.code() == Some(2) && stderr(&out).contains("/nowhere"),
            "{words:?}: {}",
            stderr(&out)
        );
    }
    // A wrong key of the training is reported before the data are read.
    let out = small.run(&["run", "--set", "model.arch=resnet18"]);
    assert!(out.status.code() == Some(2) && stderr(&out).lines().count() == 1, "{}", stderr(&out));
    fails(&["train", "--fold", "0", "--set", "train.epoch=3"], 2, &["train.epoch=3", "`epochs`"]);
}
