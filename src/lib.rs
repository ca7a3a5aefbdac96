//! atlas turns the Human Protein Atlas, four-channel fluorescence images with up to 28 protein locations each, into a
//! trained, scored multi-label classifier.
//!
//! The modules stand in the order in which a sample passes through them; each depends only on those before it.
//!
//! | step | modules | what happens |
//! |---|---|---|
//! | made data | [`synth`] | a made data set in the competition's layout, for tests and the demo |
//! | data in | [`labels`] [`manifest`] [`image`] [`phash`] [`shard`] | list the samples, decode, resize, hash, pack into HDF5 shards |
//! | real data | [`fetch`] | downloads from Kaggle and the Atlas |
//! | order | [`dedup`] [`folds`] | group near-duplicates, keep one of each, split into stratified folds |
//! | feed | [`sampler`] [`augment`] [`loader`] [`normalize`] | order, augment and batch samples ahead of the training step |
//! | network | [`model`] [`weights`] [`loss`] [`optim`] | SE-ResNeXt, its weights in and out, losses, optimisers and schedules |
//! | score | [`predictions`] [`metrics`] [`thresholds`] | probabilities in files, F1 and average precision, thresholds fitted and cross-fitted |
//! | ranks | [`comm`] [`exchange`] | several processes train one network: sums of gradients, a watchdog, who does what of a batch |
//! | training | [`results`] [`history`] [`tensorboard`] [`checkpoint`] [`infer`] [`activation`] [`train`] | one fold, resumable at any moment with bit-equal results |
//! | answer | [`predict`] [`submission`] [`finished`] [`submit`] [`status`] | crops and folds averaged, thresholds fitted out of fold, CSV files |
//! | look | [`report`] [`explore`] | a run on one page; its samples, errors and maps in a browser |
//! | given away | [`card`] | what there is to say of exported weights |
//!
//! Beside them: [`doctor`] (looks at machine, allocation and container), [`config`] (one TOML per experiment), [`artefact`] (atomic files, checksums), [`rng`] (randomness as a
//! pure function), [`error`] (messages and exit codes), [`progress`], [`picture`] and [`plot`] (samples and charts for people), [`device`] and [`autograd`] (what `tch` lacks),
//! [`stop`] (signals), [`tasks`] (what became of each task), [`fault`] (faults on purpose, for tests).
//!
//! The program in `jobs/` has one file per batch job; it parses the command line, calls this library and maps errors to
//! exit codes.

pub mod activation;
pub mod artefact;
pub mod augment;
pub mod autograd;
pub mod card;
pub mod checkpoint;
pub mod comm;
pub mod config;
pub mod dedup;
pub mod device;
pub mod doctor;
pub mod error;
pub mod exchange;
pub mod explore;
pub mod fault;
pub mod fetch;
pub mod finished;
pub mod folds;
pub mod history;
pub mod image;
pub mod infer;
pub mod labels;
pub mod loader;
pub mod loss;
pub mod manifest;
pub mod metrics;
pub mod model;
pub mod normalize;
pub mod optim;
pub mod phash;
pub mod picture;
pub mod plot;
pub mod predict;
pub mod predictions;
pub mod progress;
pub mod report;
pub mod results;
pub mod rng;
pub mod sampler;
pub mod shard;
pub mod status;
pub mod stop;
pub mod submission;
pub mod submit;
pub mod synth;
pub mod tasks;
pub mod tensorboard;
pub mod thresholds;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
