//! The section `train`.

use serde::{Deserialize, Serialize};

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
    /// Measured: f32, unless bf16 is faster by a tenth on the machine at hand.
    Auto,
    F32,
    /// Parameters, sums and running statistics stay f32.
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Measured: channels-last, unless channels-first is faster by a tenth on the machine at hand.
    Auto,
    /// Channels-first.
    Nchw,
    /// Channels-last.
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
    /// Samples per forward pass of a rank, at most (below 4: up to 4, so that none is alone): its
    /// part of the batch is done in equal passes whose gradients add up. 0: in one.
    pub micro_batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    pub optimizer: Optimizer,
    pub weight_decay: f64,
    /// Whether weight decay also acts on biases and batch norm (the original: yes).
    pub decay_all: bool,
    /// Momentum of SGD, beta1 of AdamW (one-cycle moves it by itself between `momentum_max` and
    /// `momentum_min`).
    pub momentum: f64,
    pub beta2: f64,
    pub schedule: Schedule,
    /// One-cycle: share of the steps with rising lr; lr starts at lr / div and ends at lr / div /
    /// final_div.
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
    /// Decay of the exponential moving average of the weights; 0: none. Validation and prediction
    /// use the average.
    pub ema: f64,
    pub sampling: Sampling,
    /// Exponent of `sampling = "balanced"`: weight of a sample = its rarest class's frequency ^
    /// -balance.
    pub balance: f64,
    /// Type of the numbers in which the network computes. With `auto` it is measured once, before
    /// the first step of a fold; checkpoints record the choice, so that resumed training and
    /// prediction compute in the same way.
    pub precision: Precision,
    /// Memory layout of images and kernels; `auto` as above.
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
    /// Which checkpoint is used afterwards: `best` (by validation mean average precision) or
    /// `last`.
    pub keep: Keep,
    /// Training uses at most this many samples; 0: all.
    pub max_samples: usize,
    /// Ranks with which `run` trains a fold, through mpirun. Ignored where you start the ranks
    /// yourself.
    pub ranks: usize,
    /// Batch norm takes its statistics over all ranks together (Ioffe & Szegedy 2015 over the whole
    /// forward pass) instead of each rank over its own samples.
    pub sync_bn: bool,
    /// Minutes after which the training stops at a checkpoint, as at a signal (exit code 75); 0: no
    /// limit.
    pub max_minutes: f64,
    /// Write a log for TensorBoard, too.
    pub tensorboard: bool,
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
