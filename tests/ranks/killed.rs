//! Ranks that are killed or asked to stop, many times and under Slurm.

use std::{process::Command, time::Instant};

use super::{
    checkpoint_verifies, ended, intervals, needs, prepared, process_of, ranks, signal,
    small::{Small, assert_equal, stderr, succeeds},
    started, train,
};

/// Ten times each; the one under srun needs the Slurm that tests/all.sh starts.
fn killed_ten_times(
    launch: impl Fn(&Small, &str) -> Command,
    names_the_dead: impl Fn(&str) -> bool,
) {
    let mut small = prepared();
    small.set("train.epochs=40").set("train.validate_every=40");
    for i in 0..10 {
        let (run, rank) = (format!("killed-{i}"), i % 2);
        let after = 5 + 37 * i % 60;
        let child = started(launch(&small, &run), || intervals(&small, &run) >= after);
        let since = Instant::now();
        signal(process_of(&run, rank), libc::SIGKILL);
        let out = ended(child);
        let took = since.elapsed();
        let said = stderr(&out);
        assert!(!out.status.success() && names_the_dead(&said), "{said}");
        let survivor = format!("rank {} of 2 on ", 1 - rank);
        let by_survivor = said
            .lines()
            .rfind(|l| l.contains(&survivor))
            .filter(|l| l.contains("epoch ") && l.contains("step "));
        checkpoint_verifies(&small, &run);
        let out =
            launch(&small, &run).args(["--set", "train.max_minutes=0.000001"]).output().unwrap();
        let quoted = stderr(&out)
            .lines()
            .find(|l| l.contains("fold 0") && l.contains("2 ranks"))
            .map(String::from);
        let quoted = quoted
            .filter(|l| l.contains("epoch ") && l.contains("step "))
            .unwrap_or_else(|| panic!("{}", stderr(&out)));
        println!("{run}: over after {took:?}; {}", by_survivor.unwrap_or(&quoted));
        train(&small, 2, &run);
    }
}

/// Under the Slurm that `slurm/local_cluster.sh` starts.
fn srun(small: &Small, n: usize, run: &str) -> Command {
    let alone = small.job(&["train", "--fold", "0", "--run", run]);
    let mut command = Command::new("srun");
    command
        .args(["-n", &n.to_string(), "--mpi=pmix", "--kill-on-bad-exit=1"])
        .arg(alone.get_program())
        .args(alone.get_args());
    command.env("OMP_WAIT_POLICY", "PASSIVE");
    command
}

#[test]
#[ignore = "twenty trainings under Slurm; needs SLURM_CONF"]
fn killed_under_srun() {
    needs::slurm();
    killed_ten_times(
        |small, run| srun(small, 2, run),
        |said| said.contains("task ") && said.contains("Killed"),
    );
}

#[test]
#[ignore = "needs SLURM_CONF"]
fn srun_hands_on_sigusr2_and_a_missing_pmi_is_reported() {
    needs::slurm();
    let small = prepared();
    train(&small, 2, "whole");
    let child = started(srun(&small, 2, "stops"), || intervals(&small, "stops") >= 8);
    signal(child.id() as i32, libc::SIGUSR2);
    let out = ended(child);
    assert_eq!(out.status.code(), Some(75), "{}", stderr(&out));
    succeeds(&srun(&small, 2, "stops").output().unwrap());
    assert_equal(&small, "whole", "stops");

    let alone = small.job(&["train", "--fold", "0"]);
    let out = Command::new("srun")
        .args(["-n", "2", "--mpi=none"])
        .arg(alone.get_program())
        .args(alone.get_args())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("MPI/PMI ") && stderr(&out).contains("2 tasks"),
        "{}",
        stderr(&out)
    );
}

#[test]
#[ignore = "twenty trainings"]
fn killed_under_mpirun() {
    killed_ten_times(
        |small, run| ranks(small, 2, run),
        |said| said.contains("process rank") || said.contains("exited on signal 9"),
    );
}
