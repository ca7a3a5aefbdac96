//! What some tests need besides this repository. Where it is missing they are ignored (build.rs
//! looks for what can be found at build time), or left out by tests/all.sh, which reads the reason
//! behind `ignore`. Whoever starts such a test all the same is told here what is missing.
#![allow(dead_code)] // each test binary uses a part of it

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder of real images, label tables and predictions beside the clone.
pub fn shared_data() -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    assert!(data.is_dir(), "this test needs the folder ../shared/data beside the clone");
    data
}

/// A Python with the packages of benches/peers/requirements.txt.
pub fn python() -> OsString {
    env::var_os("ATLAS_PYTHON").expect("this test needs ATLAS_PYTHON: benches/python.sh prints one")
}

/// A Slurm that answers.
pub fn slurm() {
    assert!(
        env::var_os("SLURM_CONF").is_some() && succeeds("scontrol", "ping"),
        "this test needs SLURM_CONF to name a running Slurm: tests/with_slurm.sh starts one"
    );
}

pub fn program(name: &str) {
    assert!(succeeds(name, "--version"), "this test needs the program {name}");
}

fn succeeds(program: &str, word: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(word).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
