//! Downloads the data: the competition's files from Kaggle ([`kaggle`]), the external images and
//! their table from the Human Protein Atlas ([`external`]).
//!
//! In: the addresses in `[fetch]` of the configuration and, for external images, a table of ids.
//! Out, in the data folder: the files, `fetched-NNNNN.csv` ([`Ledger`]: the files that are there)
//! and `failed-NNNNN.csv` (those that could not be fetched), where NNNNN is the task.
//!
//! A file is downloaded as `NAME.part`, resumed if the server confirms that it is still the same
//! file, checked (no error page, not truncated, an image that decodes), and only then renamed.
//!
//! Read [`kaggle`] and [`external`] first, then `download` (many files), `transfer` (one file) and
//! `client` (one request) and `certificates` (whom it trusts).

use std::path::{Path, PathBuf};

use crate::{base::stop_request::Stop, config};

mod address;
mod attempt_error;
mod certificates;
mod check;
mod client;
mod download;
pub mod external;
mod fetched;
pub mod kaggle;
mod ledger;
mod part;
mod rate_limit;
mod redirect;
mod summary;
mod transfer;
mod unpack;
mod xml;

pub use ledger::Ledger;
pub use summary::FetchSummary;
pub use unpack::{UnpackTarget, unpack};
pub use xml::{AtlasImages, read_atlas};

/// The work of one task of `atlas fetch`.
#[derive(Clone, Copy)]
pub struct FetchJob<'a> {
    pub config: &'a config::Fetch,
    /// The data folder, which also holds the ledger.
    pub folder: &'a Path,
    /// Largest width or height of an image in pixels.
    pub max_side: u32,
    /// Hash the files that are already there, and fetch those that have changed.
    pub verify: bool,
    pub share: TaskShare,
    pub stop: &'a Stop,
}

/// Task `task` of `tasks` does the items `task`, `task + tasks`, and so on.
#[derive(Clone, Copy, Debug)]
pub struct TaskShare {
    pub task: usize,
    pub tasks: usize,
}

impl TaskShare {
    fn select<T>(self, items: Vec<T>) -> Vec<T> {
        items.into_iter().skip(self.task).step_by(self.tasks).collect()
    }
}

/// What a file must be to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    /// A complete JPEG or PNG that decodes.
    Image,
    /// A CSV with a column `Id`; Kaggle may pack it into a zip of its own.
    Table,
    /// A zip with a readable directory.
    Archive,
    /// The Atlas as XML, gzipped or not.
    Xml,
}

/// One file to fetch.
#[derive(Clone, Debug)]
struct Item {
    /// Its path within the data folder.
    file: String,
    url: String,
    kind: FileKind,
}

/// `path` with `suffix` appended to its name, such as `.part`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}
