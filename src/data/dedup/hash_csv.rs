//! Tables of hashes in and of their groups out, for lists that come without images.

use std::path::Path;

use crate::{
    base::{Error, Result, csv_file},
    data::labels,
};

const HEADER: [&str; 5] = ["id", "red", "green", "blue", "yellow"];

/// Ids and hashes (red, green, blue, yellow) of a CSV `id,red,green,blue,yellow` in hex.
///
/// # Errors
/// [`Error::Data`] names the line that is wrong.
pub fn read(path: &Path) -> Result<(Vec<String>, Vec<[u64; 4]>)> {
    let text = labels::read_text(path)?;
    let wrong = |e: csv::Error| Error::data(path, e);
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(wrong)?.iter().collect::<Vec<_>>().join(",");
    if header != HEADER.join(",") {
        let (header, expected) = (labels::excerpt(&header), HEADER.join(","));
        let what = format!("line 1: expected the header {expected}, found `{header}`");
        return Err(Error::data(path, what));
    }
    let (mut ids, mut hashes) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let row: Option<Vec<u64>> = record.iter().skip(1).map(hash).collect();
        let row = row.and_then(|row| <[u64; 4]>::try_from(row).ok());
        let (Some(row), false) = (row, record[0].is_empty()) else {
            let line = record.position().map_or(0, csv::Position::line);
            let text = record.iter().collect::<Vec<_>>().join(",");
            let what = "is not an id and four hashes of up to 16 hex digits";
            return Err(Error::data(path, format!("line {line}: `{text}` {what}")));
        };
        ids.push(record[0].to_string());
        hashes.push(row);
    }
    if ids.is_empty() {
        Err(Error::data(path, "no row below the header"))
    } else {
        Ok((ids, hashes))
    }
}

/// A hash in up to 16 hex digits, with or without `0x`.
fn hash(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches("0x");
    let is_hash = digits.len() <= 16 && !digits.starts_with('+');
    u64::from_str_radix(digits, 16).ok().filter(|_| is_hash)
}

/// Writes `id,group`; the name of a group is the id of its first member.
pub fn write(path: &Path, ids: &[String], first: &[usize]) -> Result<()> {
    let rows = ids.iter().zip(first).map(|(id, &first)| (id, &ids[first]));
    csv_file::write(path, &["id", "group"], rows)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn wrong_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.csv");
        let read_text = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path).map_err(|e| e.to_string())
        };
        let (ids, hashes) =
            read_text("id,red,green,blue,yellow\na,0,ff,FFFFFFFFFFFFFFFF,0x1\r\n\n").unwrap();
        assert_eq!((ids, hashes), (vec!["a".to_string()], vec![[0, 255, u64::MAX, 1]]));
        for bad in [
            "a,0,0,0",
            "a,0,0,0,0,0",
            "a,0,0,0,x",
            ",0,0,0,0",
            "a,0,0,0,",
            "a,11112222333344445,0,0,0",
        ] {
            let error =
                read_text(&format!("id,red,green,blue,yellow\nb,0,0,0,0\n{bad}\n")).unwrap_err();
            assert!(error.contains("h.csv: line 3"), "{error}");
        }
        let error = read_text("id;red;green;blue;yellow\na;0;0;0;0\n").unwrap_err();
        assert!(error.contains("line 1") && error.contains("`id;red;green;blue;yellow`"));
        assert!(read_text("\u{feff}id,red,green,blue,yellow\na,0,0,0,0\n").is_ok());
        assert!(read_text("i\0d\0").unwrap_err().contains("UTF-16"));
        assert!(read_text("id,hash\n").unwrap_err().contains("id,red,green,blue,yellow"));
        assert!(read_text("id,red,green,blue,yellow\n").unwrap_err().contains("h.csv: "));
    }
}
