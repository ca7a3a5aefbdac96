//! The Slurm job that this process belongs to.

use super::{
    check::{Check, variable},
    container,
};
use crate::base::progress::duration;

pub(super) fn check() -> Check {
    let Some(job) = variable("SLURM_JOB_ID") else { return Check::ok("Slurm", "no job") };
    let mut found = format!("job {job}");
    let more = [
        ("SLURM_STEP_ID", "step"),
        ("SLURM_ARRAY_JOB_ID", "array"),
        ("SLURM_ARRAY_TASK_ID", "task"),
        ("SLURM_JOB_PARTITION", "partition"),
        ("SLURM_JOB_NODELIST", "on"),
    ];
    for (name, what) in more {
        if let Some(value) = variable(name) {
            found += &format!(", {what} {value}");
        }
    }
    let end = variable("SLURM_JOB_END_TIME").and_then(|end| end.parse::<i64>().ok());
    if let Some(end) = end {
        let remaining = end - jiff::Timestamp::now().as_second();
        found += &format!(", {} left", duration(remaining.max(0) as f64));
    }
    let path = variable("PATH").unwrap_or_default();
    let missing: Vec<&str> = ["scontrol", "squeue", "sacct"]
        .into_iter()
        .filter(|name| !std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .collect();
    match (missing.is_empty(), container::image()) {
        (true, _) => Check::ok("Slurm", found),
        (_, Some(_)) => Check::ok(
            "Slurm",
            format!("{found}; no {} in the container, which is usual", missing.join(", ")),
        ),
        _ => Check::warning(
            "Slurm",
            format!("{found}; no {} in PATH", missing.join(", ")),
            "put Slurm's bin folder into PATH (`module load slurm` on some clusters); the job \
                scripts call them",
        ),
    }
}
