//! The Slurm job that this process belongs to.

use super::{
    check::{Check, variable},
    container,
};
use crate::base::{progress::duration, slurm};

pub(super) fn check() -> Check {
    let Some(job) = slurm::job() else { return Check::ok("Slurm", "no job") };
    let mut found = format!("job {}", job.id);
    let more = [
        ("step", job.step),
        ("array", job.array),
        ("task", job.task),
        ("partition", job.partition),
        ("on", job.nodes),
    ];
    for (what, value) in more {
        if let Some(value) = value {
            found += &format!(", {what} {value}");
        }
    }
    if let Some(end) = job.end {
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
