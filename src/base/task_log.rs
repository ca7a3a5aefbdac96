//! The history of each task of each step: a line when it begins and a line when it ends, in
//! `paths.work/tasks/<step>-<task>.jsonl`. A task that began and did not end was killed or still
//! runs; `atlas status` reports which.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::base::{pipeline_step::Step, slurm};

/// When and where a task began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Began {
    /// UTC, as `2026-01-31T23:59:59Z`.
    pub time: String,
    pub host: String,
    pub pid: u32,
    /// Cores of all its ranks together; 0 in logs of older versions.
    #[serde(default)]
    pub cores: usize,
    #[serde(default)]
    pub gpus: usize,
    /// The run that it belongs to; `None` for the steps before training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Slurm's id of the job, `12` or, in an array, `12_3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm: Option<String>,
    /// The file that its messages go to (`ATLAS_LOG`, which the scripts in slurm/ set).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub time: String,
    /// Host and process id pair this line with its [`Began`]: several processes may write into
    /// one file.
    pub host: String,
    pub pid: u32,
    /// Exit code.
    pub code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Began(Began),
    Ended(Ended),
}

/// One execution of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub began: Began,
    /// `None`: it is running, or was killed.
    pub ended: Option<Ended>,
}

/// The log of one task.
pub struct TaskLog {
    path: PathBuf,
    run: Option<String>,
    cores: usize,
    gpus: usize,
}

impl TaskLog {
    /// Task `task` of `step` in the work folder `work`.
    pub fn of(work: &Path, step: Step, task: usize) -> Self {
        let path = work.join("tasks").join(format!("{step}-{task:05}.jsonl"));
        Self { path, run: None, cores: cores(), gpus: 0 }
    }

    /// The logs of all tasks in the work folder `work`, by step and task.
    pub fn all(work: &Path) -> Vec<(Step, Self)> {
        let entries = fs::read_dir(work.join("tasks")).into_iter().flatten().flatten();
        let parse = |name: &str| {
            let (step, task) = name.strip_suffix(".jsonl")?.rsplit_once('-')?;
            Some((step.parse().ok()?, task.parse().ok()?))
        };
        let mut all: Vec<(Step, usize)> =
            entries.filter_map(|e| parse(e.file_name().to_str()?)).collect();
        all.sort_unstable();
        all.into_iter().map(|(step, task)| (step, Self::of(work, step, task))).collect()
    }

    /// The same task with this number of cores and GPUs; by default, the cores that this process
    /// may run on and no GPU.
    pub fn on(self, cores: usize, gpus: usize) -> Self {
        Self { cores, gpus, ..self }
    }

    /// The same task of one run.
    pub fn in_run(self, run: &str) -> Self {
        Self { run: Some(run.into()), ..self }
    }

    pub fn begin(&self) {
        self.append(&Line::Began(Began {
            time: now(),
            host: slurm::node(),
            pid: std::process::id(),
            cores: self.cores,
            gpus: self.gpus,
            run: self.run.clone(),
            slurm: slurm::job_name(),
            log: std::env::var_os("ATLAS_LOG")
                .filter(|path| !path.is_empty())
                .map(|path| path.to_string_lossy().into_owned().into()), // JSON takes no other
        }));
    }

    pub fn end(&self, code: u8, error: Option<String>) {
        let (time, host, pid) = (now(), slurm::node(), std::process::id());
        self.append(&Line::Ended(Ended { time, host, pid, code, error }));
    }

    /// All attempts, the oldest first; a line that cannot be read is left out.
    pub fn read(&self) -> Vec<Attempt> {
        let mut attempts: Vec<Attempt> = Vec::new();
        for line in fs::read_to_string(&self.path).unwrap_or_default().lines() {
            match serde_json::from_str(line) {
                Ok(Line::Began(began)) => attempts.push(Attempt { began, ended: None }),
                Ok(Line::Ended(ended)) => {
                    let same =
                        |a: &&mut Attempt| a.began.pid == ended.pid && a.began.host == ended.host;
                    if let Some(attempt) = attempts.iter_mut().rev().find(same) {
                        attempt.ended = Some(ended);
                    }
                }
                Err(_) => {}
            }
        }
        attempts.retain(|a| a.began.run == self.run);
        attempts
    }

    /// A job must not fail because of its log, and must not create a work folder that it then
    /// reports as missing.
    fn append(&self, line: &Line) {
        let text = serde_json::to_string(line).expect("plain data") + "\n";
        let folder = self.path.parent().expect("the path has a file name below a folder");
        let _ = fs::create_dir(folder); // it may be there
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.path);
        if let Err(e) = file.and_then(|mut file| file.write_all(text.as_bytes()))
            && folder.exists()
        {
            log::warn!(
                "cannot write {} ({e}); `atlas status` will not show this task",
                self.path.display()
            );
        }
    }
}

/// The cores that this process may use, after the limits of its control group.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_attempts_are_kept_and_runs_are_separate() {
        let dir = tempfile::tempdir().unwrap();
        let log = || TaskLog::of(dir.path(), Step::Train, 3);
        log().in_run("a").begin();
        log().in_run("a").end(75, Some("stopped".into()));
        log().in_run("b").begin();
        // The end of another process is not the end of this one.
        let other = Ended { time: now(), host: slurm::node(), pid: 1, code: 0, error: None };
        log().append(&Line::Ended(other));
        log().in_run("a").begin();
        let attempts = log().in_run("a").read();
        assert_eq!(
            attempts.iter().map(|a| a.ended.as_ref().map(|e| e.code)).collect::<Vec<_>>(),
            [Some(75), None]
        );
        assert_eq!(attempts[0].ended.as_ref().unwrap().error.as_deref(), Some("stopped"));
        assert_eq!(attempts[1].began.pid, std::process::id());
        assert_eq!(log().in_run("b").read()[0].ended, None);
        assert!(log().read().is_empty());
    }

    #[test]
    fn a_missing_work_folder_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        TaskLog::of(&work, Step::Plan, 0).begin();
        assert!(!work.exists());
    }
}
