//! Tables of ids and labels as users bring them: the rows that can be used, and for all else the
//! line, what is there and what was expected.

use std::{
    collections::HashMap,
    fs,
    io::{Cursor, Read},
    path::Path,
};

use super::{Labels, excerpt};
use crate::base::{Error, Result};

/// Ids and their labels, in file order.
pub type Rows = Vec<(String, Labels)>;

/// A row of a table of ids that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadRow {
    pub line: u64,
    pub fault: RowFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// `text` is the row's beginning.
    #[error("expected {expected} columns, found {found}: `{text}`{}", hint(*.expected, *.found))]
    Width { expected: usize, found: usize, text: String },
    /// It may hold all the rows below it.
    #[error("a field goes on in the next line; expected a quotation mark at its end")]
    OpenQuote,
    #[error("the id is empty")]
    EmptyId,
    #[error("id {} is repeated (first in line {first})", excerpt(.id))]
    RepeatedId { id: String, first: u64 },
    #[error("id {}: {what}", excerpt(.id))]
    UnknownClass { id: String, what: String },
}

impl RowFault {
    /// The id of the row; empty where it has none.
    pub fn id(&self) -> &str {
        match self {
            Self::RepeatedId { id, .. } | Self::UnknownClass { id, .. } => id,
            Self::Width { .. } | Self::OpenQuote | Self::EmptyId => "",
        }
    }
}

/// What may explain a wrong number of columns.
fn hint(expected: usize, found: usize) -> &'static str {
    match found > expected {
        true => "; a field with a comma needs quotation marks",
        false => "",
    }
}

/// Rows of an `Id,Target` table in file order, and every bad row, so that a caller can report all
/// of them. A repeated id and a row with an unknown class are left out of the rows. Where there is
/// no column `Target`, `Predicted` takes its place, as in a submission.
///
/// # Errors
/// [`Error::Data`] where there are no such columns, or the file is no text in UTF-8.
pub fn read_table(path: &Path) -> Result<(Rows, Vec<BadRow>)> {
    let (mut reader, header) = open(path)?;
    let id = column(path, &header, &["Id"], "Id,Target")?;
    let target = column(path, &header, &["Target", "Predicted"], "Id,Target")?;
    let mut seen = HashMap::new();
    split(path, &mut reader, header.len(), |line, record| {
        let (Some(id), Some(target)) = (record.get(id).map(str::trim), record.get(target)) else {
            return Err(match record.iter().any(goes_on) {
                true => RowFault::OpenQuote,
                false => width(header.len(), record),
            });
        };
        if goes_on(target) {
            return Err(RowFault::OpenQuote);
        }
        note(&mut seen, id, line)?;
        let unknown = |what| RowFault::UnknownClass { id: id.into(), what };
        Ok((id.to_string(), Labels::parse(target).map_err(unknown)?))
    })
}

/// The ids of a submission or sample submission, in file order, and every bad row: empty and
/// repeated ids, which are left out.
///
/// # Errors
/// [`Error::Data`] where there is no column `Id`, or the file is no text in UTF-8.
pub fn read_ids(path: &Path) -> Result<(Vec<String>, Vec<BadRow>)> {
    let (mut reader, header) = open(path)?;
    let column = column(path, &header, &["Id"], "Id,Predicted")?;
    let mut seen = HashMap::new();
    split(path, &mut reader, header.len(), |line, record| {
        let id = record.get(column).map_or("", str::trim);
        let is_short = record.len() < header.len();
        if record.iter().enumerate().any(|(i, f)| goes_on(f) && (i != column || is_short)) {
            return Err(RowFault::OpenQuote);
        }
        note(&mut seen, id, line).map(|()| id.to_string())
    })
}

/// Whether a table has the columns `Id` and `Target`; only its beginning is read.
///
/// # Errors
/// As [`read_table`].
pub fn check_columns(path: &Path) -> Result<()> {
    let (mut beginning, io) = (Vec::new(), |e| Error::io("read", path)(e));
    fs::File::open(path).map_err(io)?.take(1 << 16).read_to_end(&mut beginning).map_err(io)?;
    // The first line that is not blank, alone: below it, the beginning may end within a character.
    let is_end = |b: &u8| b"\r\n".contains(b);
    let start = beginning.iter().position(|b| !is_end(b)).unwrap_or(beginning.len());
    beginning.drain(..start);
    beginning.truncate(beginning.iter().position(is_end).unwrap_or(beginning.len()));
    let text = text(beginning).map_err(|what| Error::data(path, what))?;
    let header = header_of(path, &mut reader(text))?;
    column(path, &header, &["Id"], "Id,Target")?;
    column(path, &header, &["Target"], "Id,Target").map(drop)
}

/// The text of a table that a user brings.
///
/// # Errors
/// [`Error::Data`] names what the file is instead of text in UTF-8, or the line that is not.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    text(bytes).map_err(|what| Error::data(path, what))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    let other = match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => "text in UTF-16",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive or an Excel workbook",
        [0xd0, 0xcf, 0x11, 0xe0, ..] => "an Excel workbook",
        [0x1f, 0x8b, ..] => "compressed by gzip",
        _ => "",
    };
    if !other.is_empty() {
        return Err(format!(
            "this is {other}; expected a table in UTF-8 with commas: save it as `CSV UTF-8`"
        ));
    }
    String::from_utf8(bytes).map_err(|e| {
        let (good, bad) = e.as_bytes().split_at(e.utf8_error().valid_up_to());
        let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
        let start = good.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let before = match excerpt(&String::from_utf8_lossy(&good[start..])) {
            empty if empty.is_empty() => "at its start".into(),
            before => format!("after `{before}`"),
        };
        format!(
            "line {line}: the byte 0x{:02X} {before} is not UTF-8 (Windows-1252 or \
                Latin-1?); expected UTF-8: save the table as `CSV UTF-8`",
            bad.first().copied().unwrap_or_default()
        )
    })
}

type Reader = csv::Reader<Cursor<String>>;

fn open(path: &Path) -> Result<(Reader, csv::StringRecord)> {
    let mut reader = reader(read_text(path)?);
    let header = header_of(path, &mut reader)?;
    Ok((reader, header))
}

fn reader(text: String) -> Reader {
    csv::ReaderBuilder::new().flexible(true).from_reader(Cursor::new(text))
}

fn header_of(path: &Path, reader: &mut Reader) -> Result<csv::StringRecord> {
    reader.headers().map_err(|e| Error::data(path, e)).cloned()
}

/// The column with the first of these names that there is; `all` are the columns that the error
/// names.
fn column(path: &Path, header: &csv::StringRecord, names: &[&str], all: &str) -> Result<usize> {
    let place = |name: &str| header.iter().position(|h| h.trim() == name);
    let Some((name, at)) = names.iter().find_map(|&name| Some((name, place(name)?))) else {
        return Err(Error::data(path, absent(header, names[0], all)));
    };
    match header.iter().filter(|h| h.trim() == name).count() {
        1 => Ok(at),
        n => Err(Error::data(path, format!("line 1: {n} columns are called {name}; keep one"))),
    }
}

/// Why there is no column `name`.
fn absent(header: &csv::StringRecord, name: &str, all: &str) -> String {
    let found = header.iter().collect::<Vec<_>>().join(",");
    let separators = [(';', "`;`"), ('\t', "tabs"), ('|', "`|`"), (':', "`:`"), (' ', "blanks")];
    let is_column = |text: &str| text.trim().trim_matches('"') == name;
    match separators.iter().find(|(separator, _)| found.split(*separator).any(is_column)) {
        _ if found.trim().is_empty() => format!("line 1: empty; expected the columns {all}"),
        Some((_, separator)) => format!(
            "line 1: the columns are separated by {separator} in `{}`; expected commas, as in \
                `{all}`",
            excerpt(&found)
        ),
        None => format!(
            "line 1: there is no column {name}; expected the columns {all}, the header is `{}`",
            excerpt(&found)
        ),
    }
}

/// The rows that `read` accepts, and those that it does not.
fn split<T>(
    path: &Path,
    reader: &mut Reader,
    columns: usize,
    mut read: impl FnMut(u64, &csv::StringRecord) -> Result<T, RowFault>,
) -> Result<(Vec<T>, Vec<BadRow>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|e| Error::data(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        // Spreadsheets may end rows with more commas; a field with text there was cut in two.
        let is_cut = record.iter().skip(columns).any(|field| !field.trim().is_empty());
        let row = if is_cut { Err(width(columns, &record)) } else { read(line, &record) };
        match row {
            Ok(row) => good.push(row),
            Err(fault) => bad.push(BadRow { line, fault }),
        }
    }
    Ok((good, bad))
}

/// Whether a field takes more than one line.
fn goes_on(field: &str) -> bool {
    field.trim().contains('\n')
}

fn width(expected: usize, record: &csv::StringRecord) -> RowFault {
    let text = excerpt(&record.iter().collect::<Vec<_>>().join(","));
    RowFault::Width { expected, found: record.len(), text }
}

/// Keeps the line of an id, which must be there and new.
fn note(seen: &mut HashMap<String, u64>, id: &str, line: u64) -> Result<(), RowFault> {
    if id.is_empty() {
        return Err(RowFault::EmptyId);
    }
    match seen.get(id) {
        Some(&first) => Err(RowFault::RepeatedId { id: id.into(), first }),
        None => {
            seen.insert(id.to_string(), line);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this content, and the folder that holds it.
    fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn rows(content: &str) -> Vec<(String, String)> {
        let (_dir, path) = file(content);
        let (rows, problems) = read_table(&path).unwrap();
        assert_eq!(problems, [], "{content}");
        rows.into_iter().map(|(id, labels)| (id, labels.to_string())).collect()
    }

    /// All readers refuse the table with a message that holds `parts`.
    fn refused(content: impl AsRef<[u8]>, parts: &[&str]) {
        let (_dir, path) = file(content);
        for e in [
            read_table(&path).unwrap_err(),
            read_ids(&path).unwrap_err(),
            check_columns(&path).unwrap_err(),
        ] {
            let text = e.to_string();
            assert_eq!(e.exit_code(), 65, "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
            assert!(text.contains("t.csv: ") && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn table_reports_all_problems_at_once() {
        let (_dir, path) = file("Id,Target\na,1 2\nb,99\na,3\nc\nd,\n,4\ne,1,2\nf,3,\n");
        let (rows, problems) = read_table(&path).unwrap();
        assert_eq!(
            rows.iter().map(|r| (r.0.as_str(), r.1.to_string())).collect::<Vec<_>>(),
            [("a", "1 2".into()), ("d", String::new()), ("f", "3".into())]
        );
        let width = |found, text: &str| RowFault::Width { expected: 2, found, text: text.into() };
        let faults = [
            (3, RowFault::UnknownClass { id: "b".into(), what: Labels::parse("99").unwrap_err() }),
            (4, RowFault::RepeatedId { id: "a".into(), first: 2 }),
            (5, width(1, "c")),
            (7, RowFault::EmptyId),
            (8, width(3, "e,1,2")),
        ];
        assert_eq!(problems, faults.map(|(line, fault)| BadRow { line, fault }));
        let text = problems[1].to_string();
        assert!(["line 4", "id a", "line 2"].iter().all(|part| text.contains(part)), "{text}");
        let text = problems[4].to_string();
        assert!(["line 8", "`e,1,2`", "quotation"].iter().all(|part| text.contains(part)));
    }

    #[test]
    fn target_comes_before_predicted_wherever_it_stands() {
        let want = [("a".to_string(), "2".to_string())];
        for content in [
            "Id,Predicted,Target\na,27,2\n",
            "Target,Id,Predicted\n2,a,27\n",
            "Predicted,Target,Id\n27,2,a\n",
            "Id,Predicted\na,2\n",
            "\u{feff}Id,Target\na,2\n",
            "\"Id\" , Target\r\na , Nucleoli \r\n",
            "Id,Target\ra,2\r",
            "\r\n\nId,Target\na,2\n",
        ] {
            assert_eq!(rows(content), want, "{content:?}");
            let (_dir, path) = file(content);
            assert_eq!(check_columns(&path).is_ok(), content.contains("Target"), "{content:?}");
        }
        refused("Target,Id,Target,Id\n1,a,2,a\n", &["line 1", "2 columns are called Id"]);
    }

    #[test]
    fn a_table_in_another_encoding_is_named() {
        let utf16: Vec<u8> = "Id,Target\na,1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xff, 0xfe], utf16.as_slice()].concat();
        let big: Vec<u8> = "Id,Target\na,1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for content in [utf16, marked, [&[0xfe, 0xff], big.as_slice()].concat(), big] {
            refused(content, &["UTF-16", "UTF-8"]);
        }
        refused(b"PK\x03\x04....", &["ZIP", "Excel", "CSV"]);
        refused(b"\x1f\x8b\x08....", &["gzip", "CSV"]);
        let (_dir, path) = file(b"Id,Target\na,1\ncaf\xe9,2\n");
        for e in [read_table(&path).unwrap_err(), read_ids(&path).unwrap_err()] {
            let text = e.to_string();
            let parts = ["t.csv: line 3: ", "0xE9", "`caf`", "Windows-1252", "UTF-8"];
            assert!(e.exit_code() == 65 && parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn another_separator_and_a_missing_column_are_named() {
        refused("Id;Target\na;1\n", &["line 1", "`;`", "`Id;Target`", "commas"]);
        refused("\"Id\";\"Target\"\na;1\n", &["`;`", "commas"]);
        refused("Id\tTarget\na\t1\n", &["tabs", "commas"]);
        refused("Id|Target\na|1\n", &["`|`", "commas"]);
        refused("Id Target\na 1\n", &["blanks", "commas"]);
        refused("id,label\na,1\n", &["line 1", "no column Id", "`id,label`"]);
        refused("a,1\nb,2\n", &["no column Id", "`a,1`"]);
        refused("", &["line 1", "empty"]);
        refused("x".repeat(5000), &["no column Id", "xxx..."]);
        let (_dir, path) = file("Id,Labels\na,1\n");
        for e in [read_table(&path).unwrap_err(), check_columns(&path).unwrap_err()] {
            let text = e.to_string();
            let parts = ["no column Target", "Id,Target", "`Id,Labels`"];
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert_eq!(read_ids(&path).unwrap().0, ["a"]);
        let (_dir, path) = file("Id,Target\na;1\n");
        let text = read_table(&path).unwrap().1[0].to_string();
        assert!(text.contains("line 2") && text.contains("`a;1`"), "{text}");
    }

    #[test]
    fn a_quotation_mark_that_is_not_closed_hides_no_rows() {
        for rows in ["\"1,2\n3,4\n5,6\n", "1,\"2\n3,4\n5,6\n", "1,\"2\n3,4\n5,\"6\"\n"] {
            let (_dir, path) = file(format!("Id,Target\n0,0\n{rows}"));
            let open = BadRow { line: 3, fault: RowFault::OpenQuote };
            let (table, ids) = (read_table(&path).unwrap(), read_ids(&path).unwrap());
            assert_eq!((&table.1, &ids.1), (&vec![open.clone()], &vec![open]), "{rows}");
            assert_eq!((table.0.len(), ids.0.len()), (1, 1), "{rows}");
        }
        // An id of two lines is no such fault; its files tell whether there is one.
        let (_dir, path) = file("Id,Target\n\"a\nb\",1\nc,\"2\n\"\n");
        assert_eq!(read_ids(&path).unwrap().0, ["a\nb", "c"]);
        assert_eq!(read_table(&path).unwrap().0.len(), 2);
    }

    #[test]
    fn ids_keep_blanks_and_odd_characters() {
        let ids = ["two words", "a;b", "a|b", "=1+1", "-x", "été", "%41", "a'b", "#1", "\\n", "0"];
        let content: String = ids.iter().map(|id| format!("{id},1\n")).collect();
        let read: Vec<String> =
            rows(&format!("Id,Target\n{content}")).into_iter().map(|r| r.0).collect();
        assert_eq!(read, ids);
    }

    #[test]
    fn blank_and_repeated_ids_of_a_submission_are_reported_with_their_lines() {
        let (_dir, path) = file("Id,Predicted\nb,0\n,0\n \nb,0\na,0\n");
        let (ids, problems) = read_ids(&path).unwrap();
        assert_eq!(ids, ["b", "a"]);
        let repeated = RowFault::RepeatedId { id: "b".into(), first: 2 };
        let faults = [(3, RowFault::EmptyId), (4, RowFault::EmptyId), (5, repeated)];
        assert_eq!(problems, faults.map(|(line, fault)| BadRow { line, fault }));
    }
}
