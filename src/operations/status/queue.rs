//! The jobs of a pipeline in Slurm's queue and accounting; empty where there is no Slurm.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    process::Command,
};

use crate::base::pipeline_step::Step;

pub(super) struct Queue {
    /// By Slurm's id of a task (`12`, `12_3`), its state (`PENDING`, `RUNNING`, `OUT_OF_MEMORY`,
    /// ...) and, while it waits, the reason.
    tasks: HashMap<String, (String, String)>,
    /// By step, the newest job that `pipeline.sh` submitted for it.
    jobs: HashMap<Step, String>,
    pub has_slurm: bool,
}

impl Queue {
    /// `jobs` is the table that `pipeline.sh` writes (`step,job,tasks,after`), `unfinished` the ids
    /// of tasks that began and did not end.
    pub fn ask(jobs: &Path, unfinished: &HashSet<String>) -> Self {
        let mut queue = Self { tasks: HashMap::new(), jobs: submitted(jobs), has_slurm: false };
        let format = "--format=%F|%K|%T|%r";
        // Of all users: the work folder may be shared.
        if let Some(text) = output("squeue", &["--noheader", "--states=all", "--array", format]) {
            queue.has_slurm = true;
            for line in text.lines() {
                if let [job, task, state, reason] = line.split('|').collect::<Vec<_>>()[..] {
                    let is_array = task.starts_with(|c: char| c.is_ascii_digit());
                    let id = if is_array { format!("{job}_{task}") } else { job.into() };
                    queue.tasks.insert(id, (state.into(), reason.into()));
                }
            }
            queue.ask_accounting(unfinished);
        }
        queue
    }

    /// Slurm forgets jobs minutes after their end; its accounting, where there is one, does not.
    fn ask_accounting(&mut self, unfinished: &HashSet<String>) {
        let forgotten: Vec<&str> = (unfinished.iter().map(String::as_str))
            .filter(|id| !self.tasks.contains_key(*id))
            .collect();
        if forgotten.is_empty() {
            return;
        }
        let jobs = format!("--jobs={}", forgotten.join(","));
        let fields = "--format=JobID,State";
        let args = ["--noheader", "--parsable2", "--allocations", fields, &jobs];
        for line in output("sacct", &args).unwrap_or_default().lines() {
            if let Some((id, state)) = line.split_once('|') {
                let state = state.split(' ').next().unwrap_or_default(); // "CANCELLED by 1000"
                self.tasks.insert(id.into(), (state.into(), String::new()));
            }
        }
    }

    /// State and reason of a task by its id.
    pub fn task(&self, id: &str) -> Option<(&str, &str)> {
        self.tasks.get(id).map(|(state, reason)| (state.as_str(), reason.as_str()))
    }

    /// State and reason of a task of the newest job of a step.
    pub fn step(&self, step: Step, task: usize) -> Option<(&str, &str)> {
        let job = self.jobs.get(&step)?;
        self.task(&format!("{job}_{task}")).or_else(|| self.task(job))
    }
}

/// By step, the newest job in the table of `pipeline.sh`.
fn submitted(path: &Path) -> HashMap<Step, String> {
    let Ok(mut reader) = csv::Reader::from_path(path) else { return HashMap::new() };
    let row = |row: csv::StringRecord| Some((row.get(0)?.parse().ok()?, row.get(1)?.into()));
    reader.records().flatten().filter_map(row).collect()
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}
