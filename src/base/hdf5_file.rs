//! How every HDF5 file is opened and made: without the library's locks, which fail on many network
//! and parallel file systems. Files here are replaced as a whole, which makes locks needless.

/// Options for opening or creating a file without a lock.
pub fn options() -> hdf5::file::FileBuilder {
    let mut options = hdf5::File::with_options();
    options.with_fapl(|p| p.file_locking(false));
    options
}

/// The library's variable, which precedes the options of a file, and its value for no locks.
pub const NO_LOCKS: (&str, &str) = ("HDF5_USE_FILE_LOCKING", "FALSE");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_locked_elsewhere_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.h5");
        options().create(&path).unwrap().close().unwrap();
        let held = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        held.lock().unwrap();
        options().open(&path).unwrap().close().unwrap();
        options().open_rw(&path).unwrap().close().unwrap();
    }
}
