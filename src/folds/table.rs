//! `folds.csv`: one row per sample that is kept, `id,group,fold`.

use std::{fmt::Write, fs, path::Path};

use crate::{
    artefact,
    error::{Error, Result},
};

/// One row of `folds.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldRow {
    pub id: String,
    /// Samples with the same number stay together.
    pub group: usize,
    /// The folds in which the sample validates: one for a partition; none or several for shuffled hold-outs.
    pub folds: Vec<usize>,
}

/// Name of the table in the work folder.
pub const NAME: &str = "folds.csv";

/// Reads `folds.csv` of a work folder.
///
/// # Errors
/// [`Error::Data`] names the line; a missing table says which job makes it.
pub fn read(work: &Path) -> Result<Vec<FoldRow>> {
    read_table(&work.join(NAME))
}

/// Reads a table by its own name; see [`read`].
pub fn read_table(path: &Path) -> Result<Vec<FoldRow>> {
    let text = fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::data(path, "the folds are not there; run `atlas split` first"),
        _ => Error::io("read", path)(e),
    })?;
    let mut lines = text.lines().enumerate();
    if lines.next().map(|l| l.1) != Some("id,group,fold") {
        return Err(Error::data(path, "expected the header id,group,fold; run `atlas split` again"));
    }
    let row = |line: &str| {
        let mut parts = line.split(',');
        let (id, group, folds) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let folds = folds.split_whitespace().map(|f| f.parse().ok()).collect::<Option<_>>()?;
        (parts.next().is_none() && !id.is_empty()).then(|| FoldRow { id: id.into(), group, folds })
    };
    lines
        .map(|(i, line)| {
            row(line).ok_or_else(|| Error::data(path, format!("line {}: `{line}` is not id,group,fold; run `atlas split` again", i + 1)))
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
    artefact::write(path, text)
}
