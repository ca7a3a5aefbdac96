//! SE-ResNeXt on flat arenas: takes a batch of crops from the [`loader`](crate::loading::loader)
//! and gives the logits that the [`loss`](crate::network::loss) takes.
//!
//! All parameters are in one flat tensor (f32), all gradients in a second, the running statistics
//! of batch norm in a third; the layers use views of them under timm's names. Optimiser, clipping,
//! averaging and checkpoints work on the flat tensors.
//!
//! Read `network` (the whole) and `layers` (the architecture) first. Each module uses only those
//! before it in the list below.

mod arch;
mod compute_mode;
mod parameter_arena;
mod plan;
mod packed;
mod pass;
mod layers;
mod spec;
mod network;
mod folded;

pub use self::{
    arch::{ARCHS, Arch},
    compute_mode::{ComputeMode, Precision},
    folded::Folded,
    network::Network,
    parameter_arena::Slot,
    pass::{DropKeys, EPS, Mode, Norms},
    spec::{CHANNELS, CLASS_COUNT, Spec},
};
