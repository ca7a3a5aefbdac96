//! Many files over a few connections.

use std::{
    fs,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::{
    FetchJob, Item,
    attempt_error::AttemptError,
    check,
    client::{Client, Credentials},
    fetched::{FailedFile, Fetched, failed_before},
    ledger::{Ledger, LedgerRow},
    transfer::Transfer,
};
use crate::base::{Error, Result, progress::Progress};

/// After so many failures in a row for another reason than a missing file, the job ends: the host
/// is down or refuses us.
const MAX_FAILURES_IN_A_ROW: usize = 20;

/// Fetches those of `items` that are not in the ledger's folder yet. `what` is the label of the
/// progress.
pub fn download(
    job: &FetchJob,
    ledger: &Ledger,
    items: &[Item],
    credentials: Option<Credentials>,
    what: &str,
) -> Fetched {
    let client = Client::new(job.config, credentials, job.stop);
    let progress = Progress::new(what, "files", items.len() as u64);
    // Files that failed in an earlier run come last, so that they do not keep others from coming.
    let failed = failed_before(ledger.folder());
    let mut items: Vec<&Item> = items.iter().collect();
    items.sort_by_key(|item| failed.contains(&item.file));
    let (config, max_side) = (job.config, job.max_side);
    let download = Download {
        transfer: Transfer { client: &client, config, max_side, progress: &progress },
        ledger,
        verify: job.verify,
        fetched: Mutex::default(),
        failed_in_a_row: AtomicUsize::new(0),
    };
    let (next, ended) = (AtomicUsize::new(0), OnceLock::new());
    thread::scope(|scope| {
        let work = || {
            while ended.get().is_none()
                && let Some(item) = items.get(next.fetch_add(1, Relaxed))
            {
                match download.one(item).and_then(|()| client.check_stop()) {
                    Ok(()) => progress.add(1),
                    Err(e) => drop(ended.set(e)),
                }
            }
        };
        let workers: Vec<_> =
            (0..config.connections.min(items.len())).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(|w| w.is_finished()) {
            client.shut_down_on_stop();
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut fetched = download.fetched.into_inner().unwrap_or_else(|e| e.into_inner());
    fetched.failed.sort();
    fetched.ended = ended.into_inner();
    fetched
}

struct Download<'a> {
    transfer: Transfer<'a>,
    ledger: &'a Ledger,
    verify: bool,
    fetched: Mutex<Fetched>,
    failed_in_a_row: AtomicUsize,
}

impl Download<'_> {
    /// Fetches one file if need be. An error ends the job.
    fn one(&self, item: &Item) -> Result<()> {
        if self.is_there(item)? {
            return Ok(());
        }
        match self.transfer.fetch(self.ledger.folder(), item) {
            Ok(row) => {
                self.failed_in_a_row.store(0, Relaxed);
                let mut fetched = self.reached(item);
                fetched.fetched += 1;
                fetched.bytes += row.bytes;
                drop(fetched);
                self.ledger.add(row)
            }
            Err((AttemptError::Fatal(e), _)) => Err(e),
            Err((error, attempts)) => self.failed(item, &error, attempts),
        }
    }

    fn failed(&self, item: &Item, error: &AttemptError, attempts: u32) -> Result<()> {
        let reason = error.to_string();
        log::debug!("{}: {reason}", item.url);
        self.reached(item).failed.push(FailedFile {
            file: item.file.clone(),
            url: item.url.clone(),
            reason: reason.clone(),
            attempts,
            missing: matches!(
                error,
                AttemptError::Missing(_) | AttemptError::Corrupt(_) | AttemptError::TooLarge(_)
            ),
        });
        // A corrupt file counts: a host that is down may answer every request with some page.
        if matches!(error, AttemptError::Missing(_)) {
            self.failed_in_a_row.store(0, Relaxed);
        } else if self.failed_in_a_row.fetch_add(1, Relaxed) + 1 == MAX_FAILURES_IN_A_ROW {
            return Err(Error::failed(format!(
                "{MAX_FAILURES_IN_A_ROW} files in a row failed, the last one {}: {reason}; run \
                 again later",
                item.url
            )));
        }
        Ok(())
    }

    fn reached(&self, item: &Item) -> MutexGuard<'_, Fetched> {
        let mut fetched = self.fetched.lock().unwrap_or_else(|e| e.into_inner());
        fetched.reached.insert(item.file.clone());
        fetched
    }

    /// Whether the file is already there, whole; if so, counts it and makes sure that the ledger
    /// has it.
    fn is_there(&self, item: &Item) -> Result<bool> {
        let path = self.ledger.folder().join(&item.file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        }
        if self.ledger.holds(&item.file, self.verify)? {
            self.reached(item).present += 1;
            return Ok(true);
        }
        let Ok(metadata) = fs::metadata(&path) else { return Ok(false) };
        if self.ledger.row(&item.file).is_some() {
            log::warn!(
                "{} is not what was fetched (its size or hash has changed); it is fetched again",
                path.display()
            );
            return Ok(false);
        }
        match check::content(item.kind, &path, self.transfer.max_side) {
            Ok(()) => {
                let (bytes, sha256) = (metadata.len(), check::sha256(&path)?);
                let (file, url) = (item.file.clone(), item.url.clone());
                self.reached(item).adopted += 1;
                self.ledger.add(LedgerRow { file, bytes, sha256, url, ..LedgerRow::default() })?;
                Ok(true)
            }
            Err(Error::Data { what, .. }) => {
                log::warn!("{}: {what}; it is fetched again", path.display());
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}
