//! A trained network, read back from a checkpoint or from exported weights, ready for prediction.

use std::path::Path;

use tch::Device;

use crate::{
    base::{Error, Result, stop_request::Stop},
    config::{Augment, Predict, Train},
    data::labels::CLASSES,
    loading::normalization::Normalization,
    network::{
        model::{ComputeMode, Network, Precision},
        predictor::Predictor,
        weights::Weights,
    },
    training::checkpoint::Checkpoint,
};

/// A network with the precision in which it computes and the normalization of its images.
pub struct TrainedNetwork {
    pub network: Network,
    pub precision: Precision,
    pub normalization: Normalization,
}

impl TrainedNetwork {
    /// Reads the averaged (or, without averaging, plain) weights of a checkpoint. Where
    /// `train.precision` or `train.layout` is `auto`, the network computes as in training.
    ///
    /// # Errors
    /// Usage where `train.layout` is not the layout of the training; data where the checkpoint is
    /// damaged.
    pub fn from_checkpoint(path: &Path, train: &Train, device: Device) -> Result<Self> {
        let checkpoint = Checkpoint::read(path)?;
        let state = &checkpoint.state;
        let trained = state.conditions.compute_mode;
        let compute_mode = ComputeMode::of(train, trained);
        if compute_mode.channels_last != trained.channels_last {
            return Err(Error::usage(format!(
                "{}: was trained with the other memory layout; set train.layout as in the run's \
                    config.toml",
                path.display()
            )));
        }
        let network = Network::new(&state.network.spec, 0, compute_mode.channels_last, device)?;
        checkpoint.load_into(&network)?;
        Ok(Self {
            network,
            precision: compute_mode.precision,
            normalization: state.network.normalization.clone(),
        })
    }

    /// Reads any weight file that states how its images were normalized: a checkpoint, or a file
    /// exported from one. Where `train.precision` or `train.layout` is `auto`, the network computes
    /// in f32 and channels-last.
    ///
    /// # Errors
    /// Usage where the file has no normalization, or the network does not have four channels and 28
    /// classes; data where it is damaged.
    pub fn from_weights(weights: &Weights, train: &Train, device: Device) -> Result<Self> {
        let (spec, path) = (weights.spec(), weights.path().display());
        let (channels, classes) = (spec.channels, spec.classes);
        if (channels, classes) != (4, CLASSES as i64) {
            return Err(Error::usage(format!(
                "{path}: the network has {channels} channels and {classes} classes, expected 4 and \
                    {CLASSES}"
            )));
        }
        let normalization = weights.normalization()?.ok_or_else(|| {
            Error::usage(format!(
                "{path}: does not say how images are normalised; name a checkpoint, or what \
                    `atlas weights export CHECKPOINT --output X.safetensors` makes of one"
            ))
        })?;
        let compute_mode = ComputeMode::of(train, ComputeMode::PREFERRED);
        let (network, _) = weights.network(spec, 0, compute_mode.channels_last, device)?;
        Ok(Self { network, precision: compute_mode.precision, normalization })
    }

    /// `threads` load the images; `stop` ends a prediction at its next batch.
    pub fn predictor<'a>(
        &'a self,
        augment: &'a Augment,
        predict: &'a Predict,
        threads: usize,
        stop: &'a Stop,
    ) -> Predictor<'a> {
        Predictor {
            network: &self.network,
            precision: self.precision,
            normalization: &self.normalization,
            augment,
            predict,
            threads,
            stop,
        }
    }
}
