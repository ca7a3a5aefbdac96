//! Trained networks with the thresholds for their mean probabilities: of a run, or from one weight
//! file.

use std::path::Path;

use tch::Device;

use crate::{
    base::{Error, Result},
    config::{Config, Train},
    data::labels::CLASSES,
    inference::{finished_run, predict},
    network::weights::Weights,
    training::{run_folder::Run, trained_network::TrainedNetwork},
};

pub struct Ensemble {
    pub networks: Vec<TrainedNetwork>,
    /// A class is predicted where its probability is above its threshold; where none is, the most
    /// probable one is.
    pub thresholds: [f32; CLASSES],
}

impl Ensemble {
    /// The networks of all finished folds, with the thresholds of the submission (0.5 and a warning
    /// where `submit` has not run).
    ///
    /// # Errors
    /// Usage where no fold is finished; data where a checkpoint or table is damaged.
    pub fn of_run(config: &Config, run: &Run, device: Device) -> Result<Self> {
        let (thresholds, _) = finished_run::thresholds_or_half(run, config.submit.thresholds)?;
        let networks = predict::networks(run, config.split.folds, &config.train, device)?;
        Ok(Self { networks, thresholds })
    }

    /// The network in `file`, a checkpoint or an exported .safetensors file, with the thresholds
    /// that were exported with it (0.5 and a warning where there are none). `resize` is
    /// `augment.resize`.
    ///
    /// # Errors
    /// Those of [`TrainedNetwork::from_weights`].
    pub fn from_file(file: &Path, resize: u32, train: &Train, device: Device) -> Result<Self> {
        let weights = Weights::open(file)?;
        let resize = resize.to_string();
        if let Some(side) = weights.metadata().get("image_side").filter(|side| **side != resize) {
            log::warn!(
                "{}: trained on images of {side} pixels, but augment.resize is {resize}; try --set \
                    augment.resize={side}",
                file.display()
            );
        }
        let thresholds = exported_thresholds(&weights)?.unwrap_or_else(|| {
            log::warn!("{} has no thresholds: every one is 0.5", file.display());
            [0.5; CLASSES]
        });
        let network = TrainedNetwork::from_weights(&weights, train, device)?;
        Ok(Self { networks: vec![network], thresholds })
    }
}

/// The thresholds in the metadata of exported weights.
fn exported_thresholds(weights: &Weights) -> Result<Option<[f32; CLASSES]>> {
    #[derive(serde::Deserialize)]
    struct Exported {
        values: [f32; CLASSES],
    }
    let Some(text) = weights.metadata().get("thresholds") else { return Ok(None) };
    serde_json::from_str(text).map(|Exported { values }| Some(values)).map_err(|e| {
        Error::data(
            weights.path(),
            format!("its metadata have `thresholds` that cannot be read: {e}"),
        )
    })
}
