//! TODO

pub mod atomic_file;
pub mod error;
pub mod fault;
pub mod progress;
pub mod rng;
pub mod step;
pub mod stop;
pub mod task_log;

pub use error::{Error, Result};
