//! The CSV files that this program writes for itself: written whole or not at all, with a field in
//! quotes where its text needs them; read back with the line of a fault in the message.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

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
    let failed = cannot_write(path);
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(atomic_file::Writer::create(path)?);
    writer.write_record(header).map_err(&failed)?;
    rows.into_iter().try_for_each(|row| writer.serialize(row)).map_err(&failed)?;
    finish(writer, path)
}

/// Makes a CSV file that was written row by row appear at `path`.
pub fn finish(writer: csv::Writer<atomic_file::Writer>, path: &Path) -> Result<()> {
    writer.into_inner().map_err(|e| Error::io("write", path)(e.into_error()))?.finish()
}

/// The error of a file that cannot be written, with the system's where there is one: it says
/// whether a reader has gone away.
pub fn cannot_write(path: &Path) -> impl Fn(csv::Error) -> Error {
    move |e| {
        let text = format!("cannot write {}: {e}", path.display());
        match e.into_kind() {
            csv::ErrorKind::Io(e) => Error::io("write", path)(e),
            _ => Error::failed(text),
        }
    }
}

/// Reads the rows of a file that `job` (such as `split`) wrote: structs by the names of their
/// columns, tuples by their order.
///
/// # Errors
/// [`Error::Data`] as of [`reader`], or names the line of the first row that cannot be read.
pub fn read<R: DeserializeOwned>(path: &Path, job: &str) -> Result<Vec<R>> {
    let rows = reader(path, job)?.into_deserialize();
    rows.collect::<csv::Result<_>>().map_err(|e| unreadable(path, &e, job))
}

/// A file that `job` wrote, for [`read`] and for tables with columns of other kinds.
///
/// # Errors
/// [`Error::Data`] names the job to run. Our files end with a line feed and have no zero bytes: one
/// that was cut, or lost a sector, is refused.
pub fn reader(path: &Path, job: &str) -> Result<csv::Reader<WithoutZeros>> {
    let open = || -> io::Result<File> {
        let (mut file, mut end) = (File::open(path)?, [0]);
        // Of an empty file, too, there is no last byte.
        let is_whole = file.seek(SeekFrom::End(-1)).is_ok() && file.read(&mut end)? == 1;
        if !is_whole || end != *b"\n" {
            return Err(damaged());
        }
        file.rewind()?;
        Ok(file)
    };
    let file = open().map_err(|e| unreadable(path, &e.into(), job))?;
    let mut reader = csv::Reader::from_reader(WithoutZeros(file));
    reader.headers().map_err(|e| unreadable(path, &e, job))?; // else `csv` passes over its error
    Ok(reader)
}

/// A text file, which fails where it has a zero byte.
pub struct WithoutZeros(File);

impl Read for WithoutZeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        if buffer[..n].contains(&0) { Err(damaged()) } else { Ok(n) }
    }
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "cut or damaged")
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn any_text_reads_back_and_a_broken_row_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let rows = [("plain", 1), ("a,b", 2), ("the \"third\"", 3), ("two\nlines", 4), ("", 5)]
            .map(|(id, n)| (id.to_string(), n));
        write(&path, &["id", "n"], &rows).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("id,n\nplain,1\n\"a,b\",2\n"), "{text}");
        assert_eq!(read::<(String, i32)>(&path, "plan").unwrap(), rows);
        for (row, what) in [("x,y", "line 3: "), ("x", "line 3: 1 fields, expected 2")] {
            fs::write(&path, format!("id,n\nw,1\n{row}\n")).unwrap();
            let e = read::<(String, i32)>(&path, "plan").unwrap_err();
            assert_eq!(e.exit_code(), 65);
            assert!(e.to_string().contains(what) && e.to_string().contains("atlas plan"), "{e}");
        }
        for damaged in ["", "id,n\nw,1", "id\0n\nw,1\n"] {
            fs::write(&path, damaged).unwrap();
            let e = read::<(String, i32)>(&path, "plan").unwrap_err();
            assert!(e.exit_code() == 65 && e.to_string().contains("`atlas plan`"), "{e}");
        }
        fs::remove_file(&path).unwrap();
        let e = read::<(String, i32)>(&path, "plan").unwrap_err();
        assert!(e.to_string().ends_with("not there; run `atlas plan` first"), "{e}");
    }
}
