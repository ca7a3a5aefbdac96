//! TODO

pub mod checkpoint;
pub mod history;
pub mod run_folder;
pub mod tensorboard;
pub mod train;
