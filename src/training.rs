//! The training of one fold. In: the shards and folds of the data, the configuration, and the ranks
//! that train together ([`World`](crate::distributed::World)). Out: the folder of a fold in a run:
//! weights, checkpoints, logs and out-of-fold predictions.
//!
//! Read `train` first: the training from start to end. Then `epoch`: the steps of an epoch and what
//! follows them; `train_step` and `backward`: one step, up to where gradients are handed to
//! [`gradient_sync`](crate::distributed::gradient_sync); `session`: what a training carries from
//! step to step, and how it becomes a checkpoint and back; `validation`.
//!
//! Around it: `run_choice` finds the run that a job works on (`run_identity` says which trainings
//! belong to one), `run_folder` is its folder (`provenance` records where it comes from),
//! `fold_data` chooses the samples of a fold, `fold_status` tells which folds are done,
//! `fold_weights` whether weights are of the fold and run in whose folder they are (by their
//! `origin`);
//! `checkpoint`, `history`, `event_file` and `tensorboard_log` are the files; `meter` and
//! `terminal_view` report the speed; `auto_compute_mode` measures what `auto` stands for; `find_lr`
//! is the learning-rate range test.

mod auto_compute_mode;
pub mod backward;
pub mod checkpoint;
mod epoch;
pub mod event_file;
pub mod find_lr;
mod find_lr_chart;
pub mod fold_data;
pub mod fold_status;
pub mod fold_weights;
pub mod history;
mod meter;
mod origin;
mod provenance;
pub mod run_choice;
pub mod run_folder;
mod run_identity;
mod session;
mod tensorboard_log;
mod terminal_view;
pub mod train;
mod train_step;
pub mod trained_network;
mod validation;
