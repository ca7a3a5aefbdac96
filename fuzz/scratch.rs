//! The folder of this process for the files of readers that take a path.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

pub fn set(folder: &Path) {
    FOLDER.get_or_init(|| folder.to_path_buf());
}

/// A path in the folder.
pub fn path(name: &str) -> PathBuf {
    FOLDER.get().expect("set before any target runs").join(name)
}

/// A folder in it, made if need be.
pub fn folder(name: &str) -> PathBuf {
    let path = path(name);
    fs::create_dir_all(&path).expect("a folder in the scratch folder");
    path
}

/// A file in it with this content.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder in the scratch folder");
    }
    fs::write(&path, bytes).expect("a file in the scratch folder");
    path
}
