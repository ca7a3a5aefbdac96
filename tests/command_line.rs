//! The command line itself: version, help, shell completions and manual pages.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};

fn atlas(words: &[&str]) -> String {
    let out = Command::new(assert_cmd::cargo::cargo_bin!("atlas")).args(words).output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The names of all jobs, from the list in `atlas help`.
fn jobs() -> Vec<String> {
    let help = atlas(&["help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let name = |line: &str| line.strip_prefix("  ")?.split(' ').next().map(String::from);
    list.lines().filter_map(name).filter(|name| !name.is_empty() && name != "help").collect()
}

#[test]
fn the_version_names_the_commit() {
    let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("ATLAS_GIT_COMMIT"));
    assert_eq!(atlas(&["--version"]), format!("atlas {version}\n"));
}

#[test]
fn help_of_a_job_is_printed_by_both_spellings() {
    let jobs = jobs();
    assert!(jobs.len() >= 20 && jobs.contains(&"completions".into()), "{jobs:?}");
    for job in ["train", "weights"] {
        let help = atlas(&["help", job]);
        assert!(help.contains(&format!("Usage: atlas {job}")), "{help}");
        assert_eq!(help, atlas(&[job, "--help"]));
    }
    assert!(atlas(&["help", "weights", "import"]).contains("Usage: atlas weights import"));
}

#[test]
fn completions_know_every_job_and_bash_accepts_them() {
    let jobs = jobs();
    for shell in ["bash", "zsh", "fish"] {
        let script = atlas(&["completions", shell]);
        for job in &jobs {
            assert!(script.contains(job), "{shell}: {job}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("atlas.bash");
    fs::write(&script, atlas(&["completions", "bash"])).unwrap();
    // Completes the first letters of a job, as the Tab key does.
    let complete = r#". "$1"; COMP_WORDS=(atlas expl) COMP_CWORD=1; _atlas atlas expl atlas; \
        printf '%s\n' "${COMPREPLY[@]}""#;
    let out = Command::new("bash")
        .args(["-c", complete, "bash"])
        .arg(&script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "explore");
}

#[test]
fn every_job_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    atlas(&["man", pages.to_str().unwrap()]);
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    for part in [".SH NAME", ".SH SUBCOMMANDS", env!("CARGO_PKG_VERSION")] {
        assert!(page("atlas.1").contains(part), "{part}");
    }
    for job in jobs() {
        let page = page(&format!("atlas-{job}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{job}: {page}");
    }
    assert!(page("atlas-weights-import.1").contains("state dict"));
}

#[test]
fn names_that_cannot_be_a_run_are_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(129);
    let names =
        ["", "-", "-1", "--run", ".", "..", "../x", "a/b", "/", ".hidden", "latest", "a\nb", &long];
    let job = |words: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("atlas"));
        command.args(words).current_dir(folder.path()).env_remove("ATLAS_RUN");
        command
    };
    let refused = |mut command: Command, parts: &[&str]| {
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{command:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{command:?}: {said}");
    };
    let by_both = |words: &[&str], name: &str| {
        let mut command = job(words);
        command.arg(format!("--run={name}"));
        refused(command, &["run's name"]);
        let mut command = job(words);
        command.env("ATLAS_RUN", name);
        if !name.is_empty() {
            refused(command, &["ATLAS_RUN", "run's name"]);
        }
    };
    for words in
        [&["train", "--fold=0"][..], &["predict"], &["submit"], &["report"], &["explore"], &["run"]]
    {
        by_both(words, "-x");
    }
    for name in names {
        by_both(&["status"], name);
    }
    // A name that is no text is not passed over.
    let mut command = job(&["status"]);
    command.env("ATLAS_RUN", OsStr::from_bytes(b"a\xff"));
    refused(command, &["ATLAS_RUN"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    // These are names.
    for name in ["007", "2026-01-31", "true", "a b", "\u{e4}\u{1f9ec}", "a/", &long[1..]] {
        assert!(job(&["status", &format!("--run={name}")]).status().unwrap().success(), "{name}");
    }
}
