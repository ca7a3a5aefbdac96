//! What every other folder builds on; nothing here knows of samples or networks.
//!
//! In: paths, bytes, environment variables. Out: files that appear whole or not at all, one error
//! type with an exit code per kind, random streams that depend on nothing but their purpose.
//!
//! Read first: [`error`] (the kinds of errors and their exit codes), [`atomic_file`] (how every
//! file is written) and [`rng`] (why a resumed run draws the same numbers). [`csv_file`] writes and
//! reads the tables between the jobs, [`gunzip`] what is gzipped, [`output_target`] finds where a
//! named file really goes, [`file_lock`] and [`hdf5_file`] bear with file systems without locks,
//! [`sealed_hdf5`] writes shards and predictions so that damage is found before anything reads
//! them, [`task_log`] records each task for `status`, [`slurm`] reads Slurm's variables,
//! [`caught`] and [`thrown`] make errors of the panics of other people's code, [`advice`]
//! completes the commands in messages, [`near_miss`] guesses what a wrong word was meant to be, and
//! [`fault`] injects the failures that the tests need.

pub mod advice;
pub mod atomic_file;
pub mod caught;
pub mod checksum;
pub mod csv_file;
pub mod error;
pub mod fault;
pub mod file_lock;
pub mod gunzip;
pub mod hdf5_file;
pub mod host;
pub mod near_miss;
pub mod output_target;
pub mod pipeline_step;
pub mod progress;
pub mod rng;
pub mod sealed_hdf5;
pub mod slurm;
pub mod stop_request;
pub mod task_log;
pub mod thread_pool;
pub mod thrown;
pub mod zip_file;

pub use error::{Error, Result};
