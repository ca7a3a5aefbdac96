//! Near-duplicates: found by perceptual hashes, confirmed on pixels, grouped transitively.

mod union;

pub use union::UnionFind;
