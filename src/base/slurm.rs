//! What Slurm tells a process in environment variables. (Which launcher started the ranks of a
//! training is found out in [`distributed`](crate::distributed).)

use std::env;

use crate::base::{Error, Result, host};

/// The job that this process belongs to.
#[derive(Debug)]
pub struct SlurmJob {
    pub id: String,
    pub step: Option<String>,
    /// Id of the whole array.
    pub array: Option<String>,
    /// Number of the task in the array.
    pub task: Option<String>,
    pub partition: Option<String>,
    pub nodes: Option<String>,
    /// When the time limit ends the job, in seconds since 1970.
    pub end: Option<i64>,
}

/// `None` outside of Slurm.
pub fn job() -> Option<SlurmJob> {
    Some(SlurmJob {
        id: variable("SLURM_JOB_ID")?,
        step: variable("SLURM_STEP_ID"),
        array: array(),
        task: variable("SLURM_ARRAY_TASK_ID"),
        partition: variable("SLURM_JOB_PARTITION"),
        nodes: variable("SLURM_JOB_NODELIST"),
        end: variable("SLURM_JOB_END_TIME").and_then(|end| end.parse().ok()),
    })
}

/// The job as `squeue` and `sacct` name it: `12` or, in an array, `12_3`.
pub fn job_name() -> Option<String> {
    let job = job()?;
    Some(match (job.array, job.task) {
        (Some(array), Some(task)) => format!("{array}_{task}"),
        _ => job.id,
    })
}

/// Id of the array job.
pub fn array() -> Option<String> {
    variable("SLURM_ARRAY_JOB_ID")
}

/// Number of this task in its array; `None` outside an array.
///
/// # Errors
/// Usage where it is not a number.
pub fn array_task() -> Result<Option<usize>> {
    let number = |text: String| {
        text.parse().map_err(|_| {
            Error::usage(format!("SLURM_ARRAY_TASK_ID is `{text}`, expected a number; pass --task"))
        })
    };
    variable("SLURM_ARRAY_TASK_ID").map(number).transpose()
}

/// Name of the cluster; job ids are unique within one.
pub fn cluster() -> Option<String> {
    variable("SLURM_CLUSTER_NAME")
}

/// Whether Slurm has started this job again, such as after the loss of a node.
pub fn is_restarted() -> bool {
    variable("SLURM_RESTART_COUNT").is_some_and(|count| count != "0")
}

/// This machine, as Slurm calls it where there is one.
pub fn node() -> String {
    variable("SLURMD_NODENAME").unwrap_or_else(host::name)
}

/// Tasks that the allocation has room for.
pub fn tasks() -> Option<usize> {
    number("SLURM_NTASKS")
}

/// Cores that each task of the allocation was promised.
pub fn cpus_per_task() -> Option<usize> {
    number("SLURM_CPUS_PER_TASK")
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<usize> {
    variable(name)?.parse().ok()
}
