//! The contents of a model card, read from a weight file and the run that it lies in.

use std::path::Path;

use serde::Serialize;

use crate::{
    base::{Error, Result},
    config::{Config, Tta},
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest::{CHANNELS, Source},
        work_folder::WorkFolder,
    },
    inference::finished_run::{self, FittedThresholds},
    loading::normalization::Normalization,
    network::weights::{self, Metadata, Weights},
    training::{
        checkpoint::TrainingState, fold_data::FoldData, fold_weights, history::EpochRow,
        run_folder::Run,
    },
};

/// `None` stands for what this file does not reveal.
#[derive(Serialize)]
pub struct Card {
    /// As [`weights::describe`].
    #[serde(skip)]
    pub network: Metadata,
    /// By number, where the network has the 28 classes of the Atlas.
    pub class_names: Option<[&'static str; CLASSES]>,
    /// Where the input has four channels.
    pub channel_order: Option<[&'static str; 4]>,
    pub normalization: Option<Normalization>,
    #[serde(flatten)]
    pub training: Option<TrainingSummary>,
    #[serde(flatten)]
    pub origin: Option<Origin>,
    pub exported_by: Program,
}

/// From the checkpoint.
#[derive(Serialize)]
pub struct TrainingSummary {
    /// Number of completed epochs.
    pub epoch: usize,
    /// Scores after the last of them, on whole images of the fold's validation samples.
    pub validation: Option<EpochRow>,
}

/// From the run that the checkpoint lies in.
#[derive(Serialize)]
pub struct Origin {
    pub run: String,
    pub fold: usize,
    /// Side in pixels to which images are resized.
    pub image_side: u32,
    /// Side in pixels of the crops in training.
    pub crop_side: u32,
    pub thresholds: Option<CardThresholds>,
    pub data: Option<FoldSamples>,
    /// As the run's provenance.json, without the name of the machine: cards are published.
    pub provenance: serde_json::Value,
}

/// The thresholds of the run's submission.
#[derive(Serialize)]
pub struct CardThresholds {
    #[serde(flatten)]
    pub fitted: FittedThresholds,
    /// Views over which the predictions were reduced.
    pub tta: Tta,
}

#[derive(Serialize)]
pub struct FoldSamples {
    pub train: SampleCounts,
    pub validation: SampleCounts,
}

#[derive(Serialize)]
pub struct SampleCounts {
    pub samples: usize,
    pub official: usize,
    pub external: usize,
    /// By class.
    pub positives: [usize; CLASSES],
}

#[derive(Serialize)]
pub struct Program {
    pub atlas_version: &'static str,
    pub git_commit: &'static str,
}

impl Card {
    /// The card of the weights in `file`.
    ///
    /// # Errors
    /// Data where a file of the run is damaged. What a missing file would contain is left out.
    pub fn of(file: &Path, weights: &Weights) -> Result<Self> {
        let spec = weights.spec();
        let state =
            weights.metadata().get("state").map(|text| serde_json::from_str::<TrainingState>(text));
        let state = state.transpose().map_err(|e| {
            Error::data(file, format!("this checkpoint is of another version of atlas ({e})"))
        })?;
        let origin = match &state {
            Some(state) => Origin::of(file, state)?,
            None => None,
        };
        let training = |state: TrainingState| TrainingSummary {
            epoch: state.epoch,
            validation: state.history.into_iter().next_back(),
        };
        Ok(Self {
            network: weights::describe(spec),
            class_names: (spec.classes == CLASSES as i64).then_some(NAMES),
            channel_order: (spec.channels == 4).then_some(CHANNELS),
            normalization: weights.normalization()?,
            training: state.map(training),
            origin,
            exported_by: Program {
                atlas_version: env!("CARGO_PKG_VERSION"),
                git_commit: env!("ATLAS_GIT_COMMIT"),
            },
        })
    }

    /// The metadata of a weight file: by key, plain text or JSON.
    pub fn metadata(&self) -> Metadata {
        let value = serde_json::to_value(self).expect("plain data with string keys");
        let serde_json::Value::Object(map) = value else {
            unreachable!("a struct becomes an object")
        };
        let text = |value: serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), String::from)
        };
        map.into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, text(value)))
            .collect()
    }
}

impl Origin {
    /// `None` for a checkpoint outside of its run's folder.
    fn of(file: &Path, state: &TrainingState) -> Result<Option<Self>> {
        let file = file.canonicalize().map_err(Error::io("find", file))?;
        let folders: Vec<&Path> = file.ancestors().skip(1).take(3).collect();
        let [checkpoints, fold, folder] = folders[..] else { return Ok(None) };
        let name = |folder: &Path| {
            folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        };
        let number = name(fold).strip_prefix("fold_").and_then(|n| n.parse().ok());
        let (Some(fold), "model_checkpoints", true) =
            (number, name(checkpoints).as_str(), folder.join("config.toml").exists())
        else {
            return Ok(None);
        };
        let (run, config) =
            (Run { folder: folder.into() }, Config::load(Some(&folder.join("config.toml")), &[])?);
        if let Some(what) = fold_weights::unlike(state, &run, fold)? {
            return Err(Error::data(&file, fold_weights::advised(&what, &run, fold)));
        }
        let mut provenance = run.provenance();
        provenance.as_object_mut().and_then(|pairs| pairs.remove("host"));
        let thresholds = finished_run::used_thresholds(&run, config.submit.thresholds)?;
        let tta = config.predict.tta;
        Ok(Some(Self {
            run: run.name(),
            fold,
            image_side: config.augment.resize,
            crop_side: config.augment.crop,
            thresholds: thresholds.map(|fitted| CardThresholds { fitted, tta }),
            data: FoldSamples::of(&config, fold, state),
            provenance,
        }))
    }
}

impl FoldSamples {
    /// `None`, with a warning, where the data of the training no longer exist.
    fn of(config: &Config, fold: usize, state: &TrainingState) -> Option<Self> {
        let work = WorkFolder::of(config);
        let read = || -> Result<_> {
            let max_samples = config.train.max_samples;
            Ok((FoldData::open(&work, &config.split, max_samples, fold)?, work.manifest()?))
        };
        let (data, manifest) = match read() {
            Ok(read) if read.0.hash == state.data => read,
            Ok(_) => {
                log::warn!(
                    "{}: holds other data than those of the training; the card leaves them out",
                    config.paths.work.display()
                );
                return None;
            }
            Err(e) => {
                log::warn!("{e}; the card leaves the training data out");
                return None;
            }
        };
        let external: std::collections::HashSet<&str> = manifest
            .samples
            .iter()
            .filter(|s| s.source == Source::External)
            .map(|s| s.id.as_str())
            .collect();
        let counts = |samples: &[usize]| {
            let external = samples.iter().filter(|&&s| external.contains(data.store.id(s))).count();
            let labels: Vec<Labels> = samples.iter().map(|&s| data.store.labels(s)).collect();
            let positives =
                std::array::from_fn(|c| labels.iter().filter(|l| l.contains(c)).count());
            SampleCounts {
                samples: samples.len(),
                official: samples.len() - external,
                external,
                positives,
            }
        };
        Some(Self { train: counts(&data.train), validation: counts(&data.valid) })
    }
}
