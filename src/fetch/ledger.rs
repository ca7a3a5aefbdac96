//! What was fetched: `fetched-NNNNN.csv` of each task in the data folder. It grows by whole lines,
//! so that a killed job loses nothing.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use serde::{Deserialize, Serialize};

use super::check;
use crate::base::{Error, Result, file_lock};

/// One complete file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Its path within the data folder.
    pub file: String,
    pub bytes: u64,
    /// In hex; empty for the folder of an unpacked zip.
    pub sha256: String,
    pub url: String,
    /// The server's ETag, else its Last-Modified; empty where it gave none.
    pub validator: String,
}

/// The rows of all tasks; this task's own file is open for more.
pub struct Ledger {
    folder: PathBuf,
    path: PathBuf,
    file: Mutex<File>,
    rows: Mutex<HashMap<String, LedgerRow>>,
}

impl Ledger {
    /// Reads what all tasks have fetched into `folder`, which is created if need be.
    ///
    /// # Errors
    /// Usage, if another process works as this task.
    pub fn open(folder: &Path, task: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let path = folder.join(format!("fetched-{task:05}.csv"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        if !file_lock::hold(&file, &path) {
            return Err(Error::usage(format!(
                "{}: another process fetches as task {task}; wait for it",
                path.display()
            )));
        }
        // Drop a line that a killed job did not finish.
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        file.set_len(whole as u64).map_err(Error::io("write", &path))?;
        if whole == 0 {
            (&file)
                .write_all(b"file,bytes,sha256,url,validator\n")
                .map_err(Error::io("write", &path))?;
        }
        let mut rows = HashMap::new();
        let mut tables = tables(folder, "fetched-")?;
        // This task's own rows last: they win where several tasks have fetched a file.
        tables.sort_by_key(|p| *p == path);
        for path in tables {
            let mut reader = csv::Reader::from_path(&path).map_err(|e| Error::data(&path, e))?;
            // The last line of another task may be half written at this moment; the file of a
            // damaged line is fetched again.
            let read = reader.deserialize().filter_map(|row: csv::Result<LedgerRow>| row.ok());
            rows.extend(read.map(|row| (row.file.clone(), row)));
        }
        Ok(Self { folder: folder.into(), path, file: Mutex::new(file), rows: Mutex::new(rows) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `file` is in the ledger and still has the same size and, with `verify`, the same
    /// hash.
    pub fn holds(&self, file: &str, verify: bool) -> Result<bool> {
        let Some(row) = self.row(file) else { return Ok(false) };
        let path = self.folder.join(file);
        let same_size = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == row.bytes);
        Ok(same_size && (!verify || check::sha256(&path)? == row.sha256))
    }

    pub fn row(&self, file: &str) -> Option<LedgerRow> {
        self.rows().get(file).cloned()
    }

    /// The files whose path begins with `prefix`.
    pub fn files(&self, prefix: &str) -> Vec<String> {
        self.rows().keys().filter(|f| f.starts_with(prefix)).cloned().collect()
    }

    /// Adds a row, of a file that is on disk. Should a crash of the machine lose the row, the next
    /// run checks the file and adds it again.
    pub fn add(&self, row: LedgerRow) -> Result<()> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        writer.serialize(&row).map_err(Error::failed)?;
        let line = writer.into_inner().map_err(Error::failed)?;
        // One write, so that a reader sees whole lines.
        self.file
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .write_all(&line)
            .map_err(Error::io("write", &self.path))?;
        self.rows().insert(row.file.clone(), row);
        Ok(())
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, LedgerRow>> {
        self.rows.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The tables `PREFIXNNNNN.csv` of a folder, in order.
pub fn tables(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut tables: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(Error::io("list", folder))?
        .flatten()
        .filter(|e| {
            e.file_name()
                .to_str()
                .and_then(|n| n.strip_prefix(prefix)?.strip_suffix(".csv")?.parse::<u32>().ok())
                .is_some()
        })
        .map(|e| e.path())
        .collect();
    tables.sort();
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_line_of_a_killed_job_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let row = |file: &str| LedgerRow {
            file: file.into(),
            bytes: 3,
            sha256: "x".into(),
            url: "u,\"v".into(),
            validator: "\"e\"".into(),
        };
        Ledger::open(dir.path(), 1).unwrap().add(row("a")).unwrap();
        let path = dir.path().join("fetched-00001.csv");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "b,12,half").unwrap();
        let ledger = Ledger::open(dir.path(), 1).unwrap();
        assert_eq!((ledger.row("a"), ledger.row("b")), (Some(row("a")), None));
        ledger.add(row("c")).unwrap();
        assert!(Ledger::open(dir.path(), 1).is_err(), "locked");
        let other = Ledger::open(dir.path(), 0).unwrap();
        assert_eq!(other.row("c"), Some(row("c")), "tasks know each other's files");
        assert!(!other.holds("c", false).unwrap());
        fs::write(dir.path().join("c"), "abc").unwrap();
        assert!(other.holds("c", false).unwrap() && !other.holds("c", true).unwrap());
    }
}
