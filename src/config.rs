//! One experiment as one TOML file: every key with its default, `--set key=value` on top, paths resolved against the
//! project, and a check of the ranges. Every job works without a file, on the defaults written here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Worker threads; by default the cores this process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    pub paths: Paths,
    pub data: Data,
    pub preprocess: Preprocess,
    pub dedup: Dedup,
    pub split: Split,
    pub model: Model,
    pub augment: Augment,
    pub train: Train,
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Side of the stored square images in pixels.
    pub size: u32,
    /// Samples per shard.
    pub shard_samples: usize,
    /// Share of samples that may be unreadable before the job fails.
    pub max_bad_fraction: f64,
    /// Largest width or height in pixels that is decoded; more is refused before memory is taken.
    pub max_pixels_side: u32,
    /// Tasks of the array job; `plan` writes it into the manifest.
    pub tasks: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dedup {
    /// Largest Hamming distance (of 64 bits) in each of red, green and blue of a candidate pair.
    pub radius: u32,
    /// Smallest normalised correlation of the thumbnails of a confirmed pair, in the channel where it is lowest.
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
    /// 1: balance classes (Sechidis et al. 2011); 2: pairs of classes first (Szymanski & Kajdanowicz 2017).
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
    /// A file written by `weights import` to start from.
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
    /// beta ~ U(-brightness, brightness), times the mean of the image (of the channel with `per_channel`), is added.
    pub brightness: f64,
    /// alpha ~ U(1 - contrast, 1 + contrast) multiplies.
    pub contrast: f64,
    /// Draw alpha and beta per channel instead of once per image.
    pub per_channel: bool,
    /// Probability of the affine and elastic distortion.
    pub elastic: f64,
    /// Jitter of the three points of the affine map in pixels at crop 512 (scaled with the crop).
    pub elastic_affine: f64,
    /// Amplitude and smoothness of the displacement field in pixels at crop 512 (scaled with the crop).
    pub elastic_alpha: f64,
    pub elastic_sigma: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    Adamw,
    /// SGD with Nesterov-free momentum.
    Sgd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    OneCycle,
    MultiStep,
    Constant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every sample once per epoch, shuffled.
    Uniform,
    /// As many draws as samples, with replacement, as the original.
    Replacement,
    /// With replacement, rare classes more often (see `train.balance`).
    Balanced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    Auto,
    Nchw,
    Nhwc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// x / 255, as the original.
    Unit,
    /// (x - mean) / std per channel, over the training shards.
    Dataset,
    /// (x - mean) / std per channel of each image: robust to exposure.
    Image,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    pub epochs: usize,
    /// Global batch size in samples.
    pub batch: usize,
    /// Samples per forward; smaller than `batch` means gradient accumulation. 0: the whole batch at once.
    pub micro_batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    pub optimizer: Optimizer,
    pub weight_decay: f64,
    /// Whether weight decay also acts on biases and batch norm (the original: yes).
    pub decay_all: bool,
    /// Momentum of SGD, beta1 of AdamW (one-cycle moves it by itself between `momentum_max` and `momentum_min`).
    pub momentum: f64,
    pub beta2: f64,
    pub schedule: Schedule,
    /// One-cycle: share of the steps with rising lr; lr starts at lr / div and ends at lr / div / final_div.
    pub pct_start: f64,
    pub div: f64,
    pub final_div: f64,
    pub momentum_max: f64,
    pub momentum_min: f64,
    /// Multi-step: epochs after which lr is multiplied by `gamma`.
    pub milestones: Vec<f64>,
    pub gamma: f64,
    /// Largest global L2 norm of the gradient; 0: no clipping.
    pub clip: f64,
    /// Decay of the exponential moving average of the weights; 0: none. Validation and prediction use the average.
    pub ema: f64,
    pub sampling: Sampling,
    /// Exponent of `sampling = "balanced"`: weight of a sample = its rarest class's frequency ^ -balance.
    pub balance: f64,
    pub precision: Precision,
    pub layout: Layout,
    pub normalize: Normalize,
    pub seed: u64,
    /// Weights of the losses in the sum; 0 switches one off.
    pub loss: Losses,
    /// Steps between checkpoints inside an epoch; 0: only at the end of each epoch.
    pub checkpoint_steps: usize,
    /// Steps with a non-finite gradient that are skipped before the run fails.
    pub max_skipped_steps: usize,
    /// Epochs between validations (the last epoch is always validated).
    pub validate_every: usize,
    /// Which checkpoint is used afterwards: `best` (by validation mean average precision) or `last`.
    pub keep: Keep,
    /// Training uses at most this many samples; 0: all.
    pub max_samples: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    Best,
    Last,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Losses {
    pub bce: f64,
    pub focal: f64,
    pub lovasz: f64,
    pub soft_f1: f64,
    pub focal_gamma: f64,
    /// Weight of positives in the focal loss; negatives get 1 - alpha. 0: no weighting.
    pub focal_alpha: f64,
    /// `mean` or `sum` over the 28 classes of a sample (always mean over samples).
    pub focal_reduce: Reduce,
    pub lovasz_over: Over,
    pub soft_f1_over: Over,
}

/// Whether a loss takes the mean or the sum over the classes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    Mean,
    Sum,
}

/// Over which entries of a batch's `[n, 28]` matrix a set loss is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The whole batch as one set.
    Batch,
    /// Each sample over its classes, then the mean over samples.
    Sample,
    /// Each class over the batch's samples, then the mean over classes (macro).
    Class,
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
    /// Images (crops) per forward.
    pub batch: usize,
}

/// How thresholds are fitted on out-of-fold predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Method of submission_optimal_threshold.csv; by default the one with the best cross-fitted macro F1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Method>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { work: "work".into(), results: "results".into() }
    }
}

impl Default for Preprocess {
    fn default() -> Self {
        Self { size: 512, shard_samples: 512, max_bad_fraction: 0.01, max_pixels_side: 8192, tasks: 16 }
    }
}

impl Default for Dedup {
    fn default() -> Self {
        Self { radius: 12, min_correlation: 0.8 }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self { folds: 5, groups: Groups::Well, method: SplitMethod::Folds, holdout: 0.1, order: 1, seed: 0 }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self { arch: "se_resnext50_32x4d".into(), stem: Stem::Standard, head: Head::Seed, dropout: 0.5, weights: None }
    }
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            resize: 512,
            crop: 448,
            rot90: 1.0,
            flip: 0.75,
            brightness_contrast: 0.5,
            brightness: 0.1,
            contrast: 0.2,
            per_channel: true,
            elastic: 0.3,
            elastic_affine: 30.0,
            elastic_alpha: 0.0,
            elastic_sigma: 50.0,
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 40,
            batch: 64,
            micro_batch: 0,
            lr: 1e-3,
            optimizer: Optimizer::Adamw,
            weight_decay: 0.02,
            decay_all: false,
            momentum: 0.9,
            beta2: 0.99,
            schedule: Schedule::OneCycle,
            pct_start: 0.3,
            div: 25.0,
            final_div: 1e4,
            momentum_max: 0.95,
            momentum_min: 0.85,
            milestones: vec![],
            gamma: 0.1,
            clip: 1.0,
            ema: 0.0,
            sampling: Sampling::Uniform,
            balance: 0.5,
            precision: Precision::F32,
            layout: Layout::Auto,
            normalize: Normalize::Dataset,
            seed: 0,
            loss: Losses::default(),
            checkpoint_steps: 0,
            max_skipped_steps: 100,
            validate_every: 1,
            keep: Keep::Best,
            max_samples: 0,
        }
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            bce: 0.0,
            focal: 1.0,
            lovasz: 1.0,
            soft_f1: 0.0,
            focal_gamma: 2.0,
            focal_alpha: 0.0,
            focal_reduce: Reduce::Sum,
            lovasz_over: Over::Sample,
            soft_f1_over: Over::Class,
        }
    }
}

impl Default for Predict {
    fn default() -> Self {
        Self { tta: Tta::FiveCrop, reduce: CropReduce::Mean, batch: 40 }
    }
}

impl Config {
    /// Reads `file` (if any), then applies `sets` (`key=value`) in order, resolves the paths and checks the ranges.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::usage(format!("cannot read the configuration {}: {e}", path.display())))?;
            let config: Self = toml::from_str(&text).map_err(|e| located(path, &text, &e))?;
            config.check(&format!("{}", path.display()))?;
            table = toml::from_str(&text).map_err(|e| located(path, &text, &e))?;
            config.resolve_file_paths(&mut table, path);
        }
        let here = std::env::current_dir().map_err(Error::io("find", "the current directory"))?;
        for set in sets {
            apply(&mut table, set)?;
            let config: Self =
                table.clone().try_into().map_err(|e: toml::de::Error| Error::usage(format!("--set {set}: {}", explain(e.message()))))?;
            config.check(&format!("--set {set}"))?;
        }
        let mut config: Self = table.try_into().map_err(|e: toml::de::Error| Error::usage(e.message()))?;
        for path in config.paths_mut() {
            *path = here.join(&*path);
        }
        Ok(config)
    }

    /// As TOML, complete: what `results/<run>/config.toml` holds.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data with string keys")
    }

    /// Worker threads: the key, else what the allocation allows (cgroup and affinity counted).
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [
            Some(&mut self.paths.work),
            Some(&mut self.paths.results),
            self.data.kaggle.as_mut(),
            self.data.external.as_mut(),
            self.model.weights.as_mut(),
        ]
        .into_iter()
        .flatten()
    }

    /// Makes the relative paths written in a file absolute: against the project of that file.
    fn resolve_file_paths(&self, table: &mut toml::Table, file: &Path) {
        let project = project_of(file);
        let section_defaults = [("paths", "work", "work"), ("paths", "results", "results")];
        for (section, key, default) in section_defaults {
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            if let Some(section) = section.as_table_mut() {
                section.entry(key).or_insert_with(|| default.into());
            }
        }
        for (section, key) in [("paths", "work"), ("paths", "results"), ("data", "kaggle"), ("data", "external"), ("model", "weights")] {
            if let Some(value) = table.get_mut(section).and_then(|s| s.get_mut(key))
                && let Some(text) = value.as_str()
            {
                *value = project.join(text).to_string_lossy().into_owned().into();
            }
        }
    }

    /// Ranges that types cannot say.
    fn check(&self, source: &str) -> Result<()> {
        let fail = |key: &str, want: &str| Err(Error::usage(format!("{source}: {key} must be {want}")));
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let (p, a, t) = (&self.preprocess, &self.augment, &self.train);
        match () {
            () if self.threads == Some(0) => fail("threads", "at least 1"),
            () if !(16..=8192).contains(&p.size) => fail("preprocess.size", "from 16 to 8192 pixels"),
            () if p.shard_samples == 0 => fail("preprocess.shard_samples", "at least 1"),
            () if p.tasks == 0 => fail("preprocess.tasks", "at least 1"),
            () if !share(p.max_bad_fraction) => fail("preprocess.max_bad_fraction", "from 0 to 1"),
            () if self.dedup.radius > 64 => fail("dedup.radius", "from 0 to 64 bits"),
            () if self.split.folds < 2 => fail("split.folds", "at least 2"),
            () if !(self.split.holdout > 0.0 && self.split.holdout < 1.0) => fail("split.holdout", "between 0 and 1"),
            () if !(1..=2).contains(&self.split.order) => fail("split.order", "1 or 2"),
            () if !(0.0..1.0).contains(&self.model.dropout) => fail("model.dropout", "from 0 to below 1"),
            () if a.crop < 32 || a.crop > a.resize => fail("augment.crop", "from 32 to augment.resize pixels"),
            () if a.resize > 4096 => fail("augment.resize", "at most 4096 pixels"),
            () if ![a.rot90, a.flip, a.brightness_contrast, a.elastic].into_iter().all(share) => {
                fail("augment.rot90, flip, brightness_contrast and elastic", "probabilities from 0 to 1")
            }
            () if !(0.0..=1.0).contains(&a.contrast) => fail("augment.contrast", "from 0 to 1"),
            () if t.epochs == 0 => fail("train.epochs", "at least 1"),
            () if t.batch < 2 => fail("train.batch", "at least 2 (batch norm needs two samples)"),
            () if !(t.lr > 0.0 && t.lr.is_finite()) => fail("train.lr", "above 0"),
            () if t.weight_decay < 0.0 => fail("train.weight_decay", "at least 0"),
            () if ![t.momentum, t.beta2, t.momentum_max, t.momentum_min, t.ema].into_iter().all(|x| (0.0..1.0).contains(&x)) => {
                fail("train.momentum, beta2, momentum_max, momentum_min and ema", "from 0 to below 1")
            }
            () if !(t.pct_start > 0.0 && t.pct_start < 1.0) => fail("train.pct_start", "between 0 and 1"),
            () if t.validate_every == 0 => fail("train.validate_every", "at least 1"),
            () if t.div < 1.0 || t.final_div < 1.0 => fail("train.div and train.final_div", "at least 1"),
            () if self.predict.batch == 0 => fail("predict.batch", "at least 1"),
            () if [t.loss.bce, t.loss.focal, t.loss.lovasz, t.loss.soft_f1].iter().all(|&w| w <= 0.0) => {
                fail("train.loss", "a sum with at least one positive weight")
            }
            () => Ok(()),
        }
    }
}

/// The nearest parent of a TOML that has a `configs/` folder, else the TOML's own folder.
fn project_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let own = file.parent().unwrap_or(Path::new("/"));
    own.ancestors().find(|d| d.join("configs").is_dir()).unwrap_or(own).into()
}

/// `key=value` into the table; the value is read as TOML, else taken as a bare string; an empty one unsets the key.
fn apply(table: &mut toml::Table, set: &str) -> Result<()> {
    let (key, value) =
        set.split_once('=').ok_or_else(|| Error::usage(format!("--set {set}: expected key=value, such as --set train.epochs=2")))?;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|l| !l.is_empty()).ok_or_else(|| Error::usage(format!("--set {set}: the key is empty")))?;
    let mut at = table;
    for part in parts {
        at = at
            .entry(part)
            .or_insert_with(|| toml::Table::new().into())
            .as_table_mut()
            .ok_or_else(|| Error::usage(format!("--set {set}: `{part}` is a value, not a section")))?;
    }
    if value.is_empty() {
        at.remove(last);
    } else {
        let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
        at.insert(last.into(), parsed.unwrap_or_else(|| value.into()));
    }
    Ok(())
}

/// A TOML error as one line with file and line number.
fn located(path: &Path, text: &str, e: &toml::de::Error) -> Error {
    let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
    Error::usage(format!("{}, line {line}: {}", path.display(), explain(e.message())))
}

/// serde's message, with the nearest key named where one is misspelt.
fn explain(message: &str) -> String {
    let message = message.lines().next().unwrap_or(message);
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message.replace("invalid type:", "wrong type:");
    }
    let (Some(wrong), candidates) = (quoted.next(), quoted) else { return message.into() };
    let candidates: Vec<&str> = candidates.collect();
    let what = if message.starts_with("unknown field") { "key" } else { "value" };
    let nearest = candidates.iter().min_by_key(|c| edits(wrong, c)).filter(|c| edits(wrong, c) <= 2 + c.len() / 4);
    match nearest {
        Some(near) => format!("unknown {what} `{wrong}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{wrong}`; expected one of {}", candidates.join(", ")),
    }
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let cost = diagonal + usize::from(x != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, sets: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        match Config::load(Some(&path), &sets) {
            Ok(_) => "ok".into(),
            Err(e) => {
                assert_eq!(e.exit_code(), 2);
                e.to_string().replace(&*path.to_string_lossy(), "c.toml")
            }
        }
    }

    #[test]
    fn wrong_keys_types_and_ranges_name_the_place() {
        assert_eq!(message("[train]\nepoch = 3\n", &[]), "c.toml, line 2: unknown key `epoch`; did you mean `epochs`?");
        assert_eq!(message("[train]\n\nepochs = \"3\"\n", &[]), "c.toml, line 3: wrong type: string \"3\", expected usize");
        assert_eq!(message("", &["train.epochz=3"]), "--set train.epochz=3: unknown key `epochz`; did you mean `epochs`?");
        assert_eq!(message("", &["train.epochs=0"]), "--set train.epochs=0: train.epochs must be at least 1");
        assert_eq!(message("", &["train.precision=bf17"]), "--set train.precision=bf17: unknown value `bf17`; did you mean `bf16`?");
        assert!(message("", &["train.epochs"]).contains("expected key=value"));
    }

    #[test]
    fn sets_are_toml_or_bare_strings_and_empty_unsets() {
        let sets = ["train.epochs=2", "model.arch=tiny", "data.kaggle=/a b", "threads=3", "threads="].map(String::from);
        let config = Config::load(None, &sets).unwrap();
        assert_eq!((config.train.epochs, config.model.arch.as_str(), config.threads), (2, "tiny", None));
        assert_eq!(config.data.kaggle.as_deref(), Some(Path::new("/a b")));
    }

    #[test]
    fn paths_in_a_file_belong_to_its_project() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("configs/sub/c.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "[data]\nkaggle = \"d\"\n").unwrap();
        let config = Config::load(Some(&file), &["paths.results=r".into()]).unwrap();
        assert_eq!(config.data.kaggle, Some(dir.path().join("d")));
        assert_eq!(config.paths.work, dir.path().join("work"));
        assert_eq!(config.paths.results, std::env::current_dir().unwrap().join("r"));
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let config = Config::load(None, &["data.kaggle=/k".into()]).unwrap();
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }
}
