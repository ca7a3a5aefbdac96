//! A bare table of hashes in, its groups out: for lists that have no pictures beside them.

use std::{fmt::Write, fs, path::Path};

use crate::base::{Error, Result, atomic_file};

/// Ids and hashes (red, green, blue, yellow) of a CSV `id,red,green,blue,yellow` in hex.
///
/// # Errors
/// [`Error::Data`] names the line that is wrong.
pub fn read(path: &Path) -> Result<(Vec<String>, Vec<[u64; 4]>)> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut lines = text.lines().enumerate();
    let header = lines.next().map_or("", |l| l.1.trim().trim_start_matches('\u{feff}'));
    if header != "id,red,green,blue,yellow" {
        return Err(Error::data(
            path,
            format!("expected the header id,red,green,blue,yellow, found `{header}`"),
        ));
    }
    let (mut ids, mut hashes) = (Vec::new(), Vec::new());
    for (i, line) in lines.filter(|l| !l.1.trim().is_empty()) {
        let mut parts = line.split(',').map(str::trim);
        let id = parts.next().unwrap_or_default();
        let hex = |text: &str| {
            let digits = text.trim_start_matches("0x");
            u64::from_str_radix(digits, 16)
                .ok()
                .filter(|_| digits.len() <= 16 && !digits.starts_with('+'))
        };
        let row: Option<Vec<u64>> = parts.map(hex).collect();
        match row.and_then(|row| <[u64; 4]>::try_from(row).ok()) {
            Some(row) if !id.is_empty() => {
                ids.push(id.to_string());
                hashes.push(row);
            }
            _ => {
                return Err(Error::data(
                    path,
                    format!(
                        "line {}: `{line}` is not an id and four hashes of up to 16 hex digits",
                        i + 1
                    ),
                ));
            }
        }
    }
    if ids.is_empty() {
        Err(Error::data(path, "no row below the header"))
    } else {
        Ok((ids, hashes))
    }
}

/// Writes `id,group`; the name of a group is the id of its first member.
pub fn write(path: &Path, ids: &[String], first: &[usize]) -> Result<()> {
    let mut text = String::with_capacity(ids.len() * 40);
    text.push_str("id,group\n");
    for (id, &first) in ids.iter().zip(first) {
        let _ = writeln!(text, "{id},{}", ids[first]);
    }
    atomic_file::write(path, text)
}

#[cfg(test)]
mod tests {
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
        assert!(read_text("id,hash\n").unwrap_err().contains("expected the header"));
        assert!(read_text("id,red,green,blue,yellow\n").unwrap_err().contains("no row"));
    }
}
