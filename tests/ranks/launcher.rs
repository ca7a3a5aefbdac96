//! Starts several ranks, with the launcher of the MPI library that the tests were built with.
#![allow(dead_code)] // each test binary uses a part of it

use std::{ffi::OsStr, process::Command};

/// `mpirun -n RANKS PROGRAM`, as root too and with more ranks than cores. `ATLAS_MPIRUN` names
/// another one.
pub fn mpirun(ranks: usize, program: impl AsRef<OsStr>) -> Command {
    let mut command =
        Command::new(std::env::var("ATLAS_MPIRUN").unwrap_or_else(|_| "mpirun".into()));
    command.args(["-n", &ranks.to_string(), "--bind-to", "none"]).arg(program);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMP_WAIT_POLICY", "PASSIVE");
    command
}

/// This test program, its `worker` alone, on so many ranks; the worker finds `task` in
/// `ATLAS_TEST_WORKER`.
pub fn workers(ranks: usize, task: &str) -> Command {
    let mut command = mpirun(ranks, std::env::current_exe().unwrap());
    command
        .args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads=1"])
        .env("ATLAS_TEST_WORKER", task);
    command
}
