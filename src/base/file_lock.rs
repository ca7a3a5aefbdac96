//! Locks that keep two processes from the same work. They are a comfort: where a file system has
//! none (NFS without lockd, Lustre without `-o flock`), the work goes on with one warning.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Locks `file`, called `path`, until it is dropped; false where another process holds it.
pub fn hold(file: &File, path: &Path) -> bool {
    is_held(file.try_lock(), path)
}

fn is_held(locked: Result<(), TryLockError>, path: &Path) -> bool {
    match locked {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(e)) => {
            warn_once(path, &e);
            true
        }
    }
}

fn warn_once(path: &Path, e: &io::Error) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Relaxed) {
        log::warn!(
            "{} cannot be locked ({e}): do not start the same fold or task twice at once (said \
             once, for all files)",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_missing_locks_are_not_in_the_way() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (first, second) = (file.reopen().unwrap(), file.reopen().unwrap());
        assert!(hold(&first, file.path()) && !hold(&second, file.path()));
        drop(first);
        assert!(hold(&second, file.path()));
        for code in [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL] {
            let refused = Err(TryLockError::Error(io::Error::from_raw_os_error(code)));
            assert!(is_held(refused, file.path()), "{code}");
        }
    }
}
