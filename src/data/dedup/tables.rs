//! The tables that `dedup` writes into the work folder, and how later steps read them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::base::{Result, csv_file};

/// Groups of at least two near-duplicates: a [`DuplicateRow`] per member.
pub const DUPLICATES: &str = "duplicates.csv";
/// Groups whose members have different labels: a [`ConflictRow`] per member.
pub const CONFLICTS: &str = "conflicts.csv";
/// Training samples that are also in the test set: a [`LeakRow`] per match. They stay in training;
/// this list serves to score without them.
pub const LEAKS: &str = "leaks.csv";

/// A row of `duplicates.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DuplicateRow {
    pub id: String,
    /// Id of the group's first member.
    pub group: String,
    #[serde(with = "zero_or_one")]
    pub kept: bool,
    /// Id of the member that is kept.
    pub of: String,
    /// Hamming distances to that one's hashes in bits.
    pub red: u32,
    pub green: u32,
    pub blue: u32,
    /// Correlation with that one, four decimals; empty where they have no contrast in common.
    pub correlation: String,
}

/// A row of `conflicts.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictRow {
    /// Id of the group's first member.
    pub group: String,
    pub id: String,
    #[serde(with = "zero_or_one")]
    pub kept: bool,
    /// Class numbers separated by blanks.
    pub labels: String,
}

/// A row of `leaks.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakRow {
    /// Ids of the two samples.
    pub train: String,
    pub test: String,
    /// Hamming distances of their hashes in bits.
    pub red: u32,
    pub green: u32,
    pub blue: u32,
    pub correlation: String,
    /// Whether the training sample stays in training.
    #[serde(with = "zero_or_one")]
    pub kept: bool,
}

/// The content of all three tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    pub duplicates: Vec<DuplicateRow>,
    pub conflicts: Vec<ConflictRow>,
    pub leaks: Vec<LeakRow>,
}

impl Tables {
    /// Writes the tables into a work folder.
    pub fn write(&self, work: &Path) -> Result<()> {
        let header = ["id", "group", "kept", "of", "red", "green", "blue", "correlation"];
        csv_file::write(&work.join(DUPLICATES), &header, &self.duplicates)?;
        let header = ["group", "id", "kept", "labels"];
        csv_file::write(&work.join(CONFLICTS), &header, &self.conflicts)?;
        let header = ["train", "test", "red", "green", "blue", "correlation", "kept"];
        csv_file::write(&work.join(LEAKS), &header, &self.leaks)
    }

    /// Reads the tables of a work folder; `None` where `dedup` was not run.
    ///
    /// # Errors
    /// Data names the line that is not as `dedup` wrote it.
    pub fn read(work: &Path) -> Result<Option<Self>> {
        if !work.join(DUPLICATES).exists() {
            return Ok(None);
        }
        Ok(Some(Self {
            duplicates: csv_file::read(&work.join(DUPLICATES), "dedup")?,
            conflicts: csv_file::read(&work.join(CONFLICTS), "dedup")?,
            leaks: csv_file::read(&work.join(LEAKS), "dedup")?,
        }))
    }
}

/// What later steps need of `duplicates.csv`.
#[derive(Clone, Debug, Default)]
pub struct Duplicates {
    /// By id, the id of the first member of its group; samples without a duplicate are not listed.
    pub group: HashMap<String, String>,
    /// Ids that do not stay.
    pub removed: HashSet<String>,
}

impl Duplicates {
    /// Reads `duplicates.csv` at `path`.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut duplicates = Self::default();
        for row in csv_file::read::<DuplicateRow>(path, "dedup")? {
            if !row.kept {
                duplicates.removed.insert(row.id.clone());
            }
            duplicates.group.insert(row.id, row.group);
        }
        Ok(duplicates)
    }
}

/// A bool as 0 or 1.
mod zero_or_one {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &bool, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(u8::from(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        match u8::deserialize(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(D::Error::custom(format!("{other} instead of 0 or 1"))),
        }
    }
}
