//! TODO

pub mod ensemble;
pub mod finished_run;
pub mod grad_cam;
pub mod predict;
pub mod submit;
