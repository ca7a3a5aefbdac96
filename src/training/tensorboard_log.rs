//! A fold's log for TensorBoard: the numbers of `metrics.jsonl` and `history.csv` under the same
//! names, F1 per class, histograms of probabilities and weights, a few validation samples.

use std::path::Path;

use ndarray::Array2;
use serde_json::Value;

use super::{
    checkpoint::TrainingState,
    event_file::{self, Event, EventLog, What, histogram, image, scalar},
    fold_data::FoldData,
    history::EpochRow,
};
use crate::{
    base::{Error, Result},
    data::{
        contact_sheet::{Tile, contact_sheet},
        labels::{CLASSES, NAMES},
    },
    network::{model::Network, predictor},
    scoring::metrics::Counts,
};

/// Validation samples that are shown, and their side in pixels, at most.
const SAMPLES: usize = 8;
const SIDE: usize = 128;

/// Prefix of the tags of an interval.
const INTERVAL: &str = "interval/";

pub struct TensorBoardLog(EventLog);

impl TensorBoardLog {
    /// Goes on in `fold`/tensorboard/ after the last step of `state`. A new log begins with images
    /// of samples.
    pub fn open(fold: &Path, state: &TrainingState, data: &FoldData) -> Result<Self> {
        let (log, kept) = EventLog::open(&fold.join("tensorboard"), |event| holds(event, state))?;
        if kept == 0 {
            let every = data.valid.len().div_ceil(SAMPLES);
            let samples = data.valid.iter().step_by(every).enumerate();
            let images = samples.map(|(i, &sample)| sample_image(i, sample, data));
            log.write(0, images.collect::<Result<_>>()?)?;
        }
        Ok(Self(log))
    }

    /// The numbers of a line of `metrics.jsonl`.
    pub fn interval(&self, step: u64, line: &Value) -> Result<()> {
        self.0.write(step, scalars(INTERVAL, line, &["epoch", "step", "ranks"]))
    }

    /// The probabilities `[n, 28]` of a validation, and its counts at the threshold 0.5.
    pub fn validation(
        &self,
        step: u64,
        probabilities: &Array2<f32>,
        counts: &[Counts; CLASSES],
    ) -> Result<()> {
        let mut values: Vec<_> = NAMES
            .iter()
            .zip(counts)
            .map(|(name, c)| scalar(format!("f1/{name}"), c.f1()))
            .collect();
        values.extend(probabilities.as_slice().and_then(|p| histogram("probabilities/valid", p)));
        self.0.write(step, values)
    }

    /// A row of `history.csv`, the probabilities `[n, 28]` seen in training, and the weights.
    pub fn epoch(
        &self,
        step: u64,
        network: &Network,
        row: &EpochRow,
        seen: &Array2<f32>,
    ) -> Result<()> {
        let mut values =
            scalars("epoch/", &serde_json::to_value(row).map_err(Error::failed)?, &["epoch"]);
        values.extend(seen.as_slice().and_then(|p| histogram("probabilities/train", p)));
        let (flat, slots) = (network.flat_parameters(), network.parameter_slots());
        for (leaves, _) in network.stages() {
            let stage = slots[leaves.start].name.split('.').next().unwrap_or_default();
            let weights = slots[leaves.clone()]
                .iter()
                .flat_map(|s| predictor::to_vec(&flat.narrow(0, s.offset, s.len())));
            values.extend(histogram(format!("weights/{stage}"), &weights.collect::<Vec<_>>()));
        }
        self.0.write(step, values)
    }
}

/// Whether `state` includes what an event shows. A training that was killed while it validated
/// repeats the end of the epoch.
fn holds(event: &Event, state: &TrainingState) -> bool {
    let of_interval = match &event.what {
        Some(What::Summary(summary)) => summary.values.iter().all(|v| v.tag.starts_with(INTERVAL)),
        _ => false,
    };
    let step = u64::try_from(event.step).unwrap_or(u64::MAX);
    state.step > 0
        && (step < state.step || step == state.step && (of_interval || state.step_in_epoch == 0))
}

/// The numbers of a JSON object, but for the keys `without`.
fn scalars(prefix: &str, object: &Value, without: &[&str]) -> Vec<event_file::Value> {
    let entries = object.as_object().into_iter().flatten();
    let shown = entries.filter(|(key, _)| !without.contains(&key.as_str()));
    let scalar =
        |(key, value): (&String, &Value)| Some(scalar(format!("{prefix}{key}"), value.as_f64()?));
    shown.filter_map(scalar).collect()
}

/// A validation sample: all channels above, the protein alone below.
fn sample_image(number: usize, sample: usize, data: &FoldData) -> Result<event_file::Value> {
    let size = data.store.size();
    let mut pixels = vec![0; size * size * 4];
    data.store.read(sample, &mut pixels)?;
    let planes: [Vec<u8>; 4] =
        std::array::from_fn(|c| pixels.iter().skip(c).step_by(4).copied().collect());
    let labels = data.store.labels(sample);
    let names: Vec<&str> = labels.iter().map(|c| NAMES[c]).collect();
    let tile = Tile { planes: planes.each_ref().map(Vec::as_slice), caption: labels.to_string() };
    image(format!("samples/{number} {}", names.join(", ")), &contact_sheet(&[tile], size, SIDE, 1))
}
