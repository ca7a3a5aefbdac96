//! From shards to the batches that a network takes.
//!
//! In: stored images u8 `[size, size, 4]`, labels, the order of an epoch. Out: batches of augmented
//! views u8 `[n, side, side, 4]`, and their normalised form f32 `[n, 4, side, side]`. All of it is
//! a function of seed, epoch and position in the epoch, whatever the number of threads and ranks.
//!
//! Read first: [`sampler`] (which samples an epoch draws), then [`loader`] (worker threads that
//! make batches ahead of their use). [`augment`] makes the views, [`normalization`] scales the
//! channels.

pub mod augment;
pub mod loader;
pub mod normalization;
pub mod sampler;
