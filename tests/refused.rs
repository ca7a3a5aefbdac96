//! What the system or a library refuses: memory, threads, open files, disk. Each is one line that
//! names the operation and the key to change, with exit code 1, and never a bug.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    process::{Command, Output},
};

use atlas::network::weights;
use tch::{Device, Kind, Tensor};

#[path = "ranks/launcher.rs"]
mod launcher;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, stderr, succeeds};

/// `command` under a limit of bash's `ulimit`, such as `-v 4000000` (KB).
fn limited(command: &Command, limit: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "bash"]);
    bash.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    bash
}

/// Failed with one line of its own, which has all `parts`.
#[track_caller]
fn refused(out: &Output, parts: &[&str]) {
    let said = stderr(out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(!said.contains("bug") && !said.contains("frame #"), "{said}");
    let ours: Vec<&str> = said.lines().filter(|line| line.starts_with("atlas: ")).collect();
    assert!(
        ours.len() == 1 && parts.iter().all(|part| ours[0].contains(part)),
        "{parts:?}: {said}"
    );
}

/// Address space in which the program starts, but a large batch has no room, in KB.
const LITTLE: &str = "-v 4000000";

/// A batch of views that needs several gigabytes in training.
fn large_batch(small: &mut Small) {
    for set in ["augment.resize=1024", "augment.crop=1024", "train.batch=32", "train.micro_batch=0"]
    {
        small.set(set);
    }
}

#[test]
fn a_training_without_memory_names_the_keys_and_is_listed_as_failed() {
    let mut small = Small::new();
    small.prepare();
    large_batch(&mut small);
    for words in [&["train", "--fold", "0"][..], &["train", "--fold", "0", "--find-lr"]] {
        let out = limited(&small.job(words), LITTLE).output().unwrap();
        refused(&out, &["training", "memory", " GB", "train.micro_batch", "augment.crop"]);
    }
    let out = small.run(&["status", "--json"]);
    succeeds(&out);
    let status = String::from_utf8_lossy(&out.stdout);
    assert!(status.contains("failed (1)") && status.contains("out of memory"), "{status}");
}

#[test]
fn of_several_ranks_the_one_without_memory_is_named() {
    let mut small = Small::new();
    small.prepare();
    large_batch(&mut small);
    let alone = small.job(&["train", "--fold", "0", "--run", "r"]);
    let mut command = launcher::mpirun(2, OsStr::new("bash"));
    let limit = "[ \"${OMPI_COMM_WORLD_RANK:-$PMI_RANK}\" = 0 ] || ulimit -v 4000000; exec \"$@\"";
    command.args(["-c", limit, "bash"]).arg(alone.get_program()).args(alone.get_args());
    command.env_remove("ATLAS_RUN").env("OMP_WAIT_POLICY", "PASSIVE");
    let out = command.output().unwrap();
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(!said.contains("bug"), "{said}");
    let line = said.lines().find(|line| line.contains("atlas: ")).unwrap_or_default();
    let parts = ["rank 1 of 2", "memory", "train.batch"];
    assert!(parts.iter().all(|part| line.contains(part)), "{said}");
}

#[test]
fn a_prediction_without_memory_names_its_keys() {
    let small = Small::new();
    small.prepare();
    succeeds(&small.run(&["train", "--fold", "0", "--run", "r"]));
    let weights = small.result("r", "fold_0/model_checkpoints/last.safetensors");
    let words = ["predict", "--images", "IMAGES", "--output", "OUT", "--weights", "WEIGHTS"]
        .map(String::from);
    let words = words.map(|word| match word.as_str() {
        "IMAGES" => small.path("data/train"),
        "OUT" => small.path("out.csv"),
        "WEIGHTS" => weights.display().to_string(),
        _ => word,
    });
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    for set in ["augment.resize=1024", "augment.crop=1024", "predict.batch=48", "predict.tta=none"]
    {
        words.extend(["--set", set]);
    }
    let out = limited(&small.job(&words), LITTLE).output().unwrap();
    refused(&out, &["prediction", "memory", " GB", "predict.batch"]);
    assert!(!small.folder.path().join("out.csv").exists());
}

#[test]
fn a_forward_pass_without_memory_or_of_a_wrong_shape_is_refused() {
    let small = Small::new();
    small.prepare();
    succeeds(&small.run(&["train", "--fold", "0", "--run", "r"]));
    let weights = small.result("r", "fold_0/model_checkpoints/last.safetensors");
    let forward = |size: &[i64]| {
        let input = Tensor::zeros(size, (Kind::Float, Device::Cpu));
        let path = small.folder.path().join("in.safetensors");
        weights::write(&path, &[("input".into(), input)], &BTreeMap::default()).unwrap();
        let (weights, output) = (weights.display().to_string(), small.path("out.safetensors"));
        let input = path.display().to_string();
        small.job(&["forward", "--weights", &weights, "--input", &input, "--output", &output])
    };
    // 0.6 GB, where the program itself takes 2.5.
    let out = limited(&forward(&[64, 4, 768, 768]), "-v 2700000").output().unwrap();
    refused(&out, &["forward", "memory", "--input"]);
    for wrong in [&[2, 3, 48, 48][..], &[2, 4, 48], &[0, 4, 48, 48], &[1, 4, 31, 64]] {
        let out = forward(wrong).output().unwrap();
        assert_eq!(out.status.code(), Some(65), "{wrong:?}: {}", stderr(&out));
        assert!(stderr(&out).contains("in.safetensors"), "{}", stderr(&out));
    }
    succeeds(&forward(&[2, 4, 48, 48]).output().unwrap());
}

#[test]
fn little_memory_for_the_program_itself_is_no_bug() {
    let small = Small::new();
    let mut ends = Vec::new();
    // From what the loader needs upwards; the loader's own refusal is 127.
    for kb in (1_000_000..2_400_000).step_by(100_000) {
        let out = limited(&small.job(&["plan"]), &format!("-v {kb}")).output().unwrap();
        let (code, said) = (out.status.code(), stderr(&out));
        assert!(matches!(code, Some(0 | 1 | 127)), "{kb}: {code:?} {said}");
        assert!(!said.contains("bug"), "{kb}: {said}");
        ends.push(code);
    }
    assert!(ends.contains(&Some(0)), "{ends:?}");
}

#[test]
fn too_few_open_files_and_a_full_disk_are_named() {
    let small = Small::new();
    small.prepare();
    let mut named = 0;
    for limit in 8..40 {
        let job = small.job(&["train", "--fold", "0"]);
        let out = limited(&job, &format!("-n {limit}")).output().unwrap();
        let said = stderr(&out);
        assert!(matches!(out.status.code(), Some(0 | 1 | 127)), "{limit}: {:?} {said}", out.status);
        assert!(!said.contains("bug"), "{limit}: {said}");
        if out.status.code() == Some(1) {
            assert!(said.contains("oo many open files"), "{limit}: {said}");
            named += 1;
        }
    }
    assert!(named > 0);
    // A limit on the size of files stands for a full disk: the signal is what bash ignores here.
    fs::remove_dir_all(small.folder.path().join("work/shards")).unwrap();
    let job = limited(&small.job(&["preprocess"]), "-f 20; trap '' XFSZ");
    let mut job = job;
    let out = job.output().unwrap();
    refused(&out, &["shards", "too large"]);
}
