//! The cost of a run, from the logs of its tasks.

use std::path::Path;

use serde::Serialize;

use crate::base::{
    pipeline_step::Step,
    task_log::{Attempt, TaskLog},
};

/// All attempts of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepCost {
    pub job: Step,
    /// Attempts that ended.
    pub attempts: usize,
    /// Of these, those with an exit code other than 0, such as a stop at a checkpoint.
    pub broken: usize,
    /// Attempts without a known end, still running or killed; their cost is not counted.
    pub unended: usize,
    /// Sum over the attempts.
    pub seconds: f64,
    pub core_hours: f64,
    pub gpu_hours: f64,
}

/// The cost of a run and of its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Training, prediction and thresholds.
    pub run: Vec<StepCost>,
    /// What prepared the data, for all runs over the same work folder.
    pub data: Vec<StepCost>,
    /// From the first start of a task of the run to the last end; 0 where none is known.
    pub wall_seconds: f64,
}

impl Cost {
    pub fn core_hours(steps: &[StepCost]) -> f64 {
        steps.iter().fold(0.0, |sum, s| sum + s.core_hours)
    }

    pub fn gpu_hours(steps: &[StepCost]) -> f64 {
        steps.iter().fold(0.0, |sum, s| sum + s.gpu_hours)
    }
}

/// Adds up the logs in `work`. An attempt whose log does not say how many cores it had counts
/// `threads`.
pub fn cost(work: &Path, run: &str, threads: usize) -> Cost {
    let mut cost = Cost::default();
    let mut times: Vec<(i64, i64)> = Vec::new();
    for (job, log) in TaskLog::all(work) {
        add(&mut cost.data, job, log.read(), threads);
        times.extend(add(&mut cost.run, job, log.in_run(run).read(), threads));
    }
    let (first, last) = (times.iter().map(|t| t.0).min(), times.iter().map(|t| t.1).max());
    cost.wall_seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first) as f64);
    cost
}

/// Adds attempts to the cost of their job. Returns the start and end of those that ended, in
/// seconds since 1970.
fn add(
    steps: &mut Vec<StepCost>,
    job: Step,
    attempts: Vec<Attempt>,
    threads: usize,
) -> Vec<(i64, i64)> {
    if attempts.is_empty() {
        return Vec::new();
    }
    let at = steps.iter().position(|s| s.job == job).unwrap_or_else(|| {
        steps.push(StepCost {
            job,
            attempts: 0,
            broken: 0,
            unended: 0,
            seconds: 0.0,
            core_hours: 0.0,
            gpu_hours: 0.0,
        });
        steps.len() - 1
    });
    let cost = &mut steps[at];
    let mut times = Vec::new();
    for Attempt { began, ended } in attempts {
        let second = |time: &str| time.parse::<jiff::Timestamp>().ok().map(|t| t.as_second());
        let Some((from, to, code)) =
            ended.and_then(|e| Some((second(&began.time)?, second(&e.time)?, e.code)))
        else {
            cost.unended += 1;
            continue;
        };
        let seconds = (to - from).max(0) as f64;
        let cores = if began.cores == 0 { threads } else { began.cores };
        cost.attempts += 1;
        cost.broken += usize::from(code != 0);
        cost.seconds += seconds;
        cost.core_hours += seconds * cores as f64 / 3600.0;
        cost.gpu_hours += seconds * began.gpus as f64 / 3600.0;
        times.push((from, to));
    }
    times
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn attempts_add_up_run_by_run() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = dir.path().join("tasks");
        fs::create_dir(&tasks).unwrap();
        let began = |hour: u32, pid: u32, more: &str| {
            format!(r#"{{"began":{{"time":"2026-01-01T{hour:02}:00:00Z","host":"n","pid":{pid}"#)
                + more
                + "}}\n"
        };
        let ended = |hour: u32, minute: u32, pid: u32, code: u8| {
            let time = format!("2026-01-01T{hour:02}:{minute:02}:00Z");
            format!(r#"{{"ended":{{"time":"{time}","host":"n","pid":{pid},"code":{code}}}}}"#)
                + "\n"
        };
        let eight = r#","cores":8,"gpus":2,"run":"a""#;
        let train = [
            began(1, 1, eight),
            ended(2, 0, 1, 75),
            began(3, 2, eight),
            ended(3, 30, 2, 0),
            began(5, 3, eight),
        ];
        fs::write(tasks.join("train-00000.jsonl"), train.concat()).unwrap();
        let other = [
            began(7, 4, r#","cores":8,"run":"b""#),
            ended(9, 0, 4, 0),
            began(4, 5, r#","run":"a""#),
            ended(4, 15, 5, 0),
        ];
        fs::write(tasks.join("train-00001.jsonl"), other.concat()).unwrap();
        fs::write(
            tasks.join("plan-00000.jsonl"),
            began(0, 9, r#","cores":4"#) + &ended(0, 30, 9, 0),
        )
        .unwrap();
        let cost = cost(dir.path(), "a", 2);
        let want = StepCost {
            job: Step::Train,
            attempts: 3,
            broken: 1,
            unended: 1,
            seconds: 6300.0,
            core_hours: 12.5,
            gpu_hours: 3.0,
        };
        assert_eq!(cost.run, [want]);
        assert_eq!(
            (cost.data[0].job, cost.data[0].core_hours, cost.data.len()),
            (Step::Plan, 2.0, 1)
        );
        assert_eq!(cost.wall_seconds, 3.25 * 3600.0);
        assert_eq!(super::cost(&dir.path().join("none"), "a", 2), Cost::default());
    }
}
