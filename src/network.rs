//! TODO

pub mod autograd;
pub mod loss;
pub mod model;
pub mod optim;
pub mod predictor;
pub mod weights;
