//! `folds.csv`: one row per sample that is kept, `id,group,fold`.

use std::{fmt::Write, fs, path::Path};

use crate::{
    base::{Error, Result, atomic_file},
    config::Split,
    data::{dedup::lists, shard::Store},
};

/// One row of `folds.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldRow {
    pub id: String,
    /// Samples with the same number stay together.
    pub group: usize,
    /// The folds in which the sample validates: one for a partition; none or several for shuffled
    /// hold-outs.
    pub folds: Vec<usize>,
}

/// Name of the table in the work folder.
pub const NAME: &str = "folds.csv";

/// What `folds.csv` was made from, and its own sum, beside it.
const ORIGIN: &str = "folds.json";

/// Reads `folds.csv` of a work folder, which must have been made from `store`, the duplicates at
/// hand and these settings.
///
/// # Errors
/// [`Error::Data`] names the line; a missing or outdated table says which job makes it.
pub fn read(work: &Path, store: &Store, split: &Split) -> Result<Vec<FoldRow>> {
    let rows = read_table(&work.join(NAME))?;
    let made = fs::read_to_string(work.join(ORIGIN)).unwrap_or_default();
    if made != origin(work, store, split)? {
        let what = "was made from other shards, other duplicates or with other split keys than \
            those at hand; run `atlas split` again";
        return Err(Error::data(work.join(NAME), what));
    }
    Ok(rows)
}

/// Writes `folds.csv` of a work folder and what it was made from.
pub fn write(work: &Path, store: &Store, split: &Split, rows: &[FoldRow]) -> Result<()> {
    write_table(&work.join(NAME), rows)?;
    atomic_file::write(work.join(ORIGIN), origin(work, store, split)?)
}

fn origin(work: &Path, store: &Store, split: &Split) -> Result<String> {
    let samples: String =
        (0..store.len()).map(|i| format!("{}:{}\n", store.id(i), store.labels(i))).collect();
    let duplicates = fs::read(work.join(lists::DUPLICATES)).unwrap_or_default();
    let table = fs::read(work.join(NAME)).unwrap_or_default();
    let sums = [samples.as_bytes(), &duplicates, &table]
        .map(|part| format!("{:016x}", atomic_file::checksum(part)));
    let text = serde_json::to_string_pretty(
        &serde_json::json!({ "samples": sums[0], "duplicates": sums[1], "table": sums[2], "split": split }),
    );
    Ok(text.map_err(Error::failed)? + "\n")
}

/// Reads a table by its own name.
pub fn read_table(path: &Path) -> Result<Vec<FoldRow>> {
    let text = fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::data(path, "the folds are not there; run `atlas split` first")
        }
        _ => Error::io("read", path)(e),
    })?;
    let mut lines = text.lines().enumerate();
    if lines.next().map(|l| l.1) != Some("id,group,fold") {
        return Err(Error::data(
            path,
            "expected the header id,group,fold; run `atlas split` again",
        ));
    }
    let row = |line: &str| {
        let mut parts = line.split(',');
        let (id, group, folds) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let folds = folds.split_whitespace().map(|f| f.parse().ok()).collect::<Option<_>>()?;
        (parts.next().is_none() && !id.is_empty()).then(|| FoldRow { id: id.into(), group, folds })
    };
    lines
        .map(|(i, line)| {
            row(line).ok_or_else(|| {
                Error::data(
                    path,
                    format!(
                        "line {}: `{line}` is not id,group,fold; run `atlas split` again",
                        i + 1
                    ),
                )
            })
        })
        .collect()
}

/// Writes a table, whole or not at all.
pub fn write_table(path: &Path, rows: &[FoldRow]) -> Result<()> {
    let mut text = String::from("id,group,fold\n");
    for row in rows {
        let folds = row.folds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "{},{},{folds}", row.id, row.group);
    }
    atomic_file::write(path, text)
}
