//! `folds.csv`: one row per sample that is kept, `id,group,fold`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, Result, atomic_file, checksum, csv_file},
    config::Split,
    data::{dedup::DUPLICATES, shard::Store},
};

/// One row of `folds.csv`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldRow {
    pub id: String,
    /// Samples with the same number stay together.
    pub group: usize,
    /// The folds in which the sample validates, separated by blanks in the file: one for a
    /// partition; none or several for shuffled hold-outs.
    #[serde(rename = "fold", with = "spaced")]
    pub folds: Vec<usize>,
}

/// Name of the table in the work folder.
pub const NAME: &str = "folds.csv";

/// File beside the table with the checksums of what the table was made from, and its own.
const ORIGIN: &str = "folds.json";

/// `folds.csv` of a work folder with what is needed to check that it is up to date.
#[derive(Debug)]
pub struct FoldTable {
    path: PathBuf,
    rows: Vec<FoldRow>,
    /// Content of `folds.json`.
    recorded: String,
    /// What `folds.json` would record now, but for the settings.
    sums: Sums,
}

/// Checksums of what folds depend on.
#[derive(Debug)]
struct Sums {
    samples: String,
    duplicates: String,
    table: String,
}

impl FoldTable {
    /// Reads the folds of a work folder; `store` is its training part.
    ///
    /// # Errors
    /// [`Error::Data`] names the line that is broken; where the table is missing, the job that
    /// makes it.
    pub fn read(work: &Path, store: &Store) -> Result<Self> {
        let path = work.join(NAME);
        let rows = read_table(&path)?;
        let recorded = fs::read_to_string(work.join(ORIGIN)).unwrap_or_default();
        Ok(Self { path, rows, recorded, sums: Sums::of(work, store) })
    }

    /// The rows, if they were made from the shards and duplicates at hand with these settings.
    ///
    /// # Errors
    /// [`Error::Data`] where they were not.
    pub fn rows(&self, split: &Split) -> Result<&[FoldRow]> {
        if self.recorded != self.sums.with(split)? {
            let what = "was made from other shards, other duplicates or with other split keys than \
                those at hand; run `atlas split` again";
            return Err(Error::data(&self.path, what));
        }
        Ok(&self.rows)
    }
}

/// Writes `folds.csv` of a work folder and what it was made from.
pub fn write(work: &Path, store: &Store, split: &Split, rows: &[FoldRow]) -> Result<()> {
    write_table(&work.join(NAME), rows)?;
    atomic_file::write(work.join(ORIGIN), Sums::of(work, store).with(split)?)
}

impl Sums {
    fn of(work: &Path, store: &Store) -> Self {
        let samples: String =
            (0..store.len()).map(|i| format!("{}:{}\n", store.id(i), store.labels(i))).collect();
        let file = |name: &str| fs::read(work.join(name)).unwrap_or_default();
        let [samples, duplicates, table] = [samples.into_bytes(), file(DUPLICATES), file(NAME)]
            .map(|part| format!("{:016x}", checksum::of(&part)));
        Self { samples, duplicates, table }
    }

    /// The content of `folds.json`.
    fn with(&self, split: &Split) -> Result<String> {
        let Self { samples, duplicates, table } = self;
        let value = serde_json::json!({
            "samples": samples, "duplicates": duplicates, "table": table, "split": split,
        });
        Ok(serde_json::to_string_pretty(&value).map_err(Error::failed)? + "\n")
    }
}

/// Reads a table by its own name.
///
/// # Errors
/// As [`FoldTable::read`].
pub fn read_table(path: &Path) -> Result<Vec<FoldRow>> {
    csv_file::read(path, "split")
}

/// Writes a table, whole or not at all.
pub fn write_table(path: &Path, rows: &[FoldRow]) -> Result<()> {
    csv_file::write(path, &["id", "group", "fold"], rows)
}

/// Numbers separated by blanks in one field.
mod spaced {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(numbers: &[usize], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
        let text = String::deserialize(from)?;
        text.split_whitespace().map(|n| n.parse().map_err(D::Error::custom)).collect()
    }
}
