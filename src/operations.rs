//! What a person or a scheduler needs to run the jobs: the order of the pipeline, its status,
//! checks of the machine and of files.
//!
//! In come a configuration, the files that the jobs wrote (manifest, shards, tables, task logs,
//! heartbeats, runs), Slurm's queue and this machine. Out go decisions (which run to continue,
//! which tasks are missing) and reports for a person and for `--json`; nothing here writes a
//! result.
//!
//! Read [`pipeline`] first, then [`status`].

pub mod doctor;
pub mod pipeline;
pub mod ranges;
pub mod status;
pub mod verify;
