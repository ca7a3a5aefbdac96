//! The library of atlas: from the four-channel fluorescence images of the Human Protein Atlas to a
//! trained, scored classifier of 28 protein locations, several per image.
//!
//! Each folder is a stage and uses only the folders before it, in the order of this table and of
//! the declarations below; `tests/layering.rs` checks it. Read a folder's page first.
//! ARCHITECTURE.md has the way of one sample through all of them, and the reasons.
//!
//! | folder | holds |
//! |---|---|
//! | [`base`] | errors, atomic files, random streams, progress, task logs |
//! | [`config`] | one experiment as one TOML file |
//! | [`data`] | labels, manifest, images, perceptual hashes, shards, duplicates, folds |
//! | [`synth`] [`fetch`] | synthetic data; downloads |
//! | [`loading`] | order, augmentation and batches, ahead of the training step |
//! | [`distributed`] | devices, communicators, gradient synchronisation, watchdog |
//! | [`network`] | SE-ResNeXt, weights in and out, losses, optimisers |
//! | [`scoring`] | metrics, thresholds, prediction and submission files |
//! | [`training`] | run folder, checkpoints, the training of one fold |
//! | [`inference`] | predictions, Grad-CAM, submissions of a run |
//! | [`views`] | report, explorer, model card |
//! | [`operations`] | the state of a pipeline; checks of machine and allocation |
//!
//! The program in `jobs/` has one file per sub-command: it parses the command line, calls this
//! library and maps errors to exit codes.

#![warn(clippy::unwrap_used)] // tests may, see clippy.toml

pub mod base;
pub mod config;
pub mod data;
pub mod synth;
pub mod fetch;
pub mod loading;
pub mod distributed;
pub mod network;
pub mod scoring;
pub mod training;
pub mod inference;
pub mod views;
pub mod operations;

pub use base::{Error, Result};
