//! What the files say of each task: results, log, heartbeat.

use std::path::Path;

use super::files::{FileState, file_states};
use crate::{
    base::{
        pipeline_step::Step,
        task_log::{Attempt, TaskLog},
    },
    config::Config,
    data::work_folder::WorkFolder,
    distributed::Heartbeat,
    training::run_folder::Run,
};

/// One task of a step.
pub(super) struct TaskRecord {
    pub files: FileState,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// Of a training that runs or did not end in order.
    pub heartbeat: Option<Heartbeat>,
}

impl TaskRecord {
    pub fn is_done(&self) -> bool {
        self.files == FileState::Done
    }

    /// Slurm's ids of the attempts that began and did not end.
    pub fn unfinished_jobs(&self) -> impl Iterator<Item = String> {
        self.attempts.iter().filter(|a| a.ended.is_none()).filter_map(|a| a.began.slurm.clone())
    }
}

/// All tasks of a step.
pub(super) struct StepRecord {
    pub step: Step,
    pub tasks: Vec<TaskRecord>,
}

/// Every step of `run` (`None`: nothing is trained yet). The download is part of it where
/// `pipeline.sh --fetch` began the run.
pub(super) fn step_records(
    config: &Config,
    work: &WorkFolder,
    run: Option<&Run>,
) -> Vec<StepRecord> {
    let pipeline = work.path().join("pipeline");
    let fetches = run.is_some_and(|run| pipeline.join(run.name()).join("fetch").exists());
    let fetch_steps: &[Step] =
        if fetches { &[Step::FetchKaggle, Step::FetchExternal] } else { &[] };
    let fetch_steps = fetch_steps.iter().map(|&step| {
        let tasks = (0..config.fetch.tasks).map(|i| fetch_record(work.path(), step, i));
        StepRecord { step, tasks: tasks.collect() }
    });
    let later_steps = file_states(config, work, run).into_iter().map(|(step, states)| {
        let record = |(i, files)| TaskRecord {
            files,
            attempts: attempts(work.path(), run, step, i),
            heartbeat: run
                .filter(|_| step == Step::Train)
                .and_then(|run| Heartbeat::read(&run.heartbeat(i))),
        };
        StepRecord { step, tasks: states.into_iter().enumerate().map(record).collect() }
    });
    fetch_steps.chain(later_steps).collect()
}

/// A download is done if its last attempt succeeded: its files may be outside the work folder.
fn fetch_record(work: &Path, step: Step, task: usize) -> TaskRecord {
    let attempts = TaskLog::of(work, step, task).read();
    let end = attempts.last().and_then(|a| a.ended.as_ref());
    let files = if end.is_some_and(|e| e.code == 0) { FileState::Done } else { FileState::Missing };
    TaskRecord { files, attempts, heartbeat: None }
}

fn attempts(work: &Path, run: Option<&Run>, step: Step, task: usize) -> Vec<Attempt> {
    let log = TaskLog::of(work, step, task);
    match run {
        _ if step < Step::Train => log.read(),
        Some(run) => log.in_run(&run.name()).read(),
        None => Vec::new(),
    }
}
