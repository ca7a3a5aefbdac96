//! TODO

pub mod doctor;
pub mod status;
