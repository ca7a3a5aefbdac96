//! phash
