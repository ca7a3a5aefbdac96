//! Threads for the work of a job, or an error that names the key and the limit.

use std::{error::Error as _, sync::RwLock, thread};

use super::{Error, Result};

/// A pool of `threads` threads.
///
/// # Errors
/// Failed where the system refuses them.
pub fn start(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| refused(threads, &e))
}

/// Starts the pool of what has no pool of its own, and tries whether the system gives this process
/// `threads` more threads, before a library starts them that ends the process where it does not.
///
/// # Errors
/// As [`start`].
pub fn check(threads: usize) -> Result<()> {
    if let Err(e) = rayon::ThreadPoolBuilder::new().build_global()
        && e.source().is_some()
    {
        return Err(refused(threads, &e)); // without a source: it runs already
    }
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let _closed = gate.write();
        let start = || thread::Builder::new().spawn_scoped(scope, || drop(gate.read()));
        (0..threads).try_for_each(|_| start().map(drop)).map_err(|e| refused(threads, &e))
    })
}

/// What to do where a thread could not be started.
pub const MORE_THREADS: &str =
    "lower `threads`, or raise the limits of processes (ulimit -u) and memory";

fn refused(threads: usize, why: &impl std::fmt::Display) -> Error {
    Error::failed(format!("cannot start {threads} threads ({why}); {MORE_THREADS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_there_cannot_be_are_an_error_that_names_the_key() {
        assert!(check(3).is_ok());
        // A stack larger than any memory.
        let e = thread::Builder::new().stack_size(1 << 60).spawn(|| ()).map_err(|e| refused(3, &e));
        let e = e.unwrap_err().to_string();
        assert!(["3 threads", "`threads`", "ulimit -u"].iter().all(|part| e.contains(part)), "{e}");
    }
}
