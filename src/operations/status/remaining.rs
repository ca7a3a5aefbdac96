//! How long a step will take.

use jiff::Timestamp;

use super::{judge::TaskState, records::TaskRecord};
use crate::base::task_log::Attempt;

/// Seconds until a step with running tasks is done: those of trainings from their heartbeats, else
/// by the mean duration of the step's finished tasks. `None` where nothing runs or is known.
pub(super) fn seconds(tasks: &[TaskRecord], states: &[TaskState]) -> Option<f64> {
    let running = states.iter().filter(|s| **s == TaskState::Running).count();
    if running == 0 {
        return None;
    }
    let longest = (tasks.iter().zip(states))
        .filter(|(_, state)| **state == TaskState::Running)
        .filter_map(|(task, _)| task.heartbeat.as_ref()?.remaining)
        .reduce(f64::max);
    let finished: Vec<f64> = (tasks.iter().filter(|task| task.is_done()))
        .filter_map(|task| attempt_seconds(task.attempts.last()?))
        .collect();
    let mean = finished.iter().sum::<f64>() / finished.len() as f64;
    let to_do = states.iter().filter(|s| **s != TaskState::Done).count();
    let seconds = match longest {
        // The heartbeats of the running tasks are known; those after them take the mean.
        Some(longest) if to_do == running => longest,
        Some(longest) => longest + mean * ((to_do - running) as f64 / running as f64).ceil(),
        None => mean * to_do as f64 / running as f64,
    };
    Some(seconds).filter(|s| s.is_finite())
}

/// The duration of an attempt that succeeded.
fn attempt_seconds(attempt: &Attempt) -> Option<f64> {
    let second = |time: &str| time.parse::<Timestamp>().ok().map(|t| t.as_second() as f64);
    let end = attempt.ended.as_ref().filter(|end| end.code == 0)?;
    Some(second(&end.time)? - second(&attempt.began.time)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::task_log::{Began, Ended},
        operations::status::files::FileState,
    };

    fn task(files: FileState, seconds: i64) -> TaskRecord {
        let time = |second: i64| Timestamp::from_second(second).unwrap().to_string();
        let began = Began { time: time(0), ..Began::default() };
        let ended =
            Ended { time: time(seconds), host: String::new(), pid: 0, code: 0, error: None };
        let attempts = vec![Attempt { began, ended: Some(ended) }];
        TaskRecord { files, attempts, heartbeat: None }
    }

    #[test]
    fn tasks_to_do_take_as_long_as_finished_ones() {
        use TaskState::{Done, Missing, Running};
        let done = |seconds| task(FileState::Done, seconds);
        let to_do = || task(FileState::Missing, 0);
        let tasks = [done(60), done(80), to_do(), to_do(), to_do(), to_do()];
        let running = [Done, Done, Running, Running, Missing, Missing];
        assert_eq!(seconds(&tasks, &running), Some(140.0));
        assert_eq!(seconds(&tasks, &[Done, Done, Missing, Missing, Missing, Missing]), None);
        assert_eq!(seconds(&[to_do()], &[Running]), None, "nothing has finished yet");
    }
}
