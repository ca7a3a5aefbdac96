//! The data set, and the folders in which the pipeline is disturbed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::small::{Small, files};

pub struct Site {
    small: Small,
    /// Holds `work/` and `results/`; a file system of its own where we may mount one.
    pub folder: PathBuf,
    pub is_mounted: bool,
}

impl Site {
    pub fn new() -> Self {
        let mut small = Small::new();
        let folder = PathBuf::from(small.path("site"));
        fs::create_dir(&folder).unwrap();
        let is_mounted = rustix::process::geteuid().is_root()
            && mount(&folder, &["-t", "tmpfs", "-o", "size=1g", "tmpfs"]);
        for (key, name) in [("work", "site/work"), ("results", "site/results")] {
            let set = format!("paths.{key}={}", small.path(name));
            small.set(&set);
        }
        small.set("train.epochs=3").set("train.checkpoint_steps=2");
        Self { small, folder, is_mounted }
    }

    /// The whole pipeline, started in the background.
    pub fn start(&self) -> Child {
        let mut command = self.small.job(&["run", "--run", "soak"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn run(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }

    /// Deletes what the pipeline made.
    pub fn clear(&self) {
        for name in ["work", "results"] {
            let _ = fs::remove_dir_all(self.folder.join(name));
        }
    }

    /// Runs the pipeline and verifies its files. As a user would, deletes a file that a message
    /// refuses and runs again. The files that were refused.
    pub fn finish(&self) -> Result<Vec<PathBuf>, String> {
        let mut named: Vec<PathBuf> = Vec::new();
        while named.len() < 20 {
            let run = self.run();
            let mut job = self.small.atlas(&["verify"]);
            job.args(["work/shards", "results/soak"].map(|name| self.folder.join(name)));
            let checked = if run.status.success() { job.output().unwrap() } else { run };
            match checked.status.code() {
                Some(0) => return Ok(named),
                Some(2 | 65) => named.push(self.delete_named(&checked)?),
                _ => return Err(said(&checked)),
            }
        }
        Err(format!("refused without end: {named:?}"))
    }

    /// Deletes the file of ours that a message names; where weights are lost, their fold.
    fn delete_named(&self, out: &Output) -> Result<PathBuf, String> {
        let said = said(out);
        let text = said.lines().rfind(|line| line.contains("atlas: ")).unwrap_or(&said);
        let place = self.folder.display().to_string();
        let begin = text.find(&place).ok_or_else(|| format!("65 without a file: {text}"))?;
        let text = &text[begin..];
        let ends = text.char_indices().map(|(n, _)| n).chain([text.len()]);
        let candidates: Vec<&Path> = ends.map(|end| text[..end].as_ref()).collect();
        let (path, deleted) = if text.contains("are lost") {
            let fold = |path: &&Path| path.is_dir() && path.to_string_lossy().contains("/fold_");
            let path = candidates.into_iter().find(fold).ok_or_else(|| said.clone())?;
            (path, fs::remove_dir_all(path))
        } else {
            let path =
                candidates.into_iter().rfind(|path| path.is_file()).ok_or_else(|| said.clone())?;
            (path, fs::remove_file(path))
        };
        deleted.unwrap();
        Ok(path.strip_prefix(&self.folder).unwrap().into())
    }

    /// What remains of a run, except what depends on the clock and checkpoints on the way.
    pub fn outcome(&self) -> BTreeMap<String, Vec<u8>> {
        let by_clock =
            [".jsonl", "provenance.json", ".lock", "report.html", "tensorboard/", "/step_"];
        let mut all = files(&self.folder);
        all.retain(|name, _| {
            !by_clock.iter().any(|part| name.contains(part)) && !name.starts_with("results/latest/")
        });
        all
    }

    /// Sets the size of the file system, in bytes.
    pub fn resize(&self, bytes: u64) {
        let option = format!("remount,size={bytes}");
        assert!(mount(&self.folder, &["-o", &option]), "cannot remount the folder");
    }

    /// Keeps all files for a look at them; their folder.
    pub fn keep(mut self) -> PathBuf {
        self.is_mounted = false;
        self.small.folder.disable_cleanup(true);
        self.small.folder.path().into()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg(&self.folder).status();
        }
    }
}

fn mount(folder: &Path, options: &[&str]) -> bool {
    Command::new("mount").args(options).arg(folder).status().is_ok_and(|s| s.success())
}

/// The exit status and the messages of a process.
pub fn said(out: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}: {}{}", out.status, text(&out.stdout), text(&out.stderr))
}
