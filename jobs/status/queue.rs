//! What Slurm knows of the jobs of a pipeline; nothing where there is no Slurm.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    process::Command,
};

/// By Slurm's id of a task (`12`, `12_3`), its state (`PENDING`, `RUNNING`, `OUT_OF_MEMORY`, ...)
/// and, while it waits, why.
pub struct Queue {
    tasks: HashMap<String, (String, String)>,
    /// By step, the newest job that `pipeline.sh` submitted for it.
    jobs: HashMap<String, String>,
    /// Whether there is a Slurm at all.
    pub there: bool,
}

impl Queue {
    /// `jobs` is what `pipeline.sh` wrote down (`step,job,tasks,after`), `ids` the tasks that began
    /// and did not end.
    pub fn ask(jobs: &Path, ids: &HashSet<String>) -> Self {
        let mut queue = Self { tasks: HashMap::new(), jobs: HashMap::new(), there: false };
        for line in fs::read_to_string(jobs).unwrap_or_default().lines().skip(1) {
            let mut fields = line.split(',').map(String::from);
            if let (Some(step), Some(job)) = (fields.next(), fields.next()) {
                queue.jobs.insert(step, job);
            }
        }
        let format = "--format=%F|%K|%T|%r";
        // Of all users: the work folder may be shared.
        if let Some(text) = output("squeue", &["--noheader", "--states=all", "--array", format]) {
            queue.there = true;
            for line in text.lines() {
                let fields: Vec<&str> = line.split('|').collect();
                if let [job, task, state, reason] = fields[..] {
                    let id = if task.starts_with(|c: char| c.is_ascii_digit()) {
                        format!("{job}_{task}")
                    } else {
                        job.into()
                    };
                    queue.tasks.insert(id, (state.into(), reason.into()));
                }
            }
        }
        // Slurm forgets jobs minutes after their end; its accounting, where there is one, does not.
        let forgotten: Vec<&str> =
            ids.iter().filter(|id| !queue.tasks.contains_key(*id)).map(String::as_str).collect();
        if queue.there && !forgotten.is_empty() {
            let jobs = format!("--jobs={}", forgotten.join(","));
            let text = output(
                "sacct",
                &["--noheader", "--parsable2", "--allocations", "--format=JobID,State", &jobs],
            );
            for line in text.unwrap_or_default().lines() {
                if let Some((id, state)) = line.split_once('|') {
                    let state = state.split(' ').next().unwrap_or_default(); // "CANCELLED by 1000"
                    queue.tasks.insert(id.into(), (state.into(), String::new()));
                }
            }
        }
        queue
    }

    /// State and reason of a task by its id.
    pub fn of(&self, id: &str) -> Option<(&str, &str)> {
        self.tasks.get(id).map(|(state, reason)| (state.as_str(), reason.as_str()))
    }

    /// The same of the newest job of a step.
    pub fn of_step(&self, step: &str, task: usize) -> Option<(&str, &str)> {
        let job = self.jobs.get(step)?;
        self.of(&format!("{job}_{task}")).or_else(|| self.of(job))
    }
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}
