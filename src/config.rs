//! One experiment as one TOML file.
//!
//! In: a file and `--set key=value` pairs. Out: a [`Config`] in which every key has a value, paths
//! are absolute and ranges are checked. Every job works without a file, on the defaults.
//!
//! Read first: [`Config`] and its sections, here and in `train.rs`, which define each key; then
//! `defaults.rs` (the values) and `load.rs` (file, `--set`, paths, messages). `check.rs` holds the
//! ranges.

mod check;
mod defaults;
mod explain;
mod load;
mod set;
mod train;

use std::{ops::RangeInclusive, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use load::PROVENANCE;
pub use train::{
    Keep, Layout, Losses, Normalize, Optimizer, Over, Precision, Reduce, Sampling, Schedule, Train,
};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Worker threads per process; by default the cores it may use, shared with the ranks that may
    /// use the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    pub paths: Paths,
    pub data: Data,
    pub fetch: Fetch,
    pub preprocess: Preprocess,
    pub dedup: Dedup,
    pub split: Split,
    pub model: Model,
    pub augment: Augment,
    pub train: Train,
    pub comm: Comm,
    pub predict: Predict,
    pub submit: Submit,
}

/// Where the jobs write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Manifest, shards, duplicates, folds: what depends on the data alone.
    pub work: PathBuf,
    /// One folder per run.
    pub results: PathBuf,
}

/// What the jobs read.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The competition's folder: train/, train.csv and, if there, test/ and sample_submission.csv.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kaggle: Option<PathBuf>,
    /// The external folder: images/ and a CSV with the columns Id,Target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<PathBuf>,
}

/// How `atlas fetch` downloads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// The competition's name in its address.
    pub competition: String,
    /// Kaggle's REST API, up to its version.
    pub kaggle_url: String,
    /// Where the Atlas serves its images:
    /// `<images_url>/<antibody>/<plate>_<well>_<field>_<channel>.jpg`.
    pub images_url: String,
    /// The Atlas as one XML, gzipped or not. Each release has a host of its own; v18 is the one
    /// whose names are the 28 classes.
    pub xml_url: String,
    /// Connections at a time, per task and host.
    pub connections: usize,
    /// Requests per second of a task to one host, at most.
    pub requests_per_second: f64,
    /// Seconds to find a host and to connect to it.
    pub connect_timeout_seconds: f64,
    /// Seconds without a byte after which a connection counts as stalled.
    pub read_timeout_seconds: f64,
    /// Attempts in a row without progress before a file is given up.
    pub attempts: u32,
    /// Seconds before the second attempt; doubled for each further one, up to a minute.
    pub backoff_seconds: f64,
    /// Share of a task's files that the server may not have (or have only broken) before the job
    /// fails.
    pub max_missing_fraction: f64,
    /// Tasks of the array job.
    pub tasks: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Side of the stored square images in pixels, within [`Self::SIZES`].
    pub size: u32,
    /// Samples per shard.
    pub shard_samples: usize,
    /// Share of samples that may be unreadable before the job fails.
    pub max_bad_fraction: f64,
    /// Largest width or height in pixels that is decoded; more is refused before memory is taken.
    pub max_pixels_side: u32,
    /// Tasks of the array job; `plan` writes the number into plan.json.
    pub tasks: usize,
}

impl Preprocess {
    /// What `size` may be.
    pub const SIZES: RangeInclusive<u32> = 16..=8192;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dedup {
    /// Largest Hamming distance (of 64 bits) in each of red, green and blue of a candidate pair.
    pub radius: u32,
    /// Smallest normalised correlation of the thumbnails of a confirmed pair, in the channel where
    /// it is lowest.
    pub min_correlation: f32,
}

/// Which samples are kept together in one fold; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    None,
    Duplicates,
    Well,
    Antibody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// A partition: each sample validates in exactly one fold.
    Folds,
    /// Independent draws of a hold-out share per fold, as the original.
    Shuffle,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    pub folds: usize,
    pub groups: Groups,
    pub method: SplitMethod,
    /// Share held out per fold with `method = "shuffle"`.
    pub holdout: f64,
    /// 1: balance classes (Sechidis et al. 2011); 2: pairs of classes first (Szymanski &
    /// Kajdanowicz 2017).
    pub order: u8,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 7x7 stride 3, as the original.
    Seed,
    /// 7x7 stride 2, as the paper.
    Standard,
}

impl Stem {
    /// Stride of the first convolution.
    pub fn stride(self) -> i64 {
        match self {
            Self::Seed => 3,
            Self::Standard => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Average and max pooling, BN, dropout, 1024, ReLU, BN, dropout, 28.
    Seed,
    /// Average pooling, (dropout,) 28.
    Linear,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// `se_resnext50_32x4d`, or a smaller member of the family (`model::ARCHS`).
    pub arch: String,
    pub stem: Stem,
    pub head: Head,
    /// Dropout of the head.
    pub dropout: f64,
    /// A file written by `weights import`, or a checkpoint, to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
}

/// Random changes of training images. Each has a probability; 0 switches it off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Side to which images are resized before the crop, training and prediction alike.
    pub resize: u32,
    /// Side of the crop that the network sees.
    pub crop: u32,
    /// Probability of a turn by a random multiple of 90 degrees (0 included).
    pub rot90: f64,
    /// Probability of a flip (vertical, horizontal or both).
    pub flip: f64,
    /// Probability of a change of brightness and contrast.
    pub brightness_contrast: f64,
    /// beta ~ U(-brightness, brightness), times the mean of the image (of the channel with
    /// `per_channel`), is added.
    pub brightness: f64,
    /// alpha ~ U(1 - contrast, 1 + contrast) multiplies.
    pub contrast: f64,
    /// Draw alpha and beta per channel instead of once per image.
    pub per_channel: bool,
    /// Probability of the affine and elastic distortion.
    pub elastic: f64,
    /// Jitter of the three points of the affine map in pixels at crop 512 (scaled with the crop).
    pub elastic_affine: f64,
    /// Amplitude and smoothness of the displacement field in pixels at crop 512 (scaled with the
    /// crop).
    pub elastic_alpha: f64,
    pub elastic_sigma: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// NCCL on GPUs, else MPI, else none, depending on launcher and machine.
    Auto,
    /// One rank without a launcher.
    None,
    /// Gradients are summed on the host.
    Mpi,
    /// Gradients are summed on the GPUs.
    Nccl,
}

/// Type of the numbers in which gradients are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    F32,
    /// Half the bytes; each rank's gradient is rounded once, the sum once more.
    Bf16,
}

/// Communication between ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Comm {
    pub backend: Backend,
    pub wire: Wire,
    /// Seconds that a rank waits for the others in one operation before it ends the job; also how
    /// long they have to agree after a signal.
    pub timeout_seconds: f64,
    /// The same for the start and the first step.
    pub start_timeout_seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tta {
    /// The whole resized image, once.
    None,
    /// Four corners and the centre.
    FiveCrop,
    /// The five crops times the eight symmetries of the square.
    FiveCropD4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropReduce {
    Max,
    Mean,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    pub tta: Tta,
    /// How the logits of the crops become one.
    pub reduce: CropReduce,
    /// Images (crops) per forward pass; 0: chosen by device (few on a CPU, so that they stay in its
    /// cache). Changes the speed alone.
    pub batch: usize,
}

/// How thresholds are fitted on out-of-fold predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Method {
    /// 0.5 for every class.
    Half,
    /// Per class, the threshold with the best F1.
    Optimum,
    /// Per class, the threshold that predicts as many positives as there are.
    Proportion,
    /// The optimum drawn towards the common constant, more for rare classes.
    Shrunken,
    /// One threshold for all classes with the best macro F1.
    Constant,
}

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submit {
    /// Method of submission_optimal_threshold.csv; by default the one with the best cross-fitted
    /// macro F1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Method>,
}
