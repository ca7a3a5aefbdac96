//! Whether a downloaded file is what was requested, and not an error page or half a file.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::FileKind;
use crate::{
    base::{Error, Result, zip_file},
    data::image::{self, Encoded},
};

const PNG: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const PNG_END: [u8; 8] = *b"IEND\xae\x42\x60\x82";

/// Whether this type of an answer fits the file; a server may send a page about it instead.
pub fn content_type(kind: FileKind, content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind {
        FileKind::Image => {
            name.is_empty() || name.starts_with("image/") || name.ends_with("/octet-stream")
        }
        _ => name != "text/html",
    }
}

/// Bytes that no file of this kind exceeds. A server that sends more, or says that it will, is cut
/// off there: such a file would fail its check, or fill the disk.
pub fn largest(kind: FileKind, max_side: u32) -> u64 {
    match kind {
        FileKind::Image => image::largest(max_side),
        FileKind::Table => 1 << 28,
        // Far above what Kaggle and the Atlas serve.
        FileKind::Archive => 1 << 39,
        FileKind::Xml => 1 << 37,
    }
}

/// Checks a complete file.
///
/// # Errors
/// [`Error::Data`] states what is wrong with it.
pub fn content(kind: FileKind, path: &Path, max_side: u32) -> Result<()> {
    let (head, tail) = ends(path).map_err(Error::io("read", path))?;
    let wrong = |what: &str| Err(Error::data(path, what));
    match kind {
        FileKind::Image if head.starts_with(&[0xff, 0xd8, 0xff]) => {
            // Some writers pad the end with zeros.
            let end = tail.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
            if !tail[..end].ends_with(&[0xff, 0xd9]) {
                return wrong("a truncated JPEG (no end marker)");
            }
            decodes(path, max_side)
        }
        FileKind::Image if head.starts_with(&PNG) => match tail.ends_with(&PNG_END) {
            true => decodes(path, max_side),
            false => wrong("a truncated PNG (no IEND)"),
        },
        FileKind::Image => {
            wrong(&format!("neither JPEG nor PNG; it begins with {}", beginning(&head)))
        }
        FileKind::Table if head.starts_with(b"PK") => content(FileKind::Archive, path, max_side),
        FileKind::Table => {
            let mut reader = csv::Reader::from_reader(&head[..]);
            let has_id = |header: &csv::ByteRecord| header.iter().any(|c| c.trim_ascii() == b"Id");
            match reader.byte_headers().is_ok_and(has_id) {
                true => Ok(()),
                false => {
                    wrong(&format!("no CSV with a column Id; it begins with {}", beginning(&head)))
                }
            }
        }
        FileKind::Archive => {
            let file = File::open(path).map_err(Error::io("open", path))?;
            zip_file::open(file)
                .map(|_| ())
                .map_err(|e| Error::data(path, format!("not a complete zip: {e}")))
        }
        // Whether it is complete is found when it is read.
        FileKind::Xml
            if head.starts_with(&[0x1f, 0x8b]) || head.trim_ascii_start().starts_with(b"<?xml") =>
        {
            Ok(())
        }
        FileKind::Xml => {
            wrong(&format!("neither XML nor gzip; it begins with {}", beginning(&head)))
        }
    }
}

/// Whether the last line of a table has fewer columns than its first, and no line end.
pub fn is_cut(path: &Path) -> Result<bool> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    if text.starts_with(b"PK") || text.ends_with(b"\n") {
        return Ok(false);
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&text[..]);
    let mut columns = reader.byte_records().flatten().map(|row| row.len());
    let first = columns.next();
    Ok(columns.last().or(Some(1)) < first)
}

fn decodes(path: &Path, max_side: u32) -> Result<()> {
    Encoded::read(path, max_side)?.channel(0).map(|_| ())
}

/// Up to 64 bytes of each end.
fn ends(path: &Path) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut file = File::open(path)?;
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    file.by_ref().take(64).read_to_end(&mut head)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64)))?;
    file.read_to_end(&mut tail)?;
    Ok((head, tail))
}

/// The first bytes, for a message.
fn beginning(head: &[u8]) -> String {
    format!("`{}`", head[..head.len().min(16)].escape_ascii())
}

/// SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Whether a file begins as a zip does.
pub fn is_zip(path: &Path) -> Result<bool> {
    Ok(ends(path).map_err(Error::io("read", path))?.0.starts_with(b"PK"))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_id_and_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        for (text, is_table, cut) in [
            ("Id,Target\na,1\n", true, false),
            ("\"Id\",\"Target\"\na,1\n", true, false),
            ("\u{feff}Id,Target\na,1\n", true, false),
            ("Target, Id\n1,a", true, false),
            ("Id,Target\na", true, true),
            ("Id,Target\n\"a,b\"", true, true),
            ("Id,Target\n\"a,b\",1", true, false),
            ("Id,Target", true, true),
            ("Id,Target\n", true, false),
            ("Identity,Target\na,1\n", false, false),
            ("", false, false),
        ] {
            std::fs::write(&path, text).unwrap();
            let checked = content(FileKind::Table, &path, 4096);
            assert_eq!(checked.is_ok(), is_table, "{text:?}: {checked:?}");
            assert_eq!(is_cut(&path).unwrap(), cut, "{text:?}");
        }
    }
}
