//! A training that is stopped or killed goes on where it was and ends with the same bits.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use atlas::{scoring::prediction_file::Predictions, training::checkpoint::Checkpoint};

#[path = "pipeline/small.rs"]
mod small;
use small::{Small, assert_equal, outcome, stderr, succeeds};

/// Three epochs of few steps with a checkpoint every second one.
fn prepared(precision: &str) -> Small {
    let mut small = Small::new();
    small.prepare();
    small
        .set("train.epochs=3")
        .set("train.checkpoint_steps=2")
        .set(&format!("train.precision={precision}"));
    small
}

fn train(small: &Small, run: &str) {
    succeeds(&small.run(&["train", "--fold", "0", "--run", run]));
}

fn spawn(small: &Small, run: &str) -> Child {
    small
        .job(&["train", "--fold", "0", "--run", run])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The lines of metrics.jsonl without what depends on the clock.
fn steps(small: &Small, run: &str) -> Vec<(u64, u64)> {
    let text = fs::read_to_string(small.result(run, "fold_0/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    lines.map(|l| (l["step"].as_u64().unwrap(), l["loss"].as_f64().unwrap().to_bits())).collect()
}

#[test]
fn a_stopped_and_resumed_training_equals_an_uninterrupted_one() {
    let small = prepared("f32");
    train(&small, "whole");
    let mut child = spawn(&small, "halves");
    let metrics = small.result("halves", "fold_0/metrics.jsonl");
    wait(&mut child, || fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() >= 5));
    // SAFETY: sends a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(!small.result("halves", "fold_0/validation.h5").exists());
    train(&small, "halves");
    assert_equal(&small, "whole", "halves");
    assert_eq!(steps(&small, "whole"), steps(&small, "halves"));

    // Negative control: another seed ends elsewhere.
    let mut other = small;
    other.set("train.seed=1");
    train(&other, "other");
    let last = |run: &str| {
        fs::read(other.result(run, "fold_0/model_checkpoints/last.safetensors")).unwrap()
    };
    assert_ne!(last("whole"), last("other"));
}

#[test]
fn a_checkpoint_cut_in_half_gives_way_to_the_one_before() {
    let small = prepared("f32");
    train(&small, "whole");
    let mut child = spawn(&small, "cut");
    let checkpoints = small.result("cut", "fold_0/model_checkpoints");
    wait(&mut child, || {
        newest(&checkpoints).is_some_and(|p| p.ends_with("step_000000006.safetensors"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let path = newest(&checkpoints).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let verified = small.atlas(&["verify", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(verified.status.code(), Some(65));
    let out = small.run(&["train", "--fold", "0", "--run", "cut"]);
    succeeds(&out);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(stderr(&out).contains(name), "{}", stderr(&out));
    assert_equal(&small, "whole", "cut");
}

/// The compute mode that `auto` stands for is measured once, logged, and kept in the checkpoints;
/// the rest of the training uses it, as an uninterrupted training with these keys would. (Two
/// measurements may choose different modes, so that two trainings with `auto` may differ.)
#[test]
fn auto_is_measured_once_and_kept_after_a_resumption() {
    let mut small = prepared("auto");
    small.set("train.layout=auto");
    let stopped = small
        .job(&["train", "--fold", "0", "--run", "halves"])
        .env("ATLAS_FAULT", "stop:0.5")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), Some(75), "{}", stderr(&stopped));
    let compute_mode = chosen(&stderr(&stopped), &["8 images", "48 px"]);
    let resumed = small.run(&["train", "--fold", "0", "--run", "halves"]);
    succeeds(&resumed);
    assert_eq!(chosen(&stderr(&resumed), &[]), compute_mode);
    assert!(!stderr(&resumed).contains("ranks: "), "no other conditions: {}", stderr(&resumed));
    let last =
        Checkpoint::read(&small.result("halves", "fold_0/model_checkpoints/last.safetensors"))
            .unwrap();
    assert_eq!(last.state.conditions.compute_mode.to_string(), compute_mode);
    succeeds(&small.run(&["predict", "--run", "halves"]));

    let (precision, layout) = compute_mode.split_once('/').unwrap();
    small.set(&format!("train.precision={precision}")).set(&format!("train.layout={layout}"));
    let named = small.run(&["train", "--fold", "0", "--run", "named"]);
    succeeds(&named);
    assert!(!stderr(&named).contains("\"auto\""), "{}", stderr(&named));
    succeeds(&small.run(&["predict", "--run", "named"]));
    // Predictions and weights also say with which keys they were made: of them the values count.
    for ((name, a), (other_name, b)) in
        outcome(&small, "halves").into_iter().zip(outcome(&small, "named"))
    {
        let is_same = a == b || name == "validation.h5" || name.ends_with(".safetensors");
        assert!(name == other_name && is_same, "{name} differs");
    }
    for name in ["best", "last"] {
        let read = |run: &str| {
            let file = format!("fold_0/model_checkpoints/{name}.safetensors");
            Checkpoint::read(&small.result(run, &file)).unwrap()
        };
        let (a, mut b) = (read("halves"), read("named"));
        assert!(a.state.origin != b.state.origin, "{name}: the keys differ");
        b.state.origin = a.state.origin.clone();
        assert_eq!(a.state, b.state, "{name}");
        assert!(a.tensors.iter().zip(&b.tensors).all(|(a, b)| a.0 == b.0 && a.1 == b.1), "{name}");
    }
    for file in ["fold_0/validation.h5", "predictions/test-00000.h5"] {
        let read = |run: &str| Predictions::read(&small.result(run, file)).unwrap();
        let (a, b) = (read("halves"), read("named"));
        assert!(a.ids == b.ids && a.probabilities == b.probabilities, "{file} differs");
    }
}

/// The compute mode that a training logs, in one line that also has `parts`: what was measured;
/// after a resumption nothing.
fn chosen(said: &str, parts: &[&str]) -> String {
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|l| l.split_once("train.precision and train.layout = \"auto\": "))
        .map(|l| l.1)
        .collect();
    assert!(lines.len() == 1 && parts.iter().all(|part| lines[0].contains(part)), "{said}");
    assert_eq!(lines[0].contains(" px"), !parts.is_empty(), "{said}");
    lines[0].split([' ', ',']).next().unwrap().into()
}

#[test]
fn a_broken_shard_stops_training_with_its_name() {
    let small = prepared("f32");
    let shard = small.folder.path().join("work/shards/train-00001.h5");
    let whole = fs::read(&shard).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2; // in an image
    flipped[middle] ^= 1;
    for bytes in [&flipped[..], &whole[..whole.len() - 1000]] {
        fs::write(&shard, bytes).unwrap();
        let out = small.run(&["train", "--fold", "0", "--run", "broken"]);
        assert_eq!(out.status.code(), Some(65), "{}", stderr(&out));
        assert!(
            stderr(&out).lines().last().unwrap().contains("train-00001.h5"),
            "{}",
            stderr(&out)
        );
    }
}

#[test]
#[ignore = "a dozen trainings"]
fn killed_at_any_moment_it_ends_with_the_same_bits() {
    for precision in ["f32", "bf16"] {
        let small = prepared(precision);
        let start = Instant::now();
        train(&small, "whole");
        let took = start.elapsed();
        let fold = |run: &str, name: &str| small.result(run, &format!("fold_0/{name}"));

        let before = fold("before", "metrics.jsonl");
        killed(&small, "before", || before.exists());
        assert_eq!(newest(&fold("before", "model_checkpoints")), None, "killed too late");

        // A moment in which the temporary file of a checkpoint is there; it must still be there
        // afterwards.
        let writing = fold("writing", "model_checkpoints");
        let temporary = || {
            fs::read_dir(&writing).is_ok_and(|d| {
                d.flatten().any(|e| e.file_name().to_string_lossy().starts_with(".step_"))
            })
        };
        let hit = (0..20).any(|_| {
            killed(&small, "writing", temporary);
            temporary()
        });
        assert!(hit, "never caught in the middle of writing a checkpoint");

        let logs = fold("validating", "training_logs");
        killed(&small, "validating", || logs.join("epoch_002_train.csv").exists());
        assert!(!logs.join("epoch_002_val.csv").exists(), "killed too late");

        for (run, share) in [("early", 0.37), ("late", 0.81)] {
            let since = Instant::now();
            killed(&small, run, || since.elapsed() > took.mul_f64(share));
        }
        for run in ["before", "writing", "validating", "early", "late"] {
            train(&small, run);
            assert_equal(&small, "whole", run);
            assert_eq!(steps(&small, "whole"), steps(&small, run), "{run}");
        }
    }
}

#[test]
#[ignore = "300 steps"]
fn memory_stays_flat() {
    let mut small = Small::new();
    small.prepare();
    small
        .set("train.epochs=45")
        .set("train.batch=4")
        .set("train.validate_every=5")
        .set("train.checkpoint_steps=3");
    train(&small, "long");
    let text = fs::read_to_string(small.result("long", "fold_0/metrics.jsonl")).unwrap();
    let resident: Vec<(u64, u64)> = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .map(|l| (l["step"].as_u64().unwrap(), l["resident_mib"].as_u64().unwrap()))
        .collect();
    let most = |from: u64, to: u64| {
        resident.iter().filter(|r| (from..to).contains(&r.0)).map(|r| r.1).max().unwrap()
    };
    let steps = resident.last().unwrap().0;
    println!(
        "{steps} steps, at most {} MiB in steps 1 to 99, {} in the last 100",
        most(1, 100),
        most(steps - 100, steps + 1)
    );
    assert!(steps >= 300 && most(steps - 100, steps + 1) <= most(1, 100) + 16, "{resident:?}");
}

/// Trains until `moment`, then kills the process with SIGKILL.
fn killed(small: &Small, run: &str, moment: impl Fn() -> bool) {
    let mut child = spawn(small, run);
    wait(&mut child, moment);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn wait(child: &mut Child, moment: impl Fn() -> bool) {
    while !moment() {
        assert!(child.try_wait().unwrap().is_none(), "the training ended before the moment came");
        thread::sleep(Duration::from_micros(100));
    }
}

/// The newest checkpoint of a running training.
fn newest(folder: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    names.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("step_"))).max()
}
