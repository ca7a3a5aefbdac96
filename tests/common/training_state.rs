//! The state of a training that never took place, for checkpoints that the tests write.

use atlas::{
    network::{model::ComputeMode, weights::NetworkState},
    training::checkpoint::{Conditions, TrainingState},
};

/// After `epoch` whole epochs and `step` steps in all. The kernels of the checkpoint have to be in
/// the layout of [`ComputeMode::PREFERRED`].
pub fn training_state(network: NetworkState, epoch: usize, step: u64) -> TrainingState {
    let conditions = Conditions {
        threads: 1,
        ranks: 1,
        compute_mode: ComputeMode::PREFERRED,
        processor: "synthetic".into(),
    };
    TrainingState {
        epoch,
        step,
        optimizer_steps: step,
        ..TrainingState::new(network, conditions, 0)
    }
}
