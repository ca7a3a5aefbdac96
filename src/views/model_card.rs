//! The model card of an exported network: what it takes and gives, what it was trained on, how well
//! it does and where it comes from. All of it is read from the weight file and the run that it lies
//! in; nothing is typed by hand.

mod markdown;

use std::path::Path;

use serde::Serialize;

pub use self::markdown::Format;
use crate::{
    base::{Error, Result},
    config::{Config, Tta},
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest::{CHANNELS, Source},
        work_folder::WorkFolder,
    },
    inference::finished_run,
    loading::normalization::Normalization,
    network::weights::{self, Metadata, Weights},
    training::{checkpoint::State, history::Row, run_folder::Run, train::FoldData},
};

/// What there is to say; what is `None` is not known of this file.
#[derive(Serialize)]
pub struct Card {
    /// What the network is, as [`weights::describe`] says it.
    #[serde(skip)]
    network: Metadata,
    /// By number, where the network has the 28 classes of the Atlas.
    class_names: Option<[&'static str; CLASSES]>,
    /// Of the input, where it has four.
    channel_order: Option<[&'static str; 4]>,
    normalization: Option<Normalization>,
    #[serde(flatten)]
    training: Option<Training>,
    #[serde(flatten)]
    origin: Option<Origin>,
    exported_by: Program,
}

/// What a checkpoint says.
#[derive(Serialize)]
struct Training {
    /// Epochs behind these weights.
    epoch: usize,
    /// Of the last of them: whole images of the fold's validation samples.
    validation: Option<Row>,
}

/// What the run says that a checkpoint lies in.
#[derive(Serialize)]
struct Origin {
    run: String,
    fold: usize,
    /// Side in pixels to which images are resized, and of the crops of training.
    image_side: u32,
    crop_side: u32,
    thresholds: Option<Fitted>,
    data: Option<Data>,
    /// As the run's provenance.json, but for the machine's name: the card leaves the house.
    provenance: serde_json::Value,
}

/// The thresholds of the run's answer.
#[derive(Serialize)]
struct Fitted {
    method: String,
    values: [f32; CLASSES],
    /// Macro F1 on samples that the thresholds have not seen.
    cross_fitted_macro_f1: f64,
    in_sample_macro_f1: f64,
    /// What the predictions behind them were averaged over.
    tta: Tta,
}

/// Samples of the fold.
#[derive(Serialize)]
struct Data {
    train: Counts,
    validation: Counts,
}

#[derive(Serialize)]
struct Counts {
    samples: usize,
    official: usize,
    external: usize,
    positives: [usize; CLASSES],
}

#[derive(Serialize)]
struct Program {
    atlas_version: &'static str,
    git_commit: &'static str,
}

impl Card {
    /// Of the weights in `file`.
    ///
    /// # Errors
    /// Data, where a file of the run is damaged. A file that is not there leaves out what it would
    /// say.
    pub fn of(file: &Path, weights: &Weights) -> Result<Self> {
        let spec = weights.spec();
        let state = weights.metadata().get("state").map(|text| serde_json::from_str::<State>(text));
        let state = state.transpose().map_err(|e| {
            Error::data(file, format!("this checkpoint is of another version of atlas ({e})"))
        })?;
        let origin = match &state {
            Some(state) => Origin::of(file, state)?,
            None => None,
        };
        let training = |state: State| Training {
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

    /// For the metadata of a weight file: JSON by key, plain text where it is one.
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
    /// `None` for a checkpoint that was taken out of its run.
    fn of(file: &Path, state: &State) -> Result<Option<Self>> {
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
        let mut provenance = run.provenance();
        provenance.as_object_mut().and_then(|pairs| pairs.remove("host"));
        let thresholds = finished_run::used(&config, &run)?;
        let fitted = |t: finished_run::Thresholds| Fitted {
            method: t.method,
            values: t.values,
            cross_fitted_macro_f1: t.cross_fitted,
            in_sample_macro_f1: t.in_sample,
            tta: config.predict.tta,
        };
        Ok(Some(Self {
            run: run.name(),
            fold,
            image_side: config.augment.resize,
            crop_side: config.augment.crop,
            thresholds: thresholds.map(fitted),
            data: Data::of(&config, fold, state),
            provenance,
        }))
    }
}

impl Data {
    /// `None`, with a warning, where the data that the training was about are not at hand any more.
    fn of(config: &Config, fold: usize, state: &State) -> Option<Self> {
        let work = WorkFolder::open(&config.paths.work);
        let read = || -> Result<_> {
            let max_samples = config.train.max_samples;
            Ok((FoldData::open(&work, &config.split, max_samples, fold)?, work.manifest()?))
        };
        let (data, manifest) = match read() {
            Ok(read) if read.0.hash == state.data => read,
            Ok(_) => {
                log::warn!(
                    "{}: holds other data than the training was about; the card leaves them out",
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
            Counts {
                samples: samples.len(),
                official: samples.len() - external,
                external,
                positives,
            }
        };
        Some(Self { train: counts(&data.train), validation: counts(&data.valid) })
    }
}

/// The thresholds in the card of exported weights, where there are any.
///
/// # Errors
/// Data, where they cannot be read.
pub fn thresholds(weights: &Weights) -> Result<Option<[f32; CLASSES]>> {
    let Some(text) = weights.metadata().get("thresholds") else { return Ok(None) };
    let read = serde_json::from_str(text)
        .and_then(|t: serde_json::Value| serde_json::from_value(t["values"].clone()));
    read.map(Some).map_err(|e| {
        Error::data(
            weights.path(),
            format!("its metadata have `thresholds` that cannot be read: {e}"),
        )
    })
}
