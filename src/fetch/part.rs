//! A file while it is downloaded: `NAME.part`, locked, and beside it `NAME.part.mark`, which names
//! its source so that a later run can resume it.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ureq::{Body, http::Response};

use super::{attempt_error::AttemptError, client::header, with_suffix};
use crate::base::{Error, Result, atomic_file, file_lock};

pub struct Part<'a> {
    /// Where the complete file will be.
    target: &'a Path,
    path: PathBuf,
    file: File,
    /// Bytes so far.
    len: u64,
    /// What it is a part of; none where it cannot be resumed.
    source: Option<PartSource>,
}

/// The file on the server.
struct PartSource {
    url: String,
    /// A strong ETag, else Last-Modified: valid in an If-Range.
    validator: String,
    /// Its length, if the server has stated it.
    total: Option<u64>,
}

impl<'a> Part<'a> {
    /// Opens the part of `target`, or begins it, and locks it.
    ///
    /// # Errors
    /// Refused, if another process has locked it.
    pub fn open(target: &'a Path, url: &str) -> Result<Self, AttemptError> {
        let path = with_suffix(target, ".part");
        let file = open_locked(&path)?;
        let len = file.metadata().map_err(Error::io("look at", &path))?.len();
        let source = PartSource::read(&mark(target))
            .filter(|s| len > 0 && s.url == url && s.total.is_none_or(|total| len <= total));
        Ok(Self { target, path, file, len, source })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The length of the whole file, where it is known.
    pub fn total(&self) -> Option<u64> {
        self.source.as_ref().and_then(|s| s.total)
    }

    /// The headers of a request for the rest of the file; none for the whole file.
    pub fn range_headers(&self) -> Vec<(&'static str, String)> {
        let Some(source) = &self.source else { return vec![] };
        let range = format!("bytes={}-", self.len);
        vec![("Range", range), ("If-Range", source.validator.clone())]
    }

    /// Whether `answer` brings the whole file; otherwise it brings the rest of this one.
    ///
    /// # Errors
    /// Retry, if it is neither. The part is then of no use and is removed.
    pub fn is_restarted_by(&self, answer: &Response<Body>) -> Result<bool, AttemptError> {
        let why = match (answer.status().as_u16(), &self.source) {
            (200, _) => return Ok(true),
            (206, Some(source)) => {
                let now = validator(answer);
                let range = header(answer, "content-range").unwrap_or_default().trim_start();
                if (now.is_empty() || now == source.validator)
                    && range.starts_with(&format!("bytes {}-", self.len))
                {
                    return Ok(false);
                }
                "the file has changed between two parts".into()
            }
            (status, _) => format!("the server answers {status} to the request for the rest"),
        };
        self.discard();
        Err(AttemptError::Retry(why))
    }

    /// Empties the part, for the whole file that `answer` brings.
    pub fn restart(&mut self, url: &str, answer: &Response<Body>) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", &self.path))?;
        self.len = 0;
        let total = header(answer, "content-length").and_then(|l| l.parse().ok());
        let source = PartSource { url: url.into(), validator: validator(answer).into(), total };
        match source.validator.is_empty() {
            true => drop(fs::remove_file(mark(self.target))),
            false => source.write(&mark(self.target))?,
        }
        self.source = Some(source);
        Ok(())
    }

    /// Takes the total length from an answer that brings the rest, if it was unknown.
    pub fn learn_total(&mut self, answer: &Response<Body>) {
        if let Some(source) = &mut self.source {
            let stated = header(answer, "content-range").and_then(|r| r.rsplit_once('/'));
            source.total = source.total.or_else(|| stated?.1.trim().parse().ok());
        }
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Renames the complete file. Returns the server's validator.
    pub fn publish(self) -> Result<String> {
        atomic_file::sync(&self.file, &self.path)?;
        atomic_file::publish(&self.path, self.target)?;
        let _ = fs::remove_file(mark(self.target));
        Ok(self.source.map_or(String::new(), |s| s.validator))
    }

    /// Removes the part, which is still locked.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(mark(self.target));
    }
}

fn mark(target: &Path) -> PathBuf {
    with_suffix(target, ".part.mark")
}

fn validator(answer: &Response<Body>) -> &str {
    let etag = header(answer, "etag").filter(|e| !e.starts_with("W/"));
    etag.or_else(|| header(answer, "last-modified")).unwrap_or_default()
}

fn open_locked(path: &Path) -> Result<File, AttemptError> {
    loop {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        if !file_lock::hold(&file, path) {
            return Err(AttemptError::Refused("another process is fetching it".into()));
        }
        // The process that held the lock until now may have renamed or removed the file.
        let ours = file.metadata().map_err(Error::io("look at", path))?;
        if fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

impl PartSource {
    fn read(mark: &Path) -> Option<Self> {
        let text = fs::read_to_string(mark).ok()?;
        let mut lines = text.lines();
        let (url, validator, total) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Self { url: url.into(), validator: validator.into(), total: total.parse().ok() })
    }

    fn write(&self, mark: &Path) -> Result<()> {
        let total = self.total.map_or("unknown".to_string(), |t| t.to_string());
        fs::write(mark, format!("{}\n{}\n{total}\n", self.url, self.validator))
            .map_err(Error::io("write", mark))
    }
}
