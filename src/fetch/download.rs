//! Many files over a few connections.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::{Client, Failure, Item, Ledger, Row, check, ledger::tables, transfer::Transfer};
use crate::{
    base::{Error, Result, atomic_file, progress::Progress},
    config::Fetch,
};

/// So many files in a row that fail for another reason than that the server lacks them end the job:
/// the host is down, or does not want us.
const IN_A_ROW: usize = 20;

/// A file that could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failed {
    pub file: String,
    pub url: String,
    pub reason: String,
    pub attempts: u32,
    /// The server does not have it, or has it broken; to run again is of little use.
    pub missing: bool,
}

/// What became of the files.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Were there, as the ledger says.
    pub present: usize,
    /// Were there and new to the ledger; they were looked at and taken in.
    pub adopted: usize,
    pub fetched: usize,
    /// Of the fetched ones.
    pub bytes: u64,
    /// In order of the file.
    pub failed: Vec<Failed>,
    /// Ids that are no image of the Atlas; not asked for.
    pub foreign: Vec<Failed>,
    /// The files that were reached, whatever became of them.
    pub reached: HashSet<String>,
}

impl Fetched {
    /// Failures because the server lacks the file (`true`), and the others.
    pub fn count(&self, missing: bool) -> usize {
        self.failed.iter().filter(|f| f.missing == missing).count()
    }
}

/// Fetches what is not yet in `ledger`'s folder. With `verify`, files that are there are hashed
/// again.
///
/// The second part is what ended the work before its end, such as a signal.
pub fn fetch(
    client: &Client,
    config: &Fetch,
    ledger: &Ledger,
    items: &[Item],
    max_side: u32,
    verify: bool,
    progress: &Progress,
) -> (Fetched, Option<Error>) {
    // What failed the last time comes last, so that it does not keep the rest from coming.
    let listed: HashSet<String> = tables(ledger.folder(), "failed-")
        .iter()
        .flatten()
        .flat_map(|path| read_failed(path))
        .map(|row| row.0)
        .collect();
    let mut items: Vec<&Item> = items.iter().collect();
    items.sort_by_key(|item| listed.contains(&item.file));
    let transfer = Transfer { client, config, max_side, progress };
    let (next, in_a_row) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (done, ended) = (Mutex::new(Fetched::default()), OnceLock::new());
    let one = |item: &Item| -> Result<()> {
        let found = present(ledger, item, max_side, verify)?;
        let outcome = match found {
            Found::No => transfer.fetch(ledger.folder(), item),
            _ => Err((Failure::Again(String::new()), 0)),
        };
        let mut done = done.lock().unwrap_or_else(|e| e.into_inner());
        if !matches!(outcome, Err((Failure::End(_), _))) {
            done.reached.insert(item.file.clone());
        }
        let (failure, attempts) = match (found, outcome) {
            (Found::Listed, _) => {
                done.present += 1;
                return Ok(());
            }
            (Found::New(row), _) => {
                done.adopted += 1;
                return ledger.add(row);
            }
            (Found::No, Ok(row)) => {
                in_a_row.store(0, Relaxed);
                (done.fetched, done.bytes) = (done.fetched + 1, done.bytes + row.bytes);
                return ledger.add(row);
            }
            (Found::No, Err((Failure::End(e), _))) => return Err(e),
            (Found::No, Err(failed)) => failed,
        };
        let missing = matches!(failure, Failure::Missing(_) | Failure::Bad(_));
        let reason = failure.to_string();
        log::debug!("{}: {reason}", item.url);
        done.failed.push(Failed {
            file: item.file.clone(),
            url: item.url.clone(),
            reason: reason.clone(),
            attempts,
            missing,
        });
        // A page with status 200 for whatever is asked for is a host that is down, too.
        if matches!(failure, Failure::Missing(_)) {
            in_a_row.store(0, Relaxed);
        } else if in_a_row.fetch_add(1, Relaxed) + 1 == IN_A_ROW {
            return Err(Error::failed(format!(
                "{IN_A_ROW} files in a row failed, the last one {}: {reason}; run again later",
                item.url
            )));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let work = || {
            while ended.get().is_none()
                && let Some(item) = items.get(next.fetch_add(1, Relaxed))
            {
                match one(item).and_then(|()| {
                    client
                        .go_on()
                        .map_err(|_| Error::Stopped("stopped; run it again to go on".into()))
                }) {
                    Ok(()) => progress.add(1),
                    Err(e) => drop(ended.set(e)),
                }
            }
        };
        let workers: Vec<_> =
            (0..config.connections.min(items.len())).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(|w| w.is_finished()) {
            client.stopping();
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.failed.sort();
    (done, ended.into_inner())
}

/// Whether a file is there already.
enum Found {
    No,
    Listed,
    New(Row),
}

fn present(ledger: &Ledger, item: &Item, max_side: u32, verify: bool) -> Result<Found> {
    let path = ledger.folder().join(&item.file);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    }
    if ledger.holds(&item.file, verify)? {
        return Ok(Found::Listed);
    }
    let Ok(metadata) = fs::metadata(&path) else { return Ok(Found::No) };
    if ledger.row(&item.file).is_some() {
        log::warn!(
            "{} is not what was fetched (its size or hash has changed); it is fetched again",
            path.display()
        );
        return Ok(Found::No);
    }
    match check::content(item.kind, &path, max_side) {
        Ok(()) => {
            let (bytes, sha256) = (metadata.len(), check::sha256(&path)?);
            Ok(Found::New(Row {
                file: item.file.clone(),
                bytes,
                sha256,
                url: item.url.clone(),
                validator: String::new(),
            }))
        }
        Err(Error::Data { what, .. }) => {
            log::warn!("{}: {what}; it is fetched again", path.display());
            Ok(Found::No)
        }
        Err(e) => Err(e),
    }
}

/// A row of `failed-NNNNN.csv`: file, url, reason, attempts.
type FailedRow = (String, String, String, String);

fn read_failed(path: &Path) -> Vec<FailedRow> {
    csv::Reader::from_path(path).map_or(vec![], |mut reader| {
        reader.deserialize().filter_map(|row: csv::Result<_>| row.ok()).collect()
    })
}

/// Writes `failed-NNNNN.csv` (`file,url,reason,attempts`) of this task, also when there is nothing
/// to list. What stood there of files that were not reached before the work `ended` stays. The only
/// task of all removes the lists of others, which it has done the work of.
pub fn write_failed(
    ledger: &Ledger,
    done: &Fetched,
    ended: bool,
    (task, tasks): (usize, usize),
) -> Result<PathBuf> {
    let path = ledger.folder().join(format!("failed-{task:05}.csv"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["file", "url", "reason", "attempts"]).map_err(Error::failed)?;
    let new =
        |f: &Failed| (f.file.clone(), f.url.clone(), f.reason.clone(), f.attempts.to_string());
    let mut rows: Vec<FailedRow> = done.failed.iter().chain(&done.foreign).map(new).collect();
    if ended {
        let listed: HashSet<String> = rows.iter().map(|r| r.0.clone()).collect();
        rows.extend(
            read_failed(&path)
                .into_iter()
                .filter(|r| !done.reached.contains(&r.0) && !listed.contains(&r.0)),
        );
    }
    for row in rows {
        writer.serialize(row).map_err(Error::failed)?;
    }
    atomic_file::write(&path, writer.into_inner().map_err(Error::failed)?)?;
    if tasks == 1 && !ended {
        for other in tables(ledger.folder(), "failed-")?.into_iter().filter(|p| *p != path) {
            let _ = fs::remove_file(other);
        }
    }
    Ok(path)
}
