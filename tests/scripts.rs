//! The job scripts with stand-ins for Slurm's programs: what they ask for, and what a real cluster
//! cannot be made to show.

#[path = "slurm/fake.rs"]
mod fake;
#[path = "slurm/site.rs"]
mod site;
#[path = "pipeline/small.rs"]
mod small;

use std::{fs, path::Path};

use fake::Fake;
use small::{stderr, succeeds};

/// Compares with a file in tests/golden; `ATLAS_GOLDEN=write` writes it anew.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("ATLAS_GOLDEN").is_some_and(|v| v == "write") {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(
        text,
        fs::read_to_string(&path).unwrap_or_default(),
        "{} (ATLAS_GOLDEN=write writes it anew)",
        path.display()
    );
}

#[test]
fn sbatch_options_of_every_script() {
    let mut scripts: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    scripts.sort();
    let mut text = String::new();
    for script in scripts {
        let content = fs::read_to_string(&script).unwrap();
        let name = script.file_name().unwrap().to_string_lossy().into_owned();
        content
            .lines()
            .filter_map(|l| l.strip_prefix("#SBATCH "))
            .for_each(|l| text += &format!("{name} {l}\n"));
    }
    golden("sbatch_options.txt", &text);
}

#[test]
fn what_the_pipeline_submits_without_gpus_with_gpus_and_with_the_download() {
    let fake = Fake::new();
    let mut text = String::new();
    for (title, site, args) in [
        ("the site file as it comes", None, &["--run", "plain"][..]),
        (
            "a site with GPUs",
            Some(
                "export SBATCH_ACCOUNT=p1 SBATCH_GPUS_PER_NODE=4\nATLAS_TRAIN_OPTIONS='--nodes=2 \
                    --cpus-per-task=64'\n",
            ),
            &[
                "--run",
                "gpus",
                "--fetch",
                "--set",
                "train.epochs=2",
                "--set=submit.thresholds=half",
            ],
        ),
    ] {
        let mut command = fake.pipeline(args);
        if let Some(site) = site {
            let path = fake.site.path("site.env");
            fs::write(&path, site).unwrap();
            command.env("ATLAS_SITE", path);
        }
        let out = command.output().unwrap();
        succeeds(&out);
        text += &format!("# {title}\n{}{}\n", fake.calls(), String::from_utf8_lossy(&out.stdout));
    }
    let folder = fake.site.small.path("");
    let text = text.replace(&fake.site.small.path("work"), "WORK");
    golden(
        "pipeline.txt",
        &text.replace(&folder, "FOLDER/").replace(&folder.replace(' ', "\\ "), "FOLDER/"),
    );
}

#[test]
fn only_exit_code_75_is_requeued_and_only_this_task() {
    let fake = Fake::new();
    let requeue = |code: i32, state: &str, restarts: &str| {
        let out = fake.job(
            "preprocess.sh",
            &[],
            &[
                ("FAKE_CODE", &code.to_string()),
                ("FAKE_STATE", state),
                ("SLURM_RESTART_COUNT", restarts),
            ],
        );
        assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
        let calls = fake.calls();
        (
            calls
                .lines()
                .filter(|l| l.starts_with("scontrol requeue"))
                .map(String::from)
                .collect::<Vec<_>>(),
            stderr(&out),
        )
    };
    assert_eq!(requeue(75, "RUNNING", "").0, ["scontrol requeue 12_3"]);
    assert_eq!(requeue(75, "RUNNING", "19").0, ["scontrol requeue 12_3"]);
    let (calls, said) = requeue(75, "RUNNING", "20");
    assert!(
        calls.is_empty() && said.contains("20") && said.contains("ATLAS_MAX_REQUEUES"),
        "{said}"
    );
    let (calls, said) = requeue(75, "CANCELLED", "");
    assert!(calls.is_empty() && said.contains("CANCELLED"), "{said}");
    let (calls, said) = requeue(75, "REQUEUED", "");
    assert!(calls.is_empty() && said.contains("REQUEUED"), "{said}");
    let out = fake.job("preprocess.sh", &[], &[("FAKE_CODE", "75"), ("FAKE_REQUEUE_FAILS", "yes")]);
    assert!(out.status.code() == Some(75) && stderr(&out).contains("12_3"), "{}", stderr(&out));
    assert_eq!(
        fake.calls().matches("scontrol requeue 12_3").count(),
        5,
        "a busy controller is asked again"
    );
    for code in [0, 1, 2, 65, 70, 130, 137, 143] {
        assert!(requeue(code, "RUNNING", "").0.is_empty(), "{code}");
    }
}

#[test]
fn how_the_program_is_started() {
    let fake = Fake::new();
    let started = |script: &str, args: &[&str], env: &[(&str, &str)]| {
        let out = fake.job(script, args, env);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let calls = fake.calls();
        calls
            .lines()
            .find(|l| l.starts_with("srun"))
            .expect("an srun")
            .replace(fake.site.small.path("").trim_end_matches('/'), "FOLDER")
    };
    let mut text = String::new();
    for (title, script, args, env) in [
        ("one process", "preprocess.sh", &["--set", "threads=2"][..], &[][..]),
        (
            "ranks without GPUs",
            "train_folds.sh",
            &[],
            &[("SLURM_JOB_NUM_NODES", "2"), ("SLURM_CPUS_PER_TASK", "8")],
        ),
        (
            "more ranks per node",
            "train_folds.sh",
            &[],
            &[("ATLAS_RANKS_PER_NODE", "2"), ("SLURM_CPUS_PER_TASK", "8")],
        ),
        (
            "one rank per GPU",
            "train_folds.sh",
            &["--set", "train.epochs=2"],
            &[
                ("SLURM_JOB_NUM_NODES", "2"),
                ("SLURM_GPUS_ON_NODE", "4"),
                ("SLURM_CPUS_PER_TASK", "64"),
            ],
        ),
        (
            "in a container",
            "train_folds.sh",
            &[],
            &[
                ("ATLAS_IMAGE", "/images/an atlas.sif"),
                ("ATLAS_NV", "1"),
                ("ATLAS_BIND", "/scratch"),
            ],
        ),
        ("the merge", "dedup.sh", &["--merge"], &[("SLURM_ARRAY_TASK_ID", "0")]),
        ("the download", "fetch.sh", &["external"], &[]),
    ] {
        text += &format!("# {title}\n{}\n", started(script, args, env));
    }
    golden("srun.txt", &text);
}

#[test]
fn mistakes_are_reported_in_one_line() {
    let fake = Fake::new();
    let one_line = |out: std::process::Output, code: i32, part: &str| {
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.lines().count() == 1 && said.contains(part), "{said}");
    };
    one_line(fake.job("fetch.sh", &[], &[]), 2, "kaggle");
    one_line(
        fake.job("train_folds.sh", &[], &[("FAKE_MISSING", "preprocess 3,7")]),
        2,
        "sbatch --array=3,7 slurm/preprocess.sh",
    );
    one_line(
        fake.job("train_folds.sh", &[], &[("FAKE_MISSING", "merge 0")]),
        2,
        "sbatch --array=0 slurm/dedup.sh --merge",
    );
    one_line(
        fake.site.command(fake.site.path("a clone/slurm/plan.sh"), &[]).output().unwrap(),
        2,
        "sbatch slurm/plan.sh",
    );
    one_line(fake.pipeline(&["--run", "../x"]).output().unwrap(), 2, "../x");
    one_line(fake.pipeline(&["--resume", "none"]).output().unwrap(), 2, "none");
    fs::remove_file(fake.site.path("a clone/target/release/atlas")).unwrap();
    one_line(fake.job("plan.sh", &[], &[]), 2, "make build");
    one_line(fake.pipeline(&[]).output().unwrap(), 2, "make build");
}

#[test]
fn a_submission_that_fails_half_way_names_the_command_that_cancels_it() {
    let fake = Fake::new();
    let out =
        fake.pipeline(&["--run", "half"]).env("FAKE_REFUSES", "atlas-train").output().unwrap();
    assert_ne!(out.status.code(), Some(0));
    assert!(stderr(&out).contains("--cancel half"), "{}", stderr(&out));
    assert_eq!(fake.site.submitted("half").len(), 5, "what was submitted is written down");
    assert_eq!(
        fake.site.submitted("half")[1],
        ("preprocess".into(), "102".into()),
        "without the cluster's name"
    );
    // A queue that does not answer is not an empty one.
    for mode in ["--resume", "--cancel"] {
        let out = fake.pipeline(&[mode, "half"]).env("FAKE_SQUEUE_FAILS", "yes").output().unwrap();
        assert!(
            out.status.code() == Some(2) && stderr(&out).contains("squeue"),
            "{}",
            stderr(&out)
        );
    }
    let out = fake
        .pipeline(&["--run", "more", "--set", "preprocess.tasks=2000"])
        .env("FAKE_LARGEST", "1001")
        .output()
        .unwrap();
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("MaxArraySize"),
        "{}",
        stderr(&out)
    );
    let out = fake.pipeline(&["--set", "paths.work=elsewhere"]).output().unwrap();
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("paths.work"),
        "{}",
        stderr(&out)
    );
}
