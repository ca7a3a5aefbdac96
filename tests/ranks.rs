//! Training as several ranks, started as a user starts them: stopped, killed, hung, resumed with
//! other numbers of ranks.
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

#[path = "ranks/killed.rs"]
mod killed;
#[path = "ranks/launcher.rs"]
mod launcher;
#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, assert_equal, stderr, succeeds};

/// How long a job with a dead, stopped or failing rank may last.
const OVER: Duration = Duration::from_secs(30);

/// A training of 5 epochs of 6 steps.
fn prepared() -> Small {
    let mut small = Small::new();
    small.prepare();
    small
        .set("threads=1")
        .set("train.epochs=5")
        .set("train.batch=6")
        .set("train.checkpoint_steps=2")
        .set("train.validate_every=5");
    small
}

/// `atlas train` on so many ranks.
fn ranks(small: &Small, n: usize, run: &str) -> Command {
    let alone = small.job(&["train", "--fold", "0", "--run", run]);
    let mut command = launcher::mpirun(n, alone.get_program());
    command.args(alone.get_args()).env_remove("ATLAS_RUN");
    command
}

fn train(small: &Small, n: usize, run: &str) {
    let mut command = if n > 1 {
        ranks(small, n, run)
    } else {
        small.job(&["train", "--fold", "0", "--run", run])
    };
    succeeds(&command.output().unwrap());
}

/// Starts the ranks and waits until `moment`.
fn started(mut command: Command, moment: impl Fn() -> bool) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !moment() {
        assert!(child.try_wait().unwrap().is_none(), "the job ended before the moment came");
        thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Lines of metrics.jsonl: how many intervals are over.
fn intervals(small: &Small, run: &str) -> usize {
    fs::read_to_string(small.result(run, "fold_0/metrics.jsonl")).map_or(0, |t| t.lines().count())
}

/// Waits for the end, at most [`OVER`].
fn ended(mut child: Child) -> Output {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < OVER, "the job still runs after {OVER:?}");
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// The process of a rank of the job that `run` names.
fn process_of(run: &str, rank: usize) -> i32 {
    let has =
        |bytes: &[u8], text: &str| bytes.split(|b| *b == 0).any(|part| part == text.as_bytes());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let program = line.split(|b| *b == 0).next().unwrap_or_default();
        if program.ends_with(b"/atlas") && has(&line, run) {
            let of_rank = |name: &&str| has(&environment, &format!("{name}={rank}"));
            if ["PMIX_RANK", "PMI_RANK"].iter().any(of_rank) {
                return pid;
            }
        }
    }
    panic!("no process of rank {rank} of {run}");
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: a signal to a process of this test.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn checkpoint_verifies(small: &Small, run: &str) {
    succeeds(
        &small
            .atlas(&[
                "verify",
                &small.result(run, "fold_0/model_checkpoints").display().to_string(),
            ])
            .output()
            .unwrap(),
    );
}

/// Ids of the training samples in their order, from the logs of all epochs.
fn order(small: &Small, run: &str) -> Vec<String> {
    let logs = small.result(run, "fold_0/training_logs");
    let mut paths: Vec<PathBuf> = fs::read_dir(logs)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().ends_with("_train.csv"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 5);
    let rows = |path: &PathBuf| {
        csv::Reader::from_path(path)
            .unwrap()
            .records()
            .map(|r| r.unwrap()[0].to_string())
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(rows).collect()
}

#[test]
fn other_numbers_of_ranks_continue_with_the_same_samples() {
    let small = prepared();
    train(&small, 1, "whole");
    // Rank 0 is asked to stop after steps 10 and 20 of 30.
    for (n, stop) in [(2, Some(9)), (3, Some(19)), (1, None)] {
        let mut command = if n > 1 {
            ranks(&small, n, "parts")
        } else {
            small.job(&["train", "--fold", "0", "--run", "parts"])
        };
        if let Some(step) = stop {
            command.env("ATLAS_FAULT", format!("stop:0.{step}"));
        }
        let out = command.output().unwrap();
        assert_eq!(
            out.status.code(),
            Some(if stop.is_some() { 75 } else { 0 }),
            "{}",
            stderr(&out)
        );
        if n != 2 {
            // The conditions that were and that are now.
            assert_eq!(stderr(&out).matches("ranks: ").count(), 2, "{}", stderr(&out));
        }
    }
    assert_eq!(order(&small, "parts"), order(&small, "whole"));
    let steps = |run: &str| {
        let text = fs::read_to_string(small.result(run, "fold_0/metrics.jsonl")).unwrap();
        text.lines()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).unwrap()["step"].as_u64().unwrap()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(steps("parts"), (1..=30).collect::<Vec<_>>());
    assert_eq!(steps("parts"), steps("whole"));
}

/// Rank 0 measures, all compute alike, and a resumed training does not measure again.
#[test]
fn auto_is_decided_once_for_all_ranks() {
    let mut small = prepared();
    small.set("train.precision=auto").set("train.layout=auto");
    let out = with_fault(ranks(&small, 2, "auto"), "stop:1.9").output().unwrap();
    assert_eq!(out.status.code(), Some(75), "{}", stderr(&out));
    let chosen = |said: &str| {
        let lines: Vec<&str> = said.lines().filter(|l| l.contains("= \"auto\": ")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        lines[0].split_once("= \"auto\": ").unwrap().1.to_string()
    };
    let measured = chosen(&stderr(&out));
    assert!(measured.contains("3 images") && measured.contains("48 px"), "{measured}");
    let out = ranks(&small, 2, "auto").output().unwrap();
    succeeds(&out);
    let kept = chosen(&stderr(&out));
    assert!(!stderr(&out).contains("ranks: "), "no other conditions: {}", stderr(&out));
    let mode = |line: &str| line.split([' ', ',']).next().unwrap().to_string();
    assert!(mode(&kept) == mode(&measured) && !kept.contains(" px"), "{kept}");
}

#[test]
fn sigusr2_stops_all_ranks_and_the_rest_equals_all_at_once() {
    let small = prepared();
    train(&small, 2, "whole");
    for (run, to_launcher) in [("rank", false), ("launcher", true)] {
        if to_launcher && std::env::var_os("ATLAS_MPIRUN").is_some() {
            continue; // MPICH's mpiexec dies of SIGUSR2; Open MPI's mpirun and srun hand it on
        }
        let child = started(ranks(&small, 2, run), || intervals(&small, run) >= 8);
        // Of one rank alone the others hear through their agreement.
        signal(if to_launcher { child.id() as i32 } else { process_of(run, 1) }, libc::SIGUSR2);
        let out = ended(child);
        assert_eq!(out.status.code(), Some(75), "{}", stderr(&out));
        assert!(
            (2..=4).any(|epoch| stderr(&out).contains(&format!("epoch {epoch}, "))),
            "{}",
            stderr(&out)
        );
        assert!(!small.result(run, "fold_0/validation.h5").exists());
        train(&small, 2, run);
        assert_equal(&small, "whole", run);
    }
}

#[test]
fn sigterm_and_a_clock_stop_all_ranks_too() {
    let mut small = prepared();
    small.set("train.epochs=200");
    let mut child = started(ranks(&small, 2, "term"), || intervals(&small, "term") >= 8);
    let (asked, other) = (process_of("term", 0), process_of("term", 1));
    signal(other, libc::SIGSTOP); // ranks that agree at once are not told how long they have
    signal(asked, libc::SIGTERM);
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains(" 10 s ")));
    signal(other, libc::SIGCONT);
    let out = ended(child);
    assert_eq!(out.status.code(), Some(75), "{}", stderr(&out));

    small.set("train.max_minutes=0.00001");
    let out = ranks(&small, 2, "clock").output().unwrap();
    assert_eq!(out.status.code(), Some(75), "{}", stderr(&out));
    assert!(stderr(&out).contains("train.max_minutes"), "{}", stderr(&out));
}

#[test]
fn an_error_on_one_rank_ends_all_and_names_rank_and_step() {
    let small = prepared();
    let faults = [
        ("panic:1.9", 70, ""), // the code says it
        ("error:1.9", 1, "ATLAS_FAULT"),
        ("loss:1.9", 1, "train.lr"),
    ];
    for (fault, code, part) in faults {
        let run = fault.split(':').next().unwrap();
        let out = ended(started(with_fault(ranks(&small, 2, run), fault), || true));
        assert_eq!(out.status.code(), Some(code), "{fault}: {}", stderr(&out));
        let lines: Vec<String> = stderr(&out)
            .lines()
            .filter(|l| l.starts_with("atlas: rank 1 of 2 on "))
            .map(Into::into)
            .collect();
        assert_eq!(lines.len(), 1, "{fault}: one message: {}", stderr(&out));
        assert!(lines[0].contains("epoch 2, step 3, ") && lines[0].contains(part), "{}", lines[0]);
        checkpoint_verifies(&small, run);
        let out = ranks(&small, 2, run).output().unwrap();
        succeeds(&out);
        let about_it = |l: &str| ["fold 0", "2 ranks"].iter().all(|part| l.contains(part));
        assert!(stderr(&out).lines().any(about_it), "{}", stderr(&out));
    }
    // An error that all ranks have is reported once.
    let out = ranks(&small, 3, "wrong").args(["--set", "train.epoch=3"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert_eq!(stderr(&out).matches("`epoch`").count(), 1, "{}", stderr(&out));
}

fn with_fault(mut command: Command, fault: &str) -> Command {
    command.env("ATLAS_FAULT", fault);
    command
}

#[test]
fn a_gradient_that_is_not_finite_is_skipped_by_all_ranks() {
    let mut small = prepared();
    let out = with_fault(ranks(&small, 2, "skips"), "gradient:1.4").output().unwrap();
    succeeds(&out);
    assert_eq!(stderr(&out).matches("(1 so far)").count(), 1, "{}", stderr(&out));
    let history = fs::read_to_string(small.result("skips", "fold_0/history.csv")).unwrap();
    assert!(history.lines().skip(1).all(|l| l.ends_with(",1")), "{history}");
    small.set("train.max_skipped_steps=0");
    let out = with_fault(ranks(&small, 2, "gives-up"), "gradient:1.4").output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("train.max_skipped_steps"), "{}", stderr(&out));
}

#[test]
fn a_rank_that_hangs_is_noticed() {
    let mut small = prepared();
    small.set("comm.timeout_seconds=10").set("train.epochs=200");
    let child = started(ranks(&small, 2, "hangs"), || intervals(&small, "hangs") >= 8);
    let pid = process_of("hangs", 1);
    signal(pid, libc::SIGSTOP);
    let out = ended(child);
    assert!(!out.status.success(), "{}", stderr(&out));
    let line = stderr(&out)
        .lines()
        .find(|l| l.starts_with("atlas: rank 0 of 2 on "))
        .map(String::from)
        .unwrap_or_else(|| panic!("{}", stderr(&out)));
    assert!(line.contains(" 10 s") && line.contains("comm.timeout_seconds"), "{line}");
    checkpoint_verifies(&small, "hangs");
}

/// Launchers deliver signals twice: only a later second SIGINT means that somebody has lost
/// patience.
#[test]
fn a_second_sigint_counts_after_two_seconds() {
    let mut small = prepared();
    small.set("train.epochs=200");
    let child = started(ranks(&small, 2, "int"), || intervals(&small, "int") >= 8);
    let (first, second) = (process_of("int", 0), process_of("int", 1));
    signal(second, libc::SIGSTOP); // so that the first cannot stop in order
    let since = Instant::now();
    for wait in [0, 100, 2200] {
        thread::sleep(Duration::from_millis(wait));
        // SAFETY: a signal to a process of this test.
        let sent = unsafe { libc::kill(first, libc::SIGINT) };
        assert_eq!(sent, 0, "it ended after {:?}", since.elapsed());
    }
    let out = ended(child);
    assert!(
        !out.status.success() && !stderr(&out).contains("comm.timeout_seconds"),
        "{}",
        stderr(&out)
    );
    assert!(since.elapsed() < Duration::from_secs(10));
}

/// Every point on a checkpoint's way to the disk: whoever starts next finds a whole one.
#[test]
fn killed_at_every_point_of_a_checkpoint_the_next_run_finds_a_whole_one() {
    let small = prepared();
    train(&small, 1, "whole");
    for (point, newest) in
        [("created", 6), ("half", 6), ("written", 6), ("synced", 6), ("renamed", 8)]
    {
        let run = format!("at-{point}");
        let job = || small.job(&["train", "--fold", "0", "--run", &run]);
        let out = with_fault(job(), &format!("{point}:step_000000008")).output().unwrap();
        assert_eq!(out.status.signal(), Some(libc::SIGKILL), "{point}: {}", stderr(&out));
        checkpoint_verifies(&small, &run);
        let out = job().output().unwrap();
        succeeds(&out);
        let (epoch, step) = if newest == 6 { (1, 0) } else { (1, 2) };
        assert!(
            stderr(&out).contains(&format!("after epoch {epoch}, step {step}")),
            "{point}: {}",
            stderr(&out)
        );
        assert_equal(&small, "whole", &run);
    }
}

#[test]
fn tasks_that_do_not_find_each_other_are_refused() {
    let small = Small::empty();
    let out =
        small.job(&["train", "--fold", "0"]).env("SLURM_STEP_NUM_TASKS", "4").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).starts_with("atlas: MPI/PMI ") && stderr(&out).contains("4 tasks"),
        "{}",
        stderr(&out)
    );
    let out = small.job(&["run"]).env("OMPI_COMM_WORLD_SIZE", "2").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("`atlas run"), "{}", stderr(&out));
}

#[test]
fn run_starts_the_ranks_itself_and_they_share_the_cores() {
    let mut small = Small::new();
    small.set("threads=").set("train.ranks=2").set("train.epochs=1");
    let out = small.run(&["run", "--run", "r"]);
    succeeds(&out);
    assert!(stderr(&out).contains("[0/2 "), "{}", stderr(&out));
    let last = small.result("r", "fold_1/model_checkpoints/last.safetensors");
    let conditions = String::from_utf8_lossy(&fs::read(last).unwrap()).into_owned();
    let cores = thread::available_parallelism().unwrap().get();
    let threads = format!("\\\"threads\\\":{},", (cores / 2).max(1));
    assert!(conditions.contains(&threads), "no {threads} in {}", &conditions[..1500]);
}

#[test]
fn run_hands_on_a_signal_to_its_ranks() {
    let mut small = Small::new();
    small
        .set("threads=1")
        .set("train.ranks=2")
        .set("train.epochs=200")
        .set("train.validate_every=200");
    let mut command = small.job(&["run", "--run", "r"]);
    command.stdout(Stdio::null());
    let child = started(command, || intervals(&small, "r") >= 8);
    signal(child.id() as i32, libc::SIGINT);
    let out = ended(child);
    assert_eq!(out.status.code(), Some(75), "{}", stderr(&out));
    checkpoint_verifies(&small, "r");
}
