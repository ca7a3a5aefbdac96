//! Near-duplicates: found by perceptual hashes ([`search`]), confirmed on pixels ([`thumb`]),
//! grouped transitively, one of each group kept ([`decide`]), written down with everything that a
//! person should look at ([`report`]).

pub mod decide;
mod parts;
pub mod lists;
pub mod search;
pub mod table;
pub mod thumb;

mod union;

pub use union::UnionFind;
