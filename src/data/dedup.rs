//! Near-duplicates: found by perceptual hashes ([`search`]), confirmed on pixels ([`thumb`]),
//! grouped transitively, one of each group kept ([`decide`]), written to [`tables`]. [`job`] puts
//! these steps together for a work folder.

pub mod decide;
pub mod hash_csv;
pub mod job;
pub mod search;
pub mod tables;
pub mod thumb;

mod parts;
mod union;

pub use tables::DUPLICATES;
pub use union::UnionFind;
