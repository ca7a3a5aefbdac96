//! The result of one task of `atlas fetch`.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::{TaskShare, fetched::Fetched, ledger::Ledger};
use crate::base::{Error, Result};

/// The fields that are serialised are the job's JSON; the counts are of files.
#[derive(Debug, Serialize)]
pub struct FetchSummary {
    task: usize,
    tasks: usize,
    /// Of this task.
    files: usize,
    /// Present, adopted and fetched ones together.
    there: usize,
    present: usize,
    adopted: usize,
    fetched: usize,
    /// Bytes of the fetched ones.
    bytes: u64,
    /// Not on the server, or broken there.
    missing: usize,
    /// Failed for another reason.
    failed: usize,
    ledger: PathBuf,
    /// The list of files that could not be fetched.
    failures: PathBuf,
    #[serde(flatten)]
    of_source: SourceCount,
    /// How many may be missing.
    #[serde(skip)]
    allowed_missing: usize,
    /// The first missing and the first failed file, with the reason.
    #[serde(skip)]
    examples: [String; 2],
    #[serde(skip)]
    ended: Option<Error>,
}

/// What only one of the sources counts.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceCount {
    /// Files unpacked from Kaggle's zips.
    Unpacked(usize),
    /// Ids that are not images of the Atlas.
    Refused(usize),
}

impl FetchSummary {
    /// Of `files` files of a task, of which `allowed_missing` may be missing; writes the list of
    /// failures.
    pub(super) fn new(
        share: TaskShare,
        ledger: &Ledger,
        files: usize,
        done: Fetched,
        allowed_missing: usize,
        of_source: SourceCount,
    ) -> Result<Self> {
        let failures = done.write_failed(ledger, share)?;
        let (missing, failed): (Vec<_>, Vec<_>) = done.failed.iter().partition(|f| f.missing);
        let examples = [&missing, &failed].map(|files| {
            files.first().map_or(String::new(), |f| format!("{}: {}", f.file, f.reason))
        });
        Ok(Self {
            task: share.task,
            tasks: share.tasks,
            files,
            there: done.present + done.adopted + done.fetched,
            present: done.present,
            adopted: done.adopted,
            fetched: done.fetched,
            bytes: done.bytes,
            missing: missing.len(),
            failed: failed.len(),
            ledger: ledger.path().into(),
            failures,
            of_source,
            allowed_missing,
            examples,
            ended: done.ended,
        })
    }

    /// Whether all files are there that have to be.
    pub fn is_complete(&self) -> bool {
        self.ended.is_none() && self.failed == 0 && self.missing <= self.allowed_missing
    }

    /// Success only if it is complete.
    ///
    /// # Errors
    /// Data, if too many files are missing; Stopped; Usage, if the credentials are wrong; else
    /// Failed.
    pub fn into_result(self) -> Result<()> {
        let Self { files, there, missing, failed, .. } = self;
        let [first_missing, first_failed] = self.examples;
        let list = self.failures.display();
        match self.ended {
            Some(Error::Stopped(_)) => Err(Error::Stopped(format!(
                "stopped with {there} of {files} files there; run it again to go on"
            ))),
            Some(e) => Err(e),
            None if failed > 0 => Err(Error::failed(format!(
                "{failed} of {files} files could not be fetched ({first_failed}); they are listed \
                 in {list}; run it again to fetch them"
            ))),
            None if missing > self.allowed_missing => {
                let what = format!(
                    "{missing} of {files} files are missing on the server ({first_missing}), {} \
                     may be missing; check the ids and the addresses in [fetch]",
                    self.allowed_missing
                );
                Err(Error::data(&self.failures, what))
            }
            None => {
                if missing > 0 {
                    log::warn!(
                        "{missing} files are missing on the server ({first_missing}); they are \
                         listed in {list}"
                    );
                }
                Ok(())
            }
        }
    }
}

/// The text for a person, of three lines.
impl fmt::Display for FetchSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, there, present, adopted, fetched, missing, failed, .. } = self;
        let of_source = match self.of_source {
            SourceCount::Unpacked(n) => format!("{n} files unpacked"),
            SourceCount::Refused(n) => format!("{n} ids are not images of the Atlas"),
        };
        let megabytes = self.bytes as f64 / 1e6;
        write!(
            f,
            "{there} of {files} files are there: {fetched} fetched ({megabytes:.1} MB), {adopted} \
             found in place, {present} known; {of_source}\n\
             {missing} that the server lacks and {failed} that failed are listed in {}\n\
             wrote {}",
            self.failures.display(),
            self.ledger.display(),
        )
    }
}
