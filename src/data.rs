//! From image files to shards, groups of near-duplicates and folds: everything that depends on the
//! data alone and not on a network.
//!
//! In: the competition's folder and the external folder (images in four channels, tables of
//! labels). Out, all in `paths.work`: `manifest.csv` and `plan.json` ([`manifest`]), HDF5 shards of
//! u8 images `[n, h, w, 4]` with labels and perceptual hashes ([`shard`]), `duplicates.csv` and its
//! neighbours ([`dedup`]), `folds.csv` ([`folds`]).
//!
//! Read first: [`manifest`] (what a sample is, and the order in which all jobs see samples),
//! [`shard`] (the file format) and [`work_folder`] (how later jobs read all of it). [`image`]
//! decodes one channel of a file, [`phash`] hashes it, [`labels`] are the 28 classes.

pub mod contact_sheet;
pub mod dedup;
pub mod folds;
pub mod image;
pub mod labels;
pub mod manifest;
pub mod phash;
pub mod shard;
pub mod work_folder;
