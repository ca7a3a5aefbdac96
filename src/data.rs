//! TODO

pub mod contact_sheet;
pub mod dedup;
pub mod folds;
pub mod image;
pub mod labels;
pub mod manifest;
pub mod phash;
pub mod shard;
pub mod work_folder;
