//! The allocation and the container.

use std::path::Path;

use super::{Check, gpus, variable};
use crate::base::{progress::duration, slurm};

/// The container's image, or its kind.
pub(super) fn image() -> Option<String> {
    let image = ["APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"]
        .iter()
        .find_map(|name| Some(format!("Apptainer, {}", variable(name)?)));
    image
        .or_else(|| Path::new("/.singularity.d").exists().then(|| "Apptainer".into()))
        .or_else(|| Path::new("/run/.containerenv").exists().then(|| "Podman".into()))
        .or_else(|| Path::new("/.dockerenv").exists().then(|| "Docker".into()))
}

pub(super) fn container() -> Check {
    let driver = if gpus::have_driver() { "with" } else { "without" };
    Check::ok(
        "container",
        image().map_or("none".into(), |image| format!("{image}, {driver} libcuda in it")),
    )
}

pub(super) fn job() -> Check {
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
        let left = end - jiff::Timestamp::now().as_second();
        found += &format!(", {} left", duration(left.max(0) as f64));
    }
    let path = variable("PATH").unwrap_or_default();
    let missing: Vec<&str> = ["scontrol", "squeue", "sacct"]
        .into_iter()
        .filter(|name| !std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .collect();
    match (missing.is_empty(), image()) {
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
