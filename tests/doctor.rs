//! `atlas doctor` from outside: on this machine, and with each thing that it checks broken.
use std::{
    ffi::CString,
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

#[cfg(feature = "mpi")]
#[path = "ranks/launcher.rs"]
mod launcher;

const NAMES: [&str; 17] = [
    "MPI",
    "PMI",
    "ranks",
    "rank 0",
    "GPUs",
    "libtorch",
    "NCCL",
    "/dev/shm",
    "locked memory",
    "open files",
    "threads",
    "container",
    "Slurm",
    "paths.work",
    "paths.results",
    "data.kaggle",
    "data.external",
];

/// Folders as a configuration names them; only the data folder exists.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data/train")).unwrap();
        Self { folder }
    }

    fn words(&self) -> Vec<String> {
        let key = |key: &str, name: &str| {
            format!("--set={key}={}", self.folder.path().join(name).display())
        };
        vec![
            "doctor".into(),
            key("paths.work", "a/work"),
            key("paths.results", "a/results"),
            key("data.kaggle", "data"),
        ]
    }

    /// The program, outside all allocations; `words` come last.
    fn doctor(&self, words: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("atlas"));
        command.args(self.words()).args(words);
        outside(&mut command);
        command
    }
}

/// Removes all that a launcher, Slurm or a container sets from a command's environment.
fn outside(command: &mut Command) {
    let prefixes = ["SLURM", "OMPI_COMM", "PMI", "APPTAINER", "SINGULARITY", "CUDA_", "OMP_NUM"];
    for (name, _) in std::env::vars() {
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

struct Report {
    code: Option<i32>,
    checks: Vec<serde_json::Value>,
    ok: bool,
}

impl Report {
    fn of(out: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&out.stdout);
        let json: serde_json::Value = serde_json::from_str(&stdout)
            .unwrap_or_else(|e| panic!("{e}: {stdout}{}", String::from_utf8_lossy(&out.stderr)));
        let report = Self {
            code: out.status.code(),
            checks: json["checks"].as_array().unwrap().clone(),
            ok: json["ok"] == true,
        };
        assert_eq!(json.as_object().unwrap().len(), 2);
        for check in &report.checks {
            assert_eq!(check["fix"].is_null(), check["state"] == "ok", "{check}");
        }
        let failed = report.checks.iter().any(|c| c["state"] == "FAIL");
        assert_eq!(
            (report.code, report.ok),
            if failed { (Some(2), false) } else { (Some(0), true) }
        );
        report
    }

    /// The check must have this state, and each of `parts` must be in what was found or in its fix.
    fn says(&self, name: &str, state: &str, parts: &[&str]) {
        let check = self
            .checks
            .iter()
            .find(|c| c["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {:?}", self.checks));
        let text = format!(
            "{} | {}",
            check["found"].as_str().unwrap(),
            check["fix"].as_str().unwrap_or_default()
        );
        assert!(
            check["state"] == state && parts.iter().all(|part| text.contains(part)),
            "expected {state} {parts:?}: {check}"
        );
    }
}

fn report(command: &mut Command) -> Report {
    Report::of(&command.arg("--json").output().unwrap())
}

fn has_gpu() -> bool {
    Path::new("/dev/nvidiactl").exists()
}

/// Words without their digits: how much is free changes from one run to the next.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| word.replace(|c: char| c.is_ascii_digit(), "")).collect()
}

#[test]
fn this_machine_passes_and_the_table_agrees_with_the_json() {
    let place = Place::new();
    let json = report(&mut place.doctor(&[]));
    assert_eq!(json.checks.iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(), NAMES);
    assert!(json.ok, "{:?}", json.checks);
    json.says("paths.work", "ok", &["a/work", "locks work"]);
    json.says("data.kaggle", "ok", &[]);
    json.says("rank 0", "ok", &[&atlas::base::host::name()]);
    let out = place.doctor(&[]).output().unwrap();
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.success() && table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
    let mut expected = String::new();
    for check in &json.checks {
        let fix = check["fix"].as_str().map_or(String::new(), |fix| format!("fix: {fix}"));
        let text = |key: &str| check[key].as_str().unwrap();
        expected += &format!("{} {} {} {fix} ", text("name"), text("state"), text("found"));
    }
    let (rows, sum) = table.trim().rsplit_once('\n').unwrap();
    assert_eq!(words(rows), words(&expected));
    let warnings = json.checks.iter().filter(|c| c["state"] == "warning").count();
    let counts: Vec<usize> =
        sum.split(", ").map(|part| part.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(counts, [NAMES.len() - warnings, warnings, 0], "ok, warnings, failed");
    let remaining: Vec<_> =
        fs::read_dir(place.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(remaining, ["data"], "no file of a check remains");
    let out = place.doctor(&["--set", "train.epoks=3"]).output().unwrap();
    assert!(
        out.status.code() == Some(2) && String::from_utf8_lossy(&out.stderr).contains("`epochs`")
    );
}

#[cfg(feature = "mpi")]
#[test]
fn ranks_are_checked_together() {
    let place = Place::new();
    // One of them may lock less memory and open fewer files.
    let limits = r#"[ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" = 0 ] || ulimit -Sn 200
        ulimit -l 64
        exec "$@""#;
    let mut command = launcher::mpirun(2, "bash");
    outside(&mut command);
    command
        .args(["-c", limits, "bash"])
        .arg(assert_cmd::cargo::cargo_bin!("atlas"))
        .args(place.words());
    let json = report(&mut command);
    json.says("MPI", "ok", &["2 ranks"]);
    json.says("ranks", "ok", &[&format!("0-1 on {}", atlas::base::host::name())]);
    json.says("rank 0", "ok", &[&atlas::base::host::name()]);
    json.says("rank 1", "ok", &[&atlas::base::host::name()]);
    json.says("locked memory", "warning", &["66 kB", "ulimit -l unlimited"]);
    json.says(
        "open files",
        "warning",
        &["rank 1: up to 200, 256 wanted", "; rank 0: up to ", "ulimit -n 4096"],
    );
    // All of them end alike where something is wrong.
    let mut command = launcher::mpirun(2, assert_cmd::cargo::cargo_bin!("atlas"));
    outside(&mut command);
    let json = report(command.args(place.words()).args(["--set", "data.external=/nowhere"]));
    json.says("data.external", "FAIL", &["/nowhere", "data.external"]);
}

#[test]
fn tasks_that_do_not_find_each_other_are_reported_by_the_first() {
    let (place, since) = (Place::new(), Instant::now());
    let task = |number: &str| {
        let mut command = place.doctor(&[]);
        command.env("SLURM_STEP_NUM_TASKS", "4").env("SLURM_PROCID", number);
        command
    };
    let json = report(&mut task("0"));
    assert_eq!(json.code, Some(2));
    json.says("MPI", "FAIL", &["4 tasks", "`srun --mpi=pmix`"]);
    json.says("paths.work", "ok", &[]); // the rest is checked all the same
    let out = task("3").output().unwrap();
    assert_eq!((out.status.code(), out.stdout.len(), out.stderr.len()), (Some(2), 0, 0));
    assert!(since.elapsed() < Duration::from_secs(30));
}

#[test]
fn unusable_folders_are_named_with_their_fix() {
    let place = Place::new();
    let file = place.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let json = report(&mut place.doctor(&[
        &format!("--set=paths.work={}", file.join("work").display()),
        "--set=paths.results=/proc/results",
        "--set=data.kaggle=/nowhere",
        &format!("--set=data.external={}", place.folder.path().join("data/train").display()),
    ]));
    json.says("paths.work", "FAIL", &[file.to_str().unwrap(), "paths.work"]);
    json.says("paths.results", "FAIL", &["/proc/results", "paths.results"]);
    json.says("data.kaggle", "FAIL", &["/nowhere", "data.kaggle"]);
    json.says("data.external", "FAIL", &["data/train is empty", "data.external"]);
}

#[test]
fn the_plan_gives_the_space_and_the_open_files_needed() {
    let place = Place::new();
    let work = place.folder.path().join("a/work");
    fs::create_dir_all(&work).unwrap();
    let plan = |samples: usize| {
        let plan = atlas::data::manifest::Plan {
            train_samples: samples,
            test_samples: 0,
            train_shards: samples,
            test_shards: 0,
            tasks: 1,
            shard_samples: 1,
            manifest_hash: String::new(),
        };
        plan.write(&work).unwrap();
    };
    plan(10);
    report(&mut place.doctor(&[])).says("paths.work", "ok", &["10 MB"]);
    plan(1 << 30);
    let json = report(&mut place.doctor(&[]));
    json.says("paths.work", "FAIL", &["1125.9 TB"]);
    json.says("open files", "warning", &["1073742080"]);
}

#[test]
fn a_file_system_that_hangs_does_not_hang_the_doctor() {
    let (place, since) = (Place::new(), Instant::now());
    let work = place.folder.path().join("a/work");
    fs::create_dir_all(&work).unwrap();
    let pipe = CString::new(work.join("plan.json").to_str().unwrap()).unwrap();
    // SAFETY: a C string. Nobody writes into the pipe: who opens it waits.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let json = report(&mut place.doctor(&[]));
    json.says("paths.work", "FAIL", &["a/work", "10 s"]);
    json.says("paths.results", "ok", &[]);
    assert!(since.elapsed() < Duration::from_secs(60));
}

#[test]
#[cfg_attr(has_gpu, ignore = "needs a machine without a GPU")]
fn gpus_that_were_promised_and_are_not_seen_are_a_failure() {
    let place = Place::new();
    for (name, value) in
        [("SLURM_GPUS_ON_NODE", "1"), ("SLURM_JOB_GPUS", "0,1"), ("CUDA_VISIBLE_DEVICES", "0")]
    {
        let json = report(place.doctor(&[]).env(name, value));
        json.says("GPUs", "FAIL", &[&format!("{name}={value}")]);
    }
    let json = report(
        place.doctor(&[]).env("SLURM_GPUS_ON_NODE", "1").env("APPTAINER_CONTAINER", "/x/atlas.sif"),
    );
    json.says("GPUs", "FAIL", &["--nv"]);
    json.says("container", "ok", &["/x/atlas.sif", "libcuda"]);
    report(&mut place.doctor(&["--set=comm.backend=nccl"])).says(
        "GPUs",
        "FAIL",
        &["comm.backend = \"nccl\""],
    );
    for (name, value) in [
        ("SLURM_GPUS_ON_NODE", "0"),
        ("CUDA_VISIBLE_DEVICES", ""),
        ("CUDA_VISIBLE_DEVICES", "NoDevFiles"),
    ] {
        report(place.doctor(&[]).env(name, value)).says("GPUs", "ok", &["CPU"]);
    }
}

/// The libraries are fakes (tests/nccl).
#[test]
fn gpus_are_listed_with_their_driver_and_nccl() {
    let place = Place::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nccl");
    for (name, library) in [("cuda", "libcuda.so.1"), ("nccl", "libnccl.so")] {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(place.folder.path().join(library));
        assert!(
            cc.arg(sources.join(format!("fake_{name}.c"))).arg("-lrt").status().unwrap().success()
        );
    }
    let fake = |words: &[&str]| {
        let mut command = place.doctor(words);
        command
            .env("LD_LIBRARY_PATH", place.folder.path())
            .env("FAKE_LOG", place.folder.path().join("log"));
        command
    };
    let json = report(&mut fake(&[]));
    json.says(
        "GPUs",
        "ok",
        &[
            "8 ",
            "12.8",
            "Fake GPU 0 (GPU-f0f1f2f3, 81920 MiB)",
            "Fake GPU 1 (GPU-eff0f1f2, 81920 MiB)",
        ],
    );
    json.says("NCCL", "ok", &["2.28.9"]);
    if !has_gpu() {
        // The libtorch of a machine without GPUs lacks its part for them.
        json.says("libtorch", "warning", &["CPU", "containers/setup.sh --cuda"]);
        let json = report(fake(&[]).env("SLURM_GPUS_ON_NODE", "8"));
        json.says("libtorch", "FAIL", &["CPU"]);
        json.says("GPUs", "ok", &["8 "]);
    }
}

#[test]
fn the_allocation_is_reported_and_compared_with_the_machine() {
    let place = Place::new();
    let job = || {
        let mut command = place.doctor(&[]);
        command
            .env("SLURM_JOB_ID", "17")
            .env("SLURM_ARRAY_JOB_ID", "15")
            .env("SLURM_ARRAY_TASK_ID", "2");
        command.env("SLURM_JOB_PARTITION", "gpu").env("PATH", place.folder.path());
        command
    };
    let end = (jiff::Timestamp::now().as_second() + 7000).to_string();
    let json =
        report(job().env("SLURM_JOB_END_TIME", end).env("APPTAINER_CONTAINER", "/x/atlas.sif"));
    let found = "job 17, array 15, task 2, partition gpu, 1 h 5";
    json.says("Slurm", "ok", &[found, "scontrol, squeue, sacct"]);
    fs::write(place.folder.path().join("squeue"), "").unwrap();
    if !Path::new("/.dockerenv").exists() {
        report(&mut job()).says("Slurm", "warning", &["scontrol, sacct", "module load"]);
    }
    report(job().env("SLURM_NTASKS", "4")).says("MPI", "warning", &["4 tasks", "srun --mpi=pmix"]);
    report(job().env("SLURM_CPUS_PER_TASK", "4096")).says(
        "threads",
        "warning",
        &["SLURM_CPUS_PER_TASK=4096", "srun --cpus-per-task"],
    );
    report(job().env("OMP_NUM_THREADS", "4096")).says(
        "threads",
        "warning",
        &["OMP_NUM_THREADS=4096", "unset"],
    );
    report(&mut place.doctor(&["--set=threads=4096"])).says(
        "threads",
        "warning",
        &["4096", "unset threads"],
    );
}
