//! The job scripts on a real Slurm, where there is one (`tests/with_slurm.sh` starts it);
//! tests/scripts.rs has what needs none.

#[path = "slurm/site.rs"]
mod site;
#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use atlas::scoring::prediction_file::Predictions;
use site::{Site, until};
use small::{files, stderr, succeeds};

const NODES: &str = "ATLAS_TRAIN_OPTIONS='--nodes=2 --cpus-per-task=4'\n";

/// The tests of this file use the whole cluster, one after the other.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
#[ignore = "needs SLURM_CONF; run by make test"]
fn scripts_run_from_a_clean_clone_in_another_folder() {
    let _alone = ALONE.lock();
    needs::slurm();
    let mut site = Site::new(60, 12, 6, 64);
    let log = |site: &Site, name: &str, id: &str| {
        fs::read_to_string(site.path("elsewhere").join(format!("{name}-{id}.log"))).unwrap()
    };

    // Without shards: what to run first, in one line; Slurm keeps the exit code.
    let id = site.sbatch(&["--array=0"], "train_folds.sh", &[]);
    site.wait(2);
    let said = log(&site, "atlas-train", &format!("{id}_0"));
    assert!(said.lines().count() == 1 && said.contains("sbatch slurm/plan.sh"), "{said}");
    let record = site.command("scontrol", &["show", "job", &id]).output().unwrap();
    assert!(String::from_utf8_lossy(&record.stdout).contains("ExitCode=2:0"), "{record:?}");

    // Every script by itself, the arrays longer than the plan, the folds larger than the array
    // needs.
    for (script, options) in [
        ("plan.sh", &[][..]),
        ("preprocess.sh", &["--array=0-9%2"]),
        ("dedup.sh", &["--array=0-5"]),
        ("dedup.sh --merge", &["--array=0"]),
        ("split.sh", &[]),
        ("train_folds.sh --set train.epochs=2", &["--array=0-3", "--nodes=1"]),
        ("predict.sh --set train.epochs=2", &["--array=0-3"]),
        ("submit.sh --set train.epochs=2", &[]),
    ] {
        let words: Vec<&str> = script.split(' ').collect();
        let id = site.sbatch(options, words[0], &words[1..]);
        site.wait(3);
        let record = site.command("scontrol", &["show", "job", &id]).output().unwrap();
        let codes = String::from_utf8_lossy(&record.stdout);
        assert!(
            codes.contains("ExitCode=0:0")
                && codes.matches("ExitCode=").count() == codes.matches("ExitCode=0:0").count(),
            "{script}: {codes}"
        );
    }
    let runs: Vec<_> = fs::read_dir(site.path("results"))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().unwrap().is_dir())
        .collect();
    assert_eq!(runs.len(), 1, "the tasks of the array agree on one run: {runs:?}");
    assert!(
        runs[0].path().join("submission_optimal_threshold.csv").exists(),
        "{:?}",
        files(&site.path("elsewhere"))
    );
    assert!(fs::read_to_string(runs[0].path().join("config.toml")).unwrap().contains("epochs = 2"));

    // Without ATLAS_CONFIG it is configs/atlas.toml of the clone, with its paths.
    let clone = site.path("a clone");
    fs::create_dir(clone.join("work")).unwrap();
    std::os::unix::fs::symlink(site.path("work"), clone.join("work/atlas")).unwrap();
    site.env("ATLAS_CONFIG", "");
    let keys = "train.epochs=1 train.max_samples=16 model.arch=se_resnext_tiny augment.resize=64 \
        augment.crop=48 train.batch=8 preprocess.size=64 split.folds=2 predict.tta=none \
        data.external=";
    let sets: Vec<String> = keys.split_whitespace().map(|k| format!("--set={k}")).collect();
    let id = site.sbatch(
        &["--array=0"],
        "train_folds.sh",
        &sets.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    site.wait(3);
    assert!(
        clone.join("results/latest/fold_0/validation.h5").exists(),
        "{}",
        log(&site, "atlas-train", &format!("{id}_0"))
    );
}

#[test]
#[ignore = "about three minutes; needs SLURM_CONF"]
fn a_pipeline_over_four_nodes_equals_one_machine() {
    let _alone = ALONE.lock();
    needs::slurm();
    let mut site = Site::new(600, 60, 40, 64);
    site.small.set("train.epochs=4").set("train.batch=32").set("preprocess.shard_samples=100");
    if let Some(image) = std::env::var_os("ATLAS_IMAGE") {
        println!("in {}", image.display());
    }
    site.configure();
    fs::write(site.path("site.env"), NODES).unwrap();
    site.env("ATLAS_SITE", site.path("site.env").to_str().unwrap());
    succeeds(&site.pipeline(&["--run", "cluster"]));
    site.wait(15);
    site.is_finished("cluster");

    // Every task of an array on a node of its own, both folds at once.
    let first = |job: &str, task: usize, key: &str| {
        site.records(job, task)[0]["began"][key].as_str().unwrap().to_string()
    };
    let nodes: BTreeSet<String> = (0..4).map(|i| first("preprocess", i, "host")).collect();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    assert_ne!(first("train", 0, "host"), first("train", 1, "host"));
    for (fold, other) in [(0, 1), (1, 0)] {
        let end = site.records("train", fold)[1]["ended"]["time"].as_str().unwrap().to_string();
        assert!(first("train", other, "time") < end, "both folds at once");
        let log = fs::read_to_string(first("train", fold, "log")).unwrap();
        assert!(log.contains("[0/2 "), "two ranks: {log}");
    }

    // The same on one machine, in other folders.
    let (work, results) = (site.path("alone"), site.path("alone results"));
    let set = |key: &str, path: &Path| format!("{key}={}", path.display());
    let out = site
        .small
        .job(&[
            "run",
            "--run",
            "alone",
            "--set",
            &set("paths.work", &work),
            "--set",
            &set("paths.results", &results),
            "--set",
            "train.ranks=2",
        ])
        .output()
        .unwrap();
    succeeds(&out);
    let ours = site.path("work");
    let of = |work: &Path| -> BTreeMap<String, Vec<u8>> {
        let tables = [
            "manifest.csv",
            "plan.json",
            "duplicates.csv",
            "conflicts.csv",
            "leaks.csv",
            "dedup.json",
            "folds.csv",
            "folds.json",
        ];
        let tables = tables.iter().map(|t| (t.to_string(), fs::read(work.join(t)).unwrap()));
        files(&work.join("shards")).into_iter().chain(tables).collect()
    };
    let (one, other) = (of(&ours), of(&work));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert!(one.keys().filter(|k| k.ends_with(".h5")).count() == 8, "{:?}", one.keys());
    for (name, bytes) in &one {
        assert!(bytes == &other[name], "{name} differs");
    }
    let mut worst = 0f32;
    let (cluster, alone) = (site.path("results/cluster"), results.join("alone"));
    for name in ["predictions/test-00000.h5", "fold_0/validation.h5", "fold_1/validation.h5"] {
        let (a, b) = (
            Predictions::read(&cluster.join(name)).unwrap(),
            Predictions::read(&alone.join(name)).unwrap(),
        );
        assert_eq!(a.ids, b.ids);
        worst = a
            .probabilities
            .iter()
            .zip(&b.probabilities)
            .fold(worst, |w, (a, b)| w.max((a - b).abs()));
    }
    println!("predictions differ by at most {worst:e}");
    assert!(worst <= 1e-6, "{worst}");
    for name in ["submission.csv", "submission_optimal_threshold.csv"] {
        assert_eq!(
            fs::read_to_string(cluster.join(name)).unwrap(),
            fs::read_to_string(alone.join(name)).unwrap(),
            "{name}"
        );
    }
}

/// One node's daemon; with `all`, everything of ours that runs there, as if the machine were gone.
fn kill_node(node: &str, all: bool) {
    let pids = |pattern: &str| {
        let out = Command::new("pgrep").args(["-f", pattern]).output().unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let mut doomed = pids(&format!("slurmd .*-N {node}$"));
    assert_eq!(doomed.len(), 1, "the daemon of {node}");
    if all {
        let of_node = format!("SLURMD_NODENAME={node}");
        let environ = |pid: &str| fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let processes = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let ours: Vec<String> = processes
            .filter(|pid| environ(pid).split(|b| *b == 0).any(|v| v == of_node.as_bytes()))
            .collect();
        // Their step daemons first, or these would report how the others end.
        let parent = |pid: &String| {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()?
                .rsplit(')')
                .next()?
                .split(' ')
                .nth(2)
                .map(String::from)
        };
        let is_step = |pid: &String| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|c| c.starts_with("slurmstepd"))
        };
        doomed.extend(ours.iter().filter_map(parent).filter(is_step));
        doomed.extend(ours);
    }
    Command::new("kill").arg("-9").args(&doomed).output().unwrap();
}

fn start_node(node: &str) {
    let conf = std::env::var("SLURM_CONF").unwrap();
    assert!(Command::new("slurmd").args(["-f", &conf, "-N", node]).status().unwrap().success());
    until(90, "idle node", || {
        let out = Command::new("sinfo")
            .args(["--noheader", "--Node", "--nodes", node, "--format=%T"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).trim() == "idle"
    });
}

/// What a training leaves that has to be equal, however often it was interrupted.
fn trained(site: &Site, run: &str) -> BTreeMap<String, Vec<u8>> {
    let all = files(&site.path("results").join(run));
    all.into_iter()
        .filter(|(n, _)| {
            n.ends_with("validation.h5")
                || n.ends_with("history.csv")
                || n.starts_with("submission")
        })
        .collect()
}

#[test]
#[ignore = "about six minutes; needs SLURM_CONF"]
fn a_disturbed_pipeline_ends_as_an_undisturbed_one() {
    let _alone = ALONE.lock();
    needs::slurm();
    // large images: preprocessing takes long enough to be disturbed
    let mut site = Site::new(600, 60, 40, 512);
    site.small
        .set("train.epochs=48")
        .set("train.batch=32")
        .set("preprocess.shard_samples=25")
        .set("train.checkpoint_steps=5");
    site.configure();
    fs::write(site.path("site.env"), NODES).unwrap();
    site.env("ATLAS_SITE", site.path("site.env").to_str().unwrap());
    let began = |site: &Site, job: &str, task: usize, times: usize| {
        let count =
            |site: &Site| site.records(job, task).iter().filter(|r| !r["began"].is_null()).count();
        until(180, &format!("attempt {times} of {job} {task}"), || count(site) >= times);
    };
    let beats = |site: &Site, run: &str, fold: usize| {
        until(120, "heartbeat", || {
            site.path(&format!("results/{run}/fold_{fold}/heartbeat.json")).exists()
        });
        std::thread::sleep(std::time::Duration::from_secs(3));
    };

    // 1. A node dies in the middle of preprocessing: Slurm starts its task again elsewhere.
    succeeds(&site.pipeline(&["--run", "rough"]));
    began(&site, "preprocess", 0, 1);
    let node = site.records("preprocess", 0)[0]["began"]["host"].as_str().unwrap().to_string();
    kill_node(&node, true);
    began(&site, "preprocess", 0, 2);
    start_node(&node);

    // 2. A training is told to stop, 3. one is requeued, 4. the daemon of a node dies while its
    //   training goes on.
    beats(&site, "rough", 0);
    let job = site.submitted("rough").into_iter().find(|(step, _)| step == "train").unwrap().1;
    succeeds(&site.command("scancel", &["--signal=USR2", &format!("{job}_0")]).output().unwrap());
    beats(&site, "rough", 1);
    succeeds(&site.command("scontrol", &["requeue", &format!("{job}_1")]).output().unwrap());
    began(&site, "train", 0, 2);
    beats(&site, "rough", 0);
    let records = site.records("train", 0);
    let last = records.iter().rev().find(|r| !r["began"].is_null()).unwrap();
    let node = last["began"]["host"].as_str().unwrap().to_string();
    kill_node(&node, false);
    until(120, "node that is down", || {
        let out = site
            .command("sinfo", &["--noheader", "--Node", "--nodes", &node, "--format=%T"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).starts_with("down")
    });
    start_node(&node);
    site.wait(15);
    let status = site.status("rough");
    if status["finished"] != true {
        println!("not finished by itself: {status:#}");
        succeeds(&site.pipeline(&["--resume", "rough"]));
        site.wait(15);
    }
    site.is_finished("rough");
    let what: Vec<String> = site.status("rough")["troubles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| format!("{} {} {}", t["step"], t["task"], t["what"]))
        .collect();
    println!("{what:#?}");
    assert!(what.iter().any(|w| w.starts_with("\"preprocess\" 0 \"killed")), "{what:?}");
    let attempts = site.records("train", 0).iter().filter(|r| !r["began"].is_null()).count();
    assert!(attempts >= 3, "begun, stopped, and begun again after its node was lost: {attempts}");
    assert!(what.iter().any(|w| w.starts_with("\"train\" 0") && w.contains("(75)")), "{what:?}");

    // Nothing is lost or done twice: equal to a run that nobody disturbed.
    succeeds(&site.pipeline(&["--run", "calm"]));
    site.wait(15);
    site.is_finished("calm");
    let (rough, calm) = (trained(&site, "rough"), trained(&site, "calm"));
    assert_eq!(calm.len(), 6, "{:?}", calm.keys());
    assert!(rough == calm, "the interrupted training differs");

    // 5. A task that takes more memory than it asked for is killed; resumed with enough, only what
    //   is missing runs.
    fs::write(
        site.path("site.env"),
        "ATLAS_TRAIN_OPTIONS='--nodes=1 --cpus-per-task=4 --mem-per-cpu=20M'\n",
    )
    .unwrap();
    succeeds(&site.pipeline(&["--run", "narrow"]));
    site.wait(10);
    let status = site.status("narrow");
    let train =
        status["steps"].as_array().unwrap().iter().find(|s| s["name"] == "train").unwrap().clone();
    assert_eq!((&train["failed"], &train["done"]), (&2.into(), &0.into()), "{status:#}");
    let text = status["troubles"].to_string();
    assert!(text.contains("killed") && text.contains("emory"), "{text}");
    let shards = files(&site.path("work/shards"));
    let before = site.submitted("narrow").len();
    fs::write(site.path("site.env"), NODES).unwrap();
    succeeds(&site.pipeline(&["--resume", "narrow"]));
    site.wait(10);
    site.is_finished("narrow");
    let steps: Vec<String> =
        site.submitted("narrow").into_iter().skip(before).map(|s| s.0).collect();
    assert_eq!(steps, ["train", "predict", "submit"]);
    assert!(shards == files(&site.path("work/shards")));
    let submitted = site.submitted("narrow").len();
    succeeds(&site.pipeline(&["--resume", "narrow"]));
    assert_eq!(site.submitted("narrow").len(), submitted, "nothing is missing");

    // 6. Cancelled and resumed.
    succeeds(&site.pipeline(&["--run", "cut"]));
    began(&site, "train", 0, 1);
    beats(&site, "cut", 0);
    let active = site.submitted("cut").into_iter().find(|(step, _)| step == "train").unwrap().1;
    let refused = site.pipeline(&["--resume", "cut"]);
    assert!(
        refused.status.code() == Some(2)
            && ["cut", &active].iter().all(|part| stderr(&refused).contains(part)),
        "{}",
        stderr(&refused)
    );
    succeeds(&site.pipeline(&["--cancel", "cut"]));
    site.wait(2);
    // would a cancelled task come back, it would now
    std::thread::sleep(std::time::Duration::from_secs(30));
    site.wait(1);
    assert_eq!(site.status("cut")["finished"], false);
    succeeds(&site.pipeline(&["--resume", "cut"]));
    site.wait(10);
    site.is_finished("cut");
    assert!(trained(&site, "cut") == calm, "the cancelled and resumed training differs");
}
