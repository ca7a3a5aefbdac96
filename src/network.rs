//! The network and its training arithmetic.
//!
//! In: batches of normalised crops `[n, 4, h, w]` and their labels `[n, 28]`. Out: logits `[n, 28]`
//! ([`model`], [`predictor`]), the [`loss`] and, by [`optim`], new weights; [`weights`] reads and
//! writes them as files. The folder does not know about epochs, runs or scores.
//!
//! Read [`model`] first (then its `network` and `layers`), then [`loss`] and [`optim`]. Gradients
//! of several ranks meet in [`gradient_sync`](crate::distributed::gradient_sync); [`autograd`] has
//! the hooks that it needs, in C++.

pub mod autograd;
pub mod loss;
pub mod model;
pub mod optim;
pub mod predictor;
pub mod weights;
