//! Array tasks without a Slurm: what they share, what they leave, and what `status` reports.

#[path = "pipeline/small.rs"]
mod small;

use std::{fs, process::Stdio};

use serde_json::Value;
use small::{Small, files, stderr, succeeds};

fn status(small: &Small, words: &[&str]) -> String {
    let out = small.run(&[&["status"], words].concat());
    succeeds(&out);
    String::from_utf8(out.stdout).unwrap()
}

fn step(json: &Value, name: &str) -> Value {
    json["steps"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone()
}

#[test]
fn tasks_in_any_order_give_the_same_files_and_status_knows_what_is_missing() {
    let mut small = Small::new();
    small.set("preprocess.tasks=3");
    let task = |small: &Small, job: &str, task: &str| {
        small.job(&[job]).env("SLURM_ARRAY_TASK_ID", task).output().unwrap()
    };
    assert!(
        status(&small, &["--missing"])
            .starts_with("plan 0\npreprocess 0-2\ndedup 0-2\nmerge 0\nsplit 0\ntrain 0-1\n")
    );
    succeeds(&small.run(&["plan"]));
    succeeds(&task(&small, "preprocess", "2"));
    succeeds(&task(&small, "preprocess", "9")); // an array longer than the plan
    assert!(
        status(&small, &["--missing"]).starts_with("preprocess 0-1\n"),
        "{}",
        status(&small, &["--missing"])
    );
    succeeds(&task(&small, "preprocess", "0"));
    succeeds(&task(&small, "preprocess", "1"));

    succeeds(&task(&small, "dedup", "2"));
    let early = small.run(&["dedup", "--merge"]);
    assert_eq!(early.status.code(), Some(65));
    assert!(
        ["pairs-00000.json", "`atlas dedup --task 0"].iter().all(|p| stderr(&early).contains(p)),
        "{}",
        stderr(&early)
    );
    assert!(status(&small, &["--missing"]).starts_with("dedup 0-1\n"));
    succeeds(&task(&small, "dedup", "0"));
    succeeds(&task(&small, "dedup", "1"));
    let again = small.job(&["dedup", "--json"]).env("SLURM_ARRAY_TASK_ID", "1").output().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&again.stdout).unwrap()["made"],
        0,
        "what is there is left alone"
    );
    succeeds(&small.run(&["dedup", "--merge"]));
    succeeds(&small.run(&["split"]));
    assert!(status(&small, &["--missing"]).starts_with("train 0-1\n"));
    let by_tasks = files(&small.folder.path().join("work"));

    // All at once, elsewhere.
    small.set(&format!("paths.work={}", small.path("all at once")));
    small.prepare();
    let at_once = files(&small.folder.path().join("all at once"));
    let made: Vec<&String> = at_once.keys().filter(|n| !n.starts_with("tasks/")).collect();
    assert!(made.len() >= 12, "{made:?}");
    for name in made {
        assert!(by_tasks[name] == at_once[name], "{name} differs");
    }

    // Other settings make the parts stale.
    small.set(&format!("paths.work={}", small.path("work"))).set("dedup.radius=3");
    let stale = small.run(&["dedup", "--merge"]);
    assert_eq!(stale.status.code(), Some(65));
    let parts = ["pairs-00000.json", "with other dedup keys"];
    assert!(parts.iter().all(|part| stderr(&stale).contains(part)), "{}", stderr(&stale));
    let json: Value = serde_json::from_str(&status(&small, &["--json"])).unwrap();
    assert_eq!(step(&json, "merge")["failed"], 1);
    let troubles = json["troubles"].as_array().unwrap();
    assert!(troubles.iter().any(|t| t["step"] == "merge"), "{json:#}");
}

#[test]
fn the_tasks_of_an_array_train_into_one_run_also_when_they_are_submitted_again() {
    let small = Small::new();
    small.prepare();
    let train = |array: &str, fold: &str| {
        let mut command = small.job(&["train"]);
        command
            .env("SLURM_ARRAY_JOB_ID", array)
            .env("SLURM_ARRAY_TASK_ID", fold)
            .env("SLURM_JOB_ID", "77");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs = || {
        let all = fs::read_dir(small.folder.path().join("results")).unwrap().map(|e| e.unwrap());
        all.filter(|e| e.file_type().unwrap().is_dir())
            .map(|e| e.file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    let both = [train("12", "0"), train("12", "1"), train("12", "2")];
    for child in both {
        succeeds(&child.wait_with_output().unwrap());
    }
    assert_eq!(runs().len(), 1);
    let run = runs()[0].clone();
    for fold in ["fold_0", "fold_1"] {
        assert!(small.result(&run, fold).join("validation.h5").exists());
    }
    // One fold is lost; another array does it in the same run.
    fs::remove_dir_all(small.result(&run, "fold_1")).unwrap();
    for fold in ["0", "1"] {
        succeeds(&train("13", fold).wait_with_output().unwrap());
    }
    assert_eq!(runs(), std::slice::from_ref(&run));
    assert!(small.result(&run, "fold_1/validation.h5").exists());
    // All is done: the next array begins a run of its own.
    succeeds(&train("14", "0").wait_with_output().unwrap());
    assert_eq!(runs().len(), 2);
}

#[test]
fn status_reports_what_ran_failed_and_was_killed() {
    let small = Small::new();
    assert!(status(&small, &[]).contains("run none"));
    succeeds(&small.run(&["plan"]));
    succeeds(&small.run(&["preprocess"]));
    fs::remove_file(small.folder.path().join("work/shards/train-00001.h5")).unwrap();
    let failed = small.run(&["split"]);
    assert_eq!(failed.status.code(), Some(65));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string();
    let began = |pid: u32, log: &str| {
        let time = "2026-01-31T10:00:00Z";
        serde_json::json!({"began": {"time": time, "host": host, "pid": pid, "log": log}})
    };
    let log = small.path("a log");
    fs::write(&log, "first\nslurmstepd: error: out of memory\n\n").unwrap();
    let tasks = small.folder.path().join("work/tasks");
    // Task 1 of preprocess was killed, then lives as this test does.
    fs::write(tasks.join("preprocess-00001.jsonl"), format!("{}\n", began(4294967294, &log)))
        .unwrap();
    let json: Value = serde_json::from_str(&status(&small, &["--json"])).unwrap();
    let preprocess = step(&json, "preprocess");
    assert_eq!(
        (&preprocess["done"], &preprocess["failed"]),
        (&(preprocess["tasks"].as_u64().unwrap() - 1).into(), &1.into()),
        "{json:#}"
    );
    let text = status(&small, &[]);
    let line = |start: &str| text.lines().find_map(|l| l.trim().strip_prefix(start)).expect(start);
    let killed = line("preprocess task 1: ");
    for part in ["killed", "slurmstepd: error: out of memory", "2026-01-31T10:00:00Z"] {
        assert!(killed.contains(part), "{text}");
    }
    assert!(line("split task 0: ").contains("(65)"), "{text}");
    fs::write(
        tasks.join("preprocess-00001.jsonl"),
        format!("{}\n{}\n", began(4294967294, &log), began(std::process::id(), &log)),
    )
    .unwrap();
    let json: Value = serde_json::from_str(&status(&small, &["--json"])).unwrap();
    assert_eq!(
        (&step(&json, "preprocess")["running"], &step(&json, "preprocess")["failed"]),
        (&1.into(), &0.into()),
        "{json:#}"
    );
    // Done after all.
    succeeds(&small.run(&["preprocess"]));
    let json: Value = serde_json::from_str(&status(&small, &["--json"])).unwrap();
    assert_eq!(step(&json, "preprocess")["done"], step(&json, "preprocess")["tasks"]);
    let trouble =
        json["troubles"].as_array().unwrap().iter().find(|t| t["step"] == "preprocess").unwrap();
    assert_eq!(trouble["done_since"], true, "{json:#}");
}
