//! TODO

pub mod augment;
pub mod loader;
pub mod normalization;
pub mod sampler;
