//! The data onto this machine: the competition's files from Kaggle, the external images from the
//! Human Protein Atlas.
//!
//! A file is downloaded under the name `NAME.part`, resumed where the server says that it is still
//! the same file, looked at (no error page, not cut short, a picture that decodes) and only then
//! renamed. What was fetched stands in `fetched-NNNNN.csv` ([`Ledger`]) of the data folder, what
//! could not be fetched in `failed-NNNNN.csv`; NNNNN is the task.

use std::{
    fmt,
    path::{Path, PathBuf},
};

mod address;
mod check;
mod client;
pub mod kaggle;
mod ledger;
mod run;
mod transfer;
mod unpack;
mod xml;

pub use address::images;
pub use check::is_zip;
pub use client::{Client, Credentials};
pub use ledger::{Ledger, Row};
pub use run::{Failed, Fetched, fetch, write_failed};
pub use unpack::{Target, unpack};
pub use xml::{Atlas, read_atlas};

use crate::base::Error;

/// What a file must be to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JPEG or PNG, whole, and it decodes.
    Picture,
    /// A CSV with a column `Id`; Kaggle may pack it into a zip of its own.
    Table,
    /// A zip with a readable directory.
    Archive,
    /// The Atlas as XML, gzipped or not.
    Xml,
}

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its path within the data folder.
    pub file: String,
    pub url: String,
    pub kind: Kind,
}

/// Why one attempt brought no file.
#[derive(Debug)]
enum Failure {
    /// May go better the next time.
    Again(String),
    /// What came is not the file; may go better the next time.
    Bad(String),
    /// The server does not have it (400, 404, 410).
    Missing(String),
    /// The server does not give it (another status); to ask again at once would not help.
    Refused(String),
    /// Ends the whole job.
    End(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again(what) | Self::Bad(what) | Self::Missing(what) | Self::Refused(what) => {
                f.write_str(what)
            }
            Self::End(e) => e.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::End(e)
    }
}

/// `path` with something behind its name, such as `.part`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}
