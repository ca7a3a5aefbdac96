//! The status of a pipeline: which tasks of which steps are done, running, waiting, failed or
//! missing.
//!
//! A task is done if its `files` are there and up to date. Why it is not comes from its log and
//! its heartbeat (`records`) and from Slurm's `queue`; `judge` decides on one task.

use std::{collections::HashSet, path::PathBuf};

use serde::Serialize;

use self::{
    judge::{TaskState, Trouble, judge},
    queue::Queue,
    records::{StepRecord, TaskRecord, step_records},
};
use crate::{
    base::{Result, pipeline_step::Step},
    config::Config,
    data::work_folder::WorkFolder,
    operations::ranges::ranges,
    training::{run_choice, run_folder::Run},
};

mod files;
mod judge;
mod queue;
mod records;
mod remaining;
mod table;

/// The status of all steps of one run. Serialised, it is the output of `atlas status --json`; its
/// `Display` is the table.
#[derive(Serialize)]
pub struct PipelineStatus {
    /// The run's name; `None` where there is no run yet.
    run: Option<String>,
    /// Every task of every step is done.
    pub finished: bool,
    steps: Vec<StepStatus>,
    /// In the order of the steps, tasks and attempts.
    troubles: Vec<Trouble>,
    #[serde(skip)]
    work: PathBuf,
}

#[derive(Serialize)]
struct StepStatus {
    name: Step,
    tasks: usize,
    done: usize,
    running: usize,
    waiting: usize,
    failed: usize,
    missing: usize,
    /// Seconds until the step is done, as far as known.
    left_seconds: Option<f64>,
    /// Why tasks of it wait, in Slurm's words.
    #[serde(skip)]
    reason: String,
}

/// The run that the command line names, else the newest one of this configuration and of these
/// samples.
///
/// # Errors
/// Usage, where the run named is of another configuration.
pub fn find_run(config: &Config, work: &WorkFolder, name: Option<&str>) -> Result<Option<Run>> {
    match Run::named(&config.paths.results, name)? {
        Some(run) => run.must_be_of(config).map(|()| Some(run)),
        None => Ok(run_choice::newest(config, work)),
    }
}

/// By step, the tasks that are not done yet, as sbatch's `--array` takes them.
pub fn missing(config: &Config, work: &WorkFolder, run: Option<&Run>) -> Vec<(Step, String)> {
    let tasks = |record: &StepRecord| {
        ranges((0..record.tasks.len()).filter(|&i| !record.tasks[i].is_done()))
    };
    let steps = step_records(config, work, run);
    let missing = steps.iter().map(|record| (record.step, tasks(record)));
    missing.filter(|(_, tasks)| !tasks.is_empty()).collect()
}

impl PipelineStatus {
    /// Reads the files of the work folder and of `run`, and asks Slurm where there is one. What
    /// cannot be read counts as not done.
    pub fn read(config: &Config, work: &WorkFolder, run: Option<&Run>) -> Self {
        let records = step_records(config, work, run);
        let unfinished: HashSet<String> = (records.iter().flat_map(|record| &record.tasks))
            .flat_map(TaskRecord::unfinished_jobs)
            .collect();
        let (name, path) = (run.map(Run::name), work.path());
        let folder = path.join("pipeline").join(name.as_deref().unwrap_or("-"));
        let queue = Queue::ask(&folder.join("jobs.csv"), &unfinished);
        let mut troubles = Vec::new();
        let steps: Vec<StepStatus> =
            records.iter().map(|record| step_status(record, &queue, &mut troubles)).collect();
        let finished = steps.iter().all(|step| step.done == step.tasks);
        Self { run: name, finished, steps, troubles, work: path.into() }
    }
}

/// Adds what went wrong to `troubles`.
fn step_status(record: &StepRecord, queue: &Queue, troubles: &mut Vec<Trouble>) -> StepStatus {
    let (mut states, mut reason) = (Vec::new(), String::new());
    for (i, task) in record.tasks.iter().enumerate() {
        let judged = judge(record.step, i, task, queue);
        states.push(judged.state);
        troubles.extend(judged.troubles);
        if !judged.reason.is_empty() {
            reason = judged.reason;
        }
    }
    let count = |state: TaskState| states.iter().filter(|s| **s == state).count();
    StepStatus {
        name: record.step,
        tasks: states.len(),
        done: count(TaskState::Done),
        running: count(TaskState::Running),
        waiting: count(TaskState::Waiting),
        failed: count(TaskState::Failed),
        missing: count(TaskState::Missing),
        left_seconds: remaining::seconds(&record.tasks, &states),
        reason,
    }
}
