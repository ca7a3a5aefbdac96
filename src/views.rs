//! TODO

pub mod explore;
pub mod model_card;
pub mod report;
