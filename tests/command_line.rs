//! The command line itself: version, help, shell completions and manual pages.

use std::{
    fs,
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
