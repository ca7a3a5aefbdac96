//! The state of one task, and what went wrong with it.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use serde::Serialize;

use super::{files::FileState, queue::Queue, records::TaskRecord};
use crate::base::{
    host,
    pipeline_step::Step,
    task_log::{Attempt, Began, Ended},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    Done,
    Running,
    Waiting,
    Failed,
    /// Not done, and no process or job is to do it.
    Missing,
}

/// Something that went wrong with a task, or delays it.
#[derive(Serialize)]
pub(super) struct Trouble {
    pub step: Step,
    pub task: usize,
    pub what: String,
    /// The task is done in spite of it.
    pub done_since: bool,
    /// When and where the attempt began; `None` where it is not about an attempt.
    pub began: Option<Began>,
}

pub(super) struct JudgedTask {
    pub state: TaskState,
    /// Why it waits, in Slurm's words.
    pub reason: String,
    pub troubles: Vec<Trouble>,
}

/// Slurm's states of a job that has processes on a machine.
const RUNNING: [&str; 3] = ["RUNNING", "COMPLETING", "SUSPENDED"];

pub(super) fn judge(step: Step, number: usize, task: &TaskRecord, queue: &Queue) -> JudgedTask {
    let mut troubles = Vec::new();
    let mut report = |what: String, attempt: Option<&Attempt>| {
        let began = attempt.map(|a| a.began.clone());
        troubles.push(Trouble { step, task: number, what, done_since: task.is_done(), began });
    };
    let mut state = TaskState::Missing;
    for (n, attempt) in task.attempts.iter().enumerate() {
        let (after, what) = after_attempt(attempt, n + 1 == task.attempts.len(), queue);
        state = after.unwrap_or(state);
        what.into_iter().for_each(|what| report(what, Some(attempt)));
    }
    let mut reason = String::new();
    match queued(step, number, task, queue) {
        _ if task.is_done() => state = TaskState::Done,
        Queued::Waiting(why) => (state, reason) = (TaskState::Waiting, why),
        Queued::Running => state = TaskState::Running,
        not_queued => {
            if let Queued::EndedBeforeStart(slurm_state) = not_queued {
                report(format!("its job ended before it began ({slurm_state})"), None);
                state = TaskState::Failed;
            }
            if task.files == FileState::Stale {
                report("what is there was made from other data or with other keys".into(), None);
            }
        }
    }
    JudgedTask { state, reason, troubles }
}

/// The task's state after an attempt, if that changes it, and what went wrong.
fn after_attempt(
    attempt: &Attempt,
    is_last: bool,
    queue: &Queue,
) -> (Option<TaskState>, Option<String>) {
    let in_queue =
        attempt.began.slurm.as_deref().and_then(|id| queue.task(id)).map(|(state, _)| state);
    match &attempt.ended {
        Some(Ended { code: 0, .. }) => (Some(TaskState::Missing), None),
        Some(Ended { code: 75, .. }) => (None, Some("stopped at a checkpoint (75)".into())),
        Some(Ended { code, error, .. }) => {
            let error = error.as_deref().unwrap_or("its log says why");
            (Some(TaskState::Failed), Some(format!("failed ({code}): {error}")))
        }
        None if is_last && is_running(attempt, in_queue, queue) => (Some(TaskState::Running), None),
        None => {
            let slurm_state = in_queue
                .filter(|s| is_last && !["RUNNING", "PENDING", "COMPLETED"].contains(s))
                .map_or(String::new(), |s| format!(" ({s})"));
            let log = attempt.began.log.as_deref().filter(|_| is_last);
            let why = log.and_then(likely_cause).map_or(String::new(), |line| format!(": {line}"));
            (Some(TaskState::Failed), Some(format!("killed{slurm_state}{why}")))
        }
    }
}

/// The place of a task that is not done in Slurm's queue.
enum Queued {
    /// With the reason.
    Waiting(String),
    Running,
    /// With Slurm's state of the job.
    EndedBeforeStart(String),
    No,
}

fn queued(step: Step, number: usize, task: &TaskRecord, queue: &Queue) -> Queued {
    // An attempt that was requeued keeps its id.
    let requeued = (task.attempts.last())
        .and_then(|a| queue.task(a.began.slurm.as_deref()?))
        .filter(|(state, _)| *state == "PENDING");
    match requeued.or_else(|| queue.step(step, number)) {
        None | Some(("PENDING", "DependencyNeverSatisfied")) => Queued::No,
        Some(("PENDING" | "REQUEUED" | "CONFIGURING", reason)) => Queued::Waiting(reason.into()),
        Some(("RUNNING" | "COMPLETING", _)) => Queued::Running,
        // A job that waited for one that failed is cancelled.
        Some(("COMPLETED" | "CANCELLED", _)) => Queued::No,
        Some((ended, _)) if task.attempts.is_empty() => Queued::EndedBeforeStart(ended.into()),
        Some(_) => Queued::No,
    }
}

/// Whether an attempt without an end still runs, as far as this machine can know.
fn is_running(attempt: &Attempt, in_queue: Option<&str>, queue: &Queue) -> bool {
    match (in_queue, &attempt.began.slurm) {
        (Some(state), _) => RUNNING.contains(&state),
        (None, Some(_)) if queue.has_slurm => false, // Slurm has forgotten it: it ended
        _ if attempt.began.host == host::name() => {
            Path::new(&format!("/proc/{}", attempt.began.pid)).exists()
        }
        _ => true,
    }
}

/// Why a process was killed, from the end of its log: the last line about memory or a kill by
/// Slurm, else the last line.
fn likely_cause(log: &Path) -> Option<String> {
    const SIGNS: [&str; 6] =
        ["memory limit", "oom-kill", "oom_kill", "out of memory", "Out Of Memory", "DUE TO"];
    let mut file = fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let is_cause = |line: &&str| SIGNS.iter().any(|sign| line.contains(sign));
    lines.clone().find(is_cause).or_else(|| lines.next()).map(String::from)
}
