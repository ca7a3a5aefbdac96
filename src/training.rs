//! TODO

pub mod checkpoint;
mod find_lr_chart;
pub mod history;
pub mod run_folder;
pub mod tensorboard;
pub mod train;
pub mod trained_network;
