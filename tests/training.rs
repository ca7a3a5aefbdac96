//! What a training shows besides its tables: the log for TensorBoard; and the test that finds a
//! learning rate.
use std::{collections::BTreeMap, fs, path::Path, process::Command};

use atlas::training::event_file::{Content, What, files, read};

#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, stderr, succeeds};

/// By tag, steps and what they hold: a value; width times 10000 plus height of an image; the number
/// of values of a histogram.
type Curves = BTreeMap<String, Vec<(i64, f64)>>;

#[derive(Debug, Default, PartialEq, serde::Deserialize)]
struct Seen {
    scalars: Curves,
    images: Curves,
    histograms: Curves,
}

/// As our own reader sees it.
fn ours(folder: &Path) -> Seen {
    let files = files(folder).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    let (events, whole) = read(&files[0]).unwrap();
    assert!(whole);
    let mut seen = Seen::default();
    for event in events {
        let Some(What::Summary(summary)) = event.what else { continue };
        for value in summary.values {
            let (curves, held) = match value.content.unwrap() {
                Content::Scalar(value) => (&mut seen.scalars, f64::from(value)),
                Content::Image(i) => {
                    let png = image::load_from_memory(&i.png).unwrap();
                    assert_eq!((png.width(), png.height()), (i.width as u32, i.height as u32));
                    (&mut seen.images, f64::from(i.width * 10_000 + i.height))
                }
                Content::Histogram(h) => (&mut seen.histograms, h.num),
            };
            curves.entry(value.tag).or_default().push((event.step, held));
        }
    }
    seen
}

fn prepared() -> Small {
    let mut small = Small::new();
    small.prepare();
    small.set("train.epochs=2").set("train.checkpoint_steps=2");
    small
}

/// Trains fold 0; killed in the first epoch, after what the last checkpoint knows, and in the first
/// validation, and gone on with.
fn interrupted(small: &Small) {
    for (fault, code) in [("panic:0.3", Some(70)), ("created:epoch_001_val", None)] {
        let out = small
            .job(&["train", "--fold", "0", "--run", "r"])
            .env("ATLAS_FAULT", fault)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), code, "{}", stderr(&out));
    }
    succeeds(&small.run(&["train", "--fold", "0", "--run", "r"]));
}

/// Every number of metrics.jsonl and history.csv stands there once, at its step.
fn agrees_with_the_tables(seen: &Seen, fold: &Path) {
    let mut expected = Curves::new();
    let mut last_step = BTreeMap::new();
    for line in fs::read_to_string(fold.join("metrics.jsonl")).unwrap().lines() {
        let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let step = line["step"].as_i64().unwrap();
        last_step.insert(line["epoch"].to_string(), step);
        for (key, value) in line.iter().filter(|(key, value)| {
            !["epoch", "step", "ranks"].contains(&key.as_str()) && value.is_number()
        }) {
            expected
                .entry(format!("interval/{key}"))
                .or_default()
                .push((step, value.as_f64().unwrap()));
        }
    }
    let mut history = csv::Reader::from_path(fold.join("history.csv")).unwrap();
    let names = history.headers().unwrap().clone();
    for row in history.records() {
        let row = row.unwrap();
        for (name, value) in names.iter().zip(&row).skip(1).filter(|(_, value)| !value.is_empty()) {
            expected
                .entry(format!("epoch/{name}"))
                .or_default()
                .push((last_step[&row[0]], value.parse().unwrap()));
        }
    }
    assert!(
        expected.len() > 15
            && expected["epoch/macro_f1"].len() == 2
            && expected["interval/loss"].len() > 4,
        "{expected:?}"
    );
    let mut scalars = seen.scalars.clone();
    let per_class: Vec<_> = scalars.extract_if(.., |tag, _| tag.starts_with("f1/")).collect();
    assert_eq!(scalars.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (tag, points) in &expected {
        let rounded: Vec<_> =
            points.iter().map(|&(step, value)| (step, f64::from(value as f32))).collect();
        assert_eq!(scalars[tag], rounded, "{tag}");
    }
    // F1 per class: their mean is the macro F1.
    assert_eq!(per_class.len(), 28);
    for (epoch, (step, macro_f1)) in expected["epoch/macro_f1"].iter().enumerate() {
        assert!(per_class.iter().all(|(_, points)| points.len() == 2 && points[epoch].0 == *step));
        let mean = per_class.iter().map(|(_, points)| points[epoch].1).sum::<f64>() / 28.0;
        assert!((mean - macro_f1).abs() < 1e-6, "{mean} {macro_f1}");
    }
    let rows = |name: &str| {
        (fs::read_to_string(fold.join("training_logs").join(name)).unwrap().lines().count() - 1)
            as f64
    };
    for part in ["train", "valid"] {
        let rows =
            rows(&format!("epoch_001_{}.csv", if part == "train" { "train" } else { "val" }));
        let points = &seen.histograms[&format!("probabilities/{part}")];
        assert_eq!(points.iter().map(|p| p.1).collect::<Vec<_>>(), [28.0 * rows; 2]);
    }
    let weights: Vec<_> =
        seen.histograms.iter().filter(|(tag, _)| tag.starts_with("weights/")).collect();
    assert!(
        weights.len() >= 5 && weights.iter().all(|(_, points)| points.len() == 2),
        "{weights:?}"
    );
    assert!(
        seen.images.len() == 8
            && seen.images.values().all(|points| points.len() == 1 && points[0].0 == 0),
        "{:?}",
        seen.images
    );
}

#[test]
fn tensorboard_has_each_value_of_the_tables_once_even_after_kills() {
    let small = prepared();
    interrupted(&small);
    let fold = small.result("r", "fold_0");
    let log = fold.join("tensorboard");
    let seen = ours(&log);
    agrees_with_the_tables(&seen, &fold);
    // Negative control: what was not there is missed.
    let mut less = ours(&log);
    less.scalars.get_mut("interval/loss").unwrap().pop();
    assert_ne!(less, seen);

    let off =
        small.run(&["train", "--fold", "0", "--run", "off", "--set", "train.tensorboard=false"]);
    succeeds(&off);
    assert!(
        !small.result("off", "fold_0/tensorboard").exists()
            && small.result("off", "fold_0/metrics.jsonl").exists()
    );
}

#[test]
#[ignore = "needs ATLAS_PYTHON with tensorboard; run by make test-all"]
fn tensorboards_own_reader_sees_the_same() {
    let small = prepared();
    interrupted(&small);
    let fold = small.result("r", "fold_0");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/event_file.py");
    let out =
        Command::new(needs::python()).arg(script).arg(fold.join("tensorboard")).output().unwrap();
    succeeds(&out);
    let theirs: Seen = serde_json::from_slice(&out.stdout).unwrap();
    agrees_with_the_tables(&theirs, &fold);
    assert_eq!(theirs, ours(&fold.join("tensorboard")));
    println!(
        "TensorBoard reads {} curves, {} images, {} histograms",
        theirs.scalars.len(),
        theirs.images.len(),
        theirs.histograms.len()
    );
}

#[test]
fn a_learning_rate_is_found_and_no_run_is_touched() {
    let small = prepared();
    let out = small.run(&["train", "--fold", "0", "--find-lr", "--json"]);
    succeeds(&out);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let folder = small.result("find_lr", "fold_0");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.len() == 2, "{names:?}");
    assert_eq!(fs::read_dir(small.result("", "")).unwrap().count(), 1, "a run was made");

    let mut table = csv::Reader::from_path(folder.join("find_lr.csv")).unwrap();
    let rows: Vec<[f64; 3]> = table.deserialize().map(|r| r.unwrap()).collect();
    assert!(
        rows.len() as u64 == json["steps"].as_u64().unwrap() && rows.len() > 50,
        "{}",
        rows.len()
    );
    assert!((rows[0][0] - 1e-7).abs() < 1e-12 && rows.is_sorted_by(|a, b| a[0] < b[0]));
    // The running mean by its definition: weights 0.9^age, over their sum.
    for n in [1, 2, 30, rows.len()] {
        let weight = |i: usize| 0.9f64.powi((n - 1 - i) as i32);
        let mean =
            (0..n).map(|i| weight(i) * rows[i][1]).sum::<f64>() / (0..n).map(weight).sum::<f64>();
        assert!((mean - rows[n - 1][2]).abs() < 1e-9 * mean, "{n}: {mean} {}", rows[n - 1][2]);
    }
    let least = rows.iter().min_by(|a, b| a[2].total_cmp(&b[2])).unwrap();
    let of = |name: &str| json["suggestion"][name].as_f64().unwrap();
    assert!((of("tenth_of_minimum") / (least[0] / 10.0) - 1.0).abs() < 1e-9);
    assert!(
        of("steepest") < least[0]
            && rows.iter().any(|r| (r[0] / of("steepest") - 1.0).abs() < 1e-9)
    );
    assert!(fs::read_to_string(folder.join("find_lr.svg")).unwrap().contains("steepest descent"));

    // Said so that it can be pasted.
    let text = small.run(&["train", "--fold", "0", "--find-lr"]);
    succeeds(&text);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(text.matches("--set train.lr=").count(), 2, "{text}");
    assert_eq!(
        small.run(&["train", "--fold", "0", "--find-lr", "--run", "x"]).status.code(),
        Some(2)
    );
}
