//! The CSV files that this program writes for itself: written whole or not at all, with a field in
//! quotes where its text needs them; read back with the line of a fault in the message.

use std::{io::ErrorKind, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::base::{Error, Result, atomic_file};

/// Writes `header` and then one line per row. A row is a tuple or struct with one field per column.
///
/// # Errors
/// Where the file cannot be written.
pub fn write<R: Serialize>(
    path: &Path,
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> Result<()> {
    let failed = |e: csv::Error| Error::failed(format!("cannot write {}: {e}", path.display()));
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(atomic_file::Writer::create(path)?);
    writer.write_record(header).map_err(failed)?;
    rows.into_iter().try_for_each(|row| writer.serialize(row)).map_err(failed)?;
    finish(writer, path)
}

/// Makes a CSV file that was written row by row appear at `path`.
pub fn finish(writer: csv::Writer<atomic_file::Writer>, path: &Path) -> Result<()> {
    writer
        .into_inner()
        .map_err(|e| Error::failed(format!("cannot write {}: {}", path.display(), e.error())))?
        .finish()
}

/// Reads the rows of a file that `job` (such as `split`) wrote: structs by the names of their
/// columns, tuples by their order.
///
/// # Errors
/// [`Error::Data`] names the line of the first row that cannot be read, and the job to run.
pub fn read<R: DeserializeOwned>(path: &Path, job: &str) -> Result<Vec<R>> {
    let mut reader = csv::Reader::from_path(path).map_err(|e| unreadable(path, &e, job))?;
    reader.deserialize().collect::<csv::Result<_>>().map_err(|e| unreadable(path, &e, job))
}

/// The error of a file that `job` wrote and that cannot be read.
pub fn unreadable(path: &Path, e: &csv::Error, job: &str) -> Error {
    let line = e.position().map_or(String::new(), |p| format!("line {}: ", p.line()));
    let (what, when) = match e.kind() {
        csv::ErrorKind::Io(e) if e.kind() == ErrorKind::NotFound => ("not there".into(), "first"),
        csv::ErrorKind::Deserialize { err, .. } => (err.to_string(), "again"),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            (format!("{len} fields, expected {expected_len}"), "again")
        }
        _ => (e.to_string(), "again"),
    };
    Error::data(path, format!("{line}{what}; run `atlas {job}` {when}"))
}
