//! What a task has fetched, and `failed-NNNNN.csv`, its list of the files that it could not fetch.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    TaskShare,
    ledger::{Ledger, tables},
};
use crate::base::{Error, Result, csv_file};

/// A file that could not be fetched: a row of `failed-NNNNN.csv`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FailedFile {
    pub file: String,
    pub url: String,
    pub reason: String,
    pub attempts: u32,
    /// The server does not have it, or has it broken; another run is of little use. Not in the
    /// table.
    #[serde(skip)]
    pub missing: bool,
}

/// The counts are of files.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Already in the ledger.
    pub present: usize,
    /// Already there but not in the ledger; checked and added to it.
    pub adopted: usize,
    pub fetched: usize,
    /// Bytes of the fetched ones.
    pub bytes: u64,
    /// In order of the file.
    pub failed: Vec<FailedFile>,
    /// Ids that are not images of the Atlas, and so were not requested.
    pub foreign: Vec<FailedFile>,
    /// The files that were reached, with any result.
    pub reached: HashSet<String>,
    /// What ended the work early, such as a signal.
    pub ended: Option<Error>,
}

fn read_failed(path: &Path) -> Vec<FailedFile> {
    csv::Reader::from_path(path).map_or(vec![], |mut reader| {
        reader.deserialize().filter_map(|row: csv::Result<_>| row.ok()).collect()
    })
}

/// The files that some task listed as failed in an earlier run.
pub fn failed_before(folder: &Path) -> HashSet<String> {
    let lists = tables(folder, "failed-");
    lists.iter().flatten().flat_map(|path| read_failed(path)).map(|row| row.file).collect()
}

impl Fetched {
    /// Writes the list of failures, even if it is empty. If the work ended early, it keeps the
    /// earlier rows of files that were not reached. If there is only one task, the lists of other
    /// tasks are removed, since it has done their work.
    pub fn write_failed(&self, ledger: &Ledger, share: TaskShare) -> Result<PathBuf> {
        let path = ledger.folder().join(format!("failed-{:05}.csv", share.task));
        let rows = || self.failed.iter().chain(&self.foreign);
        let listed: HashSet<&String> = rows().map(|row| &row.file).collect();
        let mut earlier = if self.ended.is_some() { read_failed(&path) } else { vec![] };
        earlier.retain(|row| !self.reached.contains(&row.file) && !listed.contains(&row.file));
        csv_file::write(&path, &["file", "url", "reason", "attempts"], rows().chain(&earlier))?;
        if share.tasks == 1 && self.ended.is_none() {
            for other in tables(ledger.folder(), "failed-")?.into_iter().filter(|p| *p != path) {
                let _ = fs::remove_file(other);
            }
        }
        Ok(path)
    }
}
