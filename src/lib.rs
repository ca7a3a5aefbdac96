//! TODO

pub mod base;
pub mod config;
pub mod data;
pub mod synth;
pub mod fetch;
pub mod loading;
pub mod distributed;
pub mod network;
pub mod scoring;
pub mod training;
pub mod inference;
pub mod views;
pub mod operations;

pub use base::{Error, Result};
