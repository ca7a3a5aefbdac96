//! Randomness as a pure function of its purpose. There is no state that a checkpoint would have to
//! save: order, augmentation and dropout of a sample do not depend on rank, world size, worker
//! thread or restarts.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use twox_hash::XxHash3_64;

/// The generator used everywhere; its stream is fixed by its algorithm, not by a crate's version.
pub type Rng = Xoshiro256PlusPlus;

/// What random numbers are drawn for; two uses never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Use {
    Order = 1,
    Augment = 2,
    Dropout = 3,
    Init = 4,
    Split = 5,
    Synth = 6,
    Bootstrap = 7,
}

/// The generator of one (use, seed, epoch, index).
pub fn stream(purpose: Use, seed: u64, epoch: u64, index: u64) -> Rng {
    let mut key = [0u8; 32];
    for (slot, value) in key.chunks_exact_mut(8).zip([purpose as u64, seed, epoch, index]) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    Rng::seed_from_u64(XxHash3_64::oneshot(&key))
}
