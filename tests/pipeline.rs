//! The whole pipeline from outside: from images to a scored submission, what is done again and
//! what is not, and what users do wrong.
use std::{collections::BTreeMap, fs, path::Path};

use atlas::{
    config::Config,
    data::{manifest::Manifest, work_folder::WorkFolder},
    operations::status::PipelineStatus,
    training::run_folder::Run,
};

#[path = "pipeline/lost.rs"]
mod lost;
#[path = "pipeline/misplaced.rs"]
mod misplaced;
#[path = "pipeline/moved.rs"]
mod moved;
#[path = "pipeline/own.rs"]
mod own;
#[path = "pipeline/refused.rs"]
mod refused;
#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, files, stderr, succeeds};

fn json(out: &std::process::Output) -> serde_json::Value {
    succeeds(out);
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// Ids in file order with their classes.
fn submission(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Id,Predicted"));
    lines
        .map(|l| l.split_once(',').unwrap())
        .map(|(id, classes)| (id.to_string(), classes.to_string()))
        .collect()
}

/// A valid answer: the ids of the sample submission in their order, at least one known class each.
fn assert_valid(run: &Path, sample: &Path) {
    let ids: Vec<String> = submission(sample).into_iter().map(|r| r.0).collect();
    for name in ["submission.csv", "submission_optimal_threshold.csv"] {
        let rows = submission(&run.join(name));
        assert_eq!(rows.iter().map(|r| r.0.clone()).collect::<Vec<_>>(), ids, "{name}");
        for (id, classes) in rows {
            let classes: Vec<usize> = classes
                .split(' ')
                .map(|c| c.parse().unwrap_or_else(|_| panic!("{name}, {id}: `{classes}`")))
                .collect();
            assert!(
                !classes.is_empty() && classes.is_sorted() && classes.iter().all(|&c| c < 28),
                "{name}, {id}"
            );
        }
    }
}

/// Names of the files that are not the same in both.
fn differing<'a>(
    a: &'a BTreeMap<String, Vec<u8>>,
    b: &'a BTreeMap<String, Vec<u8>>,
) -> Vec<&'a str> {
    a.keys()
        .chain(b.keys())
        .filter(|name| a.get(*name) != b.get(*name))
        .map(String::as_str)
        .collect()
}

#[test]
fn a_run_goes_from_images_to_submissions_and_repeats_nothing() {
    let small = Small::new();
    let first = json(&small.run(&["run", "--json"]));
    let run = Path::new(first["run"].as_str().unwrap()).to_path_buf();
    assert_valid(&run, Path::new(&small.path("data/sample_submission.csv")));
    let made = files(&run);
    for name in [
        "config.toml",
        "provenance.json",
        "fold_0/history.csv",
        "fold_0/metrics.jsonl",
        "fold_0/training_logs/epoch_001_train.csv",
        "fold_1/training_logs/epoch_001_val.csv",
        "fold_1/model_checkpoints/best.safetensors",
        "fold_1/validation.h5",
        "predictions/test-00000.h5",
        "thresholds.csv",
        "scores.csv",
        "scores.svg",
    ] {
        assert!(made.contains_key(name), "{name} is not among {:?}", made.keys());
    }
    assert_eq!(
        fs::canonicalize(small.result("latest", "")).unwrap(),
        fs::canonicalize(&run).unwrap()
    );
    let provenance: serde_json::Value = serde_json::from_slice(&made["provenance.json"]).unwrap();
    assert!(provenance["git_commit"].as_str().is_some_and(|c| !c.is_empty()), "{provenance}");

    // A fold that was trained again would show in the times of its metrics.jsonl.
    let predictions = run.join("predictions/test-00000.h5");
    let predicted = || fs::metadata(&predictions).unwrap().modified().unwrap();
    let before = predicted();
    assert_eq!(json(&small.run(&["run", "--json"]))["run"], first["run"]);
    assert_eq!(differing(&files(&run), &made), [""; 0], "a second run changes nothing");
    assert_eq!(predicted(), before, "and predicts nothing");

    // `status` reads the manifest once: after that the file is not needed.
    let config = Config::load(Some(&run.join("config.toml")), &[]).unwrap();
    let folder = WorkFolder::of(&config);
    let (manifest, away) = (Manifest::path(folder.path()), folder.path().join("away"));
    folder.manifest().unwrap();
    fs::rename(&manifest, &away).unwrap();
    let status = PipelineStatus::read(&config, &folder, Some(&Run { folder: run.clone() }));
    assert!(status.finished, "{status}");
    fs::rename(&away, &manifest).unwrap();

    // Something is lost: only that is made again.
    fs::remove_file(&predictions).unwrap();
    fs::remove_file(run.join("fold_1/validation.h5")).unwrap();
    succeeds(&small.run(&["run"]));
    assert_eq!(differing(&files(&run), &made), [""; 0], "what was lost comes back as it was");

    // Every file of the run and of the work folder is whole; a damaged one of each kind is named.
    let work = small.path("work");
    succeeds(&small.atlas(&["verify", &work, run.to_str().unwrap()]).output().unwrap());
    let damaged = [
        run.join("predictions/test-00000.h5"),
        run.join("fold_0/validation.h5"),
        run.join("fold_0/model_checkpoints/best.safetensors"),
    ];
    for path in damaged.iter().chain([&Path::new(&work).join("shards/train-00000.h5")]) {
        let whole = fs::read(path).unwrap();
        fs::write(path, &whole[..whole.len() / 2]).unwrap();
        let out = small.atlas(&["verify", path.to_str().unwrap()]).output().unwrap();
        assert!(
            out.status.code() == Some(65) && stderr(&out).contains(path.to_str().unwrap()),
            "{}",
            stderr(&out)
        );
        fs::write(path, whole).unwrap();
    }

    // Scores of the same answer by `evaluate`, which reads the submission, and by hand.
    let truth = small.path("data/truth.csv");
    let out = small
        .atlas(&[
            "evaluate",
            "--json",
            "--truth",
            &truth,
            "--predictions",
            run.join("submission.csv").to_str().unwrap(),
        ])
        .output();
    let score = json(&out.unwrap())["macro_f1"].as_f64().unwrap();
    assert!((score - macro_f1(&submission(&run.join("submission.csv")), &truth)).abs() < 1e-12);

    own::images(&small, &run);
    own::card(&small, &run);
    assert_eq!(differing(&files(&run), &made), [""; 0], "and the run stays as it is");
}

/// From the definition, class by class.
fn macro_f1(rows: &[(String, String)], truth: &str) -> f64 {
    let text = fs::read_to_string(truth).unwrap();
    let truth: BTreeMap<&str, &str> =
        text.lines().skip(1).map(|l| l.split_once(',').unwrap()).collect();
    let has = |set: &str, class: usize| set.split(' ').any(|c| c == class.to_string());
    let of = |class: usize| {
        let both = |want: (bool, bool)| {
            rows.iter()
                .filter(|(id, set)| (has(set, class), has(truth[id.as_str()], class)) == want)
                .count() as f64
        };
        let (tp, wrong) = (both((true, true)), both((true, false)) + both((false, true)));
        if tp == 0.0 { 0.0 } else { 2.0 * tp / (2.0 * tp + wrong) }
    };
    (0..28).map(of).sum::<f64>() / 28.0
}

#[test]
fn changed_data_start_a_new_run() {
    let small = Small::new();
    let first = json(&small.run(&["run", "--json", "--run", "run-1"]));
    let table = small.path("data/train.csv");
    let text = fs::read_to_string(&table).unwrap();
    let shorter: Vec<&str> = text.lines().take(50).collect();
    fs::write(&table, shorter.join("\n") + "\n").unwrap();
    let out = small.run(&["run", "--json"]);
    let second = json(&out);
    assert_ne!(first["run"], second["run"]);
    assert!(stderr(&out).contains("run-1"), "{}", stderr(&out));
    let kept = files(&small.result("run-1", "fold_0/model_checkpoints"));
    let out = small.run(&["train", "--fold", "0", "--run", "run-1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("run-1/fold_0/model_checkpoints"), "{}", stderr(&out));
    assert!(files(&small.result("run-1", "fold_0/model_checkpoints")) == kept);
}

#[test]
fn a_test_image_that_cannot_be_read_does_not_cost_the_submission() {
    let mut small = Small::new();
    small.set("preprocess.max_bad_fraction=0.1");
    let sample = small.path("data/sample_submission.csv");
    let id = submission(Path::new(&sample))[3].0.clone();
    fs::write(small.path(&format!("data/test/{id}_blue.png")), "not an image").unwrap();
    let out = small.run(&["run", "--json"]);
    let run = json(&out)["run"].as_str().unwrap().to_string();
    assert!(stderr(&out).contains(&id), "{}", stderr(&out));
    assert_valid(Path::new(&run), Path::new(&sample));
    fs::write(&sample, fs::read_to_string(&sample).unwrap() + "ghost,0\n").unwrap();
    let out = small.run(&["submit"]);
    assert_eq!(out.status.code(), Some(65), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("ghost") && stderr(&out).contains("sample_submission.csv"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn trained_weights_can_be_exported_and_trained_further() {
    let small = Small::new();
    small.prepare();
    succeeds(&small.run(&["train", "--fold", "0", "--run", "first"]));
    let best = small.result("first", "fold_0/model_checkpoints/best.safetensors");
    let out = small.path("out.safetensors");
    succeeds(
        &small
            .atlas(&["weights", "export", best.to_str().unwrap(), "--output", &out])
            .output()
            .unwrap(),
    );
    let bytes = fs::read(&best).unwrap();
    let broken = small.path("broken.safetensors");
    fs::write(
        &broken,
        [&bytes[..bytes.len() - 9], &[bytes[bytes.len() - 9] ^ 1], &bytes[bytes.len() - 8..]]
            .concat(),
    )
    .unwrap();
    let refused = small.atlas(&["weights", "export", &broken, "--output", &out]).output().unwrap();
    assert!(
        refused.status.code() == Some(65) && stderr(&refused).contains(&broken),
        "{}",
        stderr(&refused)
    );
    // At a learning rate of next to nothing a validation is that of the weights it began with.
    let history = |weights: &str| {
        let set = format!("model.weights={weights}");
        let words = [
            "train",
            "--fold",
            "0",
            "--run",
            "second",
            "--set",
            &set,
            "--set",
            "train.lr=1e-12",
            "--set",
            "train.ema=0",
        ];
        succeeds(&small.run(&words));
        let history = fs::read_to_string(small.result("second", "fold_0/history.csv")).unwrap();
        fs::remove_dir_all(small.result("second", "")).unwrap();
        history
    };
    let from_checkpoint = history(best.to_str().unwrap());
    assert_eq!(from_checkpoint, history(&out), "exported, the weights are the same");
    assert_ne!(from_checkpoint, history(""), "without them it begins elsewhere");
}

#[test]
fn a_loss_that_is_not_finite_ends_the_training_with_advice() {
    let small = Small::new();
    small.prepare();
    let sets = ["--set", "train.lr=1e30", "--set", "train.div=1"];
    let out = small.run(&[&["train", "--fold", "0"], &sets[..]].concat());
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("train.lr"), "{}", stderr(&out));
}

#[test]
fn every_recipe_and_setting_trains() {
    let small = Small::new();
    small.prepare();
    for (run, sets) in [
        (
            "seed",
            "train.loss.focal_reduce=mean train.loss.lovasz_over=batch train.loss.soft_f1=1 \
                train.loss.soft_f1_over=sample train.sampling=replacement train.ema=0 \
                train.decay_all=true train.normalize=unit train.keep=last model.stem=seed \
                augment.brightness=3 augment.elastic=0.5 augment.elastic_alpha=1 \
                augment.per_channel=false predict.reduce=max",
        ),
        (
            "sgd",
            "train.optimizer=sgd train.schedule=multi_step train.milestones=[0.5] \
                train.loss.bce=1 train.loss.focal=0 train.loss.lovasz_over=class \
                train.sampling=balanced train.normalize=image train.layout=nchw predict.tta=none",
        ),
        (
            "pieces",
            "train.precision=bf16 train.micro_batch=3 train.loss.focal_alpha=0.25 \
                model.head=linear predict.tta=five_crop_d4 train.schedule=constant",
        ),
    ] {
        let mut command = small.job(&["train", "--json", "--fold=0", "--run", run]);
        let out = json(
            &command.args(sets.split_whitespace().map(|s| format!("--set={s}"))).output().unwrap(),
        );
        assert_eq!((&out["fold"], &out["epochs"]), (&0.into(), &1.into()), "{run}");
        let history = fs::read_to_string(small.result(run, "fold_0/history.csv")).unwrap();
        let mut rows = csv::Reader::from_reader(history.as_bytes());
        let header = rows.headers().unwrap().clone();
        let row = rows.records().next().unwrap().unwrap();
        for (key, value) in header.iter().zip(&row) {
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{run}: {key} is `{value}`");
        }
    }
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_images_run_through_the_pipeline() {
    let small = Small::real(&needs::shared_data());
    let out = json(&small.run(&["run", "--json"]));
    assert_valid(
        Path::new(out["run"].as_str().unwrap()),
        Path::new(&small.path("data/sample_submission.csv")),
    );
    let folds = fs::read_to_string(small.path("work/folds.csv")).unwrap();
    assert_eq!(folds.lines().count(), 1 + 24 + 6, "{folds}");
    let problems = fs::read_to_string(small.path("work/problems.csv")).unwrap();
    assert_eq!(problems.matches("missing channels").count(), 3, "{problems}");
}
