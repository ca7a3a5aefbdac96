//! The container that this process runs in.

use std::path::Path;

use super::check::{Check, variable};

/// The container's image, or its kind; `None` outside of containers.
pub(super) fn image() -> Option<String> {
    let image = ["APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"]
        .iter()
        .find_map(|name| Some(format!("Apptainer, {}", variable(name)?)));
    image
        .or_else(|| Path::new("/.singularity.d").exists().then(|| "Apptainer".into()))
        .or_else(|| Path::new("/run/.containerenv").exists().then(|| "Podman".into()))
        .or_else(|| Path::new("/.dockerenv").exists().then(|| "Docker".into()))
}

/// `has_driver`: libcuda can be opened.
pub(super) fn check(has_driver: bool) -> Check {
    let driver = if has_driver { "with" } else { "without" };
    Check::ok(
        "container",
        image().map_or("none".into(), |image| format!("{image}, {driver} libcuda in it")),
    )
}
