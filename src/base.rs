//! TODO

pub mod atomic_file;
pub mod checksum;
pub mod csv_file;
pub mod error;
pub mod fault;
pub mod host;
pub mod progress;
pub mod rng;
pub mod slurm;
pub mod stop;
pub mod task_log;

pub use error::{Error, Result};
