//! One file: attempts, resuming, checks, and the name under which it appears.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use super::{Client, Failure, Item, Kind, Row, beside, check};
use crate::{
    base::{Error, atomic_file, progress::Progress},
    config::Fetch,
};

/// Bytes by which a part must grow for the count of attempts to begin anew.
const HEADWAY: u64 = 8 << 20;

/// A connection that brings fewer bytes in two read timeouts counts as stalled.
const SLOWEST: u64 = 64 << 10;

/// Longest wait before another attempt, in seconds.
const LONGEST_WAIT: f64 = 60.0;

pub(super) struct Transfer<'a> {
    pub client: &'a Client<'a>,
    pub config: &'a Fetch,
    pub max_side: u32,
    pub progress: &'a Progress,
}

impl Transfer<'_> {
    /// Fetches `item` into `folder`. The error says how often it was tried.
    pub fn fetch(&self, folder: &Path, item: &Item) -> Result<Row, (Failure, u32)> {
        let path = &folder.join(&item.file);
        let length = || fs::metadata(beside(path, ".part")).map_or(0, |m| m.len());
        // The part's length when the count began.
        let mut longest = length();
        let (mut tries, mut in_vain) = (0, 0);
        loop {
            tries += 1;
            in_vain += 1;
            let failure = match self.attempt(path, item) {
                Ok(row) => return Ok(row),
                Err(failure @ (Failure::Again(_) | Failure::Bad(_))) => failure,
                Err(failure) => return Err((failure, tries)),
            };
            // Bytes of a file that is begun anew or fails its check are no headway: it might go on
            // for ever.
            if matches!(failure, Failure::Again(_)) && length() >= longest + HEADWAY {
                (in_vain, longest) = (0, length());
            }
            if in_vain >= self.config.attempts {
                return Err((failure, tries));
            }
            log::debug!("{}: {failure}; attempt {tries}", item.url);
            // Doubled each time, and between half of it and all of it, so that the connections do
            // not come back together.
            let wait = (self.config.backoff_seconds * 2f64.powi(in_vain.clamp(1, 16) as i32 - 1))
                .min(LONGEST_WAIT);
            let wait = Duration::from_secs_f64(wait * (0.5 + 0.5 * rand::random::<f64>()));
            self.client.pause(wait).map_err(|stopped| (stopped, tries))?;
        }
    }

    /// One request. Leaves no part that is empty or of no use.
    fn attempt(&self, path: &Path, item: &Item) -> Result<Row, Failure> {
        let mut file = open(&beside(path, ".part"))?;
        let result = self.request(path, item, &mut file);
        let useless = matches!(result, Err(Failure::Missing(_)))
            || file.metadata().is_ok_and(|m| m.len() == 0);
        if result.is_err() && useless {
            forget(path);
        }
        result
    }

    /// `file` is the part, and locked.
    fn request(&self, path: &Path, item: &Item, file: &mut File) -> Result<Row, Failure> {
        let (part, mark) = (beside(path, ".part"), beside(path, ".part.mark"));
        let mut have = file.metadata().map_err(Error::io("look at", &part))?.len();
        let mut known = Mark::read(&mark)
            .filter(|m| have > 0 && m.url == item.url && m.total.is_none_or(|t| have <= t));
        if known.as_ref().is_none_or(|m| m.total != Some(have)) {
            let headers = match &known {
                Some(m) => {
                    vec![("Range", format!("bytes={have}-")), ("If-Range", m.validator.clone())]
                }
                None => vec![],
            };
            let answer = self.client.get(&item.url, &headers)?;
            let header =
                |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
            let now = Mark::of(&item.url, answer.headers());
            let anew = match (answer.status().as_u16(), &known) {
                (200, _) => true,
                (206, Some(m)) => {
                    let same = now.validator.is_empty() || now.validator == m.validator;
                    let follows =
                        header("content-range").trim_start().starts_with(&format!("bytes {have}-"));
                    if !(same && follows) {
                        forget(path);
                        return Err(Failure::Again(
                            "the file has changed between two parts".into(),
                        ));
                    }
                    false
                }
                (status, _) => {
                    forget(path);
                    return Err(Failure::Again(format!(
                        "the server answers {status} to the request for the rest"
                    )));
                }
            };
            if !check::content_type(item.kind, header("content-type")) {
                return Err(Failure::Bad(format!(
                    "a page of type {} instead of the file",
                    header("content-type")
                )));
            }
            if !["", "identity"].contains(&header("content-encoding")) {
                return Err(Failure::Bad(format!(
                    "encoded as {}, which was not asked for",
                    header("content-encoding")
                )));
            }
            if anew {
                file.set_len(0).map_err(Error::io("write", &part))?;
                have = 0;
                match now.validator.is_empty() {
                    true => drop(fs::remove_file(&mark)),
                    false => now.write(&mark)?,
                }
                known = Some(now);
            } else if let Some(m) = &mut known {
                // Without a length before, the rest may tell it.
                m.total = m
                    .total
                    .or_else(|| header("content-range").rsplit_once('/')?.1.trim().parse().ok());
            }
            let total = known.as_ref().and_then(|m| m.total);
            let mut body = answer.into_body().into_reader();
            let mut buffer = vec![0; 1 << 16];
            let patience = Duration::from_secs_f64(2.0 * self.config.read_timeout_seconds);
            let (mut since, mut brought) = (Instant::now(), 0);
            let end = loop {
                self.client.go_on()?;
                if since.elapsed() > patience {
                    if brought < SLOWEST {
                        break Some(Failure::Again(format!(
                            "only {brought} bytes came in {} seconds",
                            patience.as_secs_f64()
                        )));
                    }
                    (since, brought) = (Instant::now(), 0);
                }
                match body.read(&mut buffer) {
                    Ok(0) => break None,
                    Ok(n) => {
                        file.write_all(&buffer[..n]).map_err(Error::io("write", &part))?;
                        have += n as u64;
                        brought += n as u64;
                        self.progress.add_bytes(n as u64);
                    }
                    Err(e) => break Some(self.client.failure(&e)),
                }
            };
            match (total, end) {
                (Some(total), _) if have == total => {}
                (Some(total), None) => {
                    return Err(Failure::Again(format!(
                        "the connection ended after {have} of {total} bytes"
                    )));
                }
                (None, None) => {}
                (Some(total), Some(Failure::Again(what))) => {
                    return Err(Failure::Again(format!("{what} after {have} of {total} bytes")));
                }
                (_, Some(failure)) => return Err(failure),
            }
            if total.is_none() && item.kind == Kind::Table && check::is_cut(&part)? {
                forget(path);
                return Err(Failure::Again("the table's last line is cut short".into()));
            }
        }
        if let Err(e) = check::content(item.kind, &part, self.max_side) {
            forget(path);
            return Err(match e {
                Error::Data { what, .. } => Failure::Bad(what),
                e => Failure::End(e),
            });
        }
        file.sync_all().map_err(Error::io("sync", &part))?;
        let validator = known.map_or(String::new(), |m| m.validator);
        let row = Row {
            file: item.file.clone(),
            bytes: have,
            sha256: check::sha256(&part)?,
            url: item.url.clone(),
            validator,
        };
        atomic_file::publish(&part, path)?;
        let _ = fs::remove_file(&mark);
        Ok(row)
    }
}

/// Opens a part and locks it.
fn open(part: &Path) -> Result<File, Failure> {
    loop {
        let file = File::options()
            .create(true)
            .append(true)
            .open(part)
            .map_err(Error::io("open", part))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Refused("another process is fetching it".into()));
            }
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // Who held the lock until now may have renamed or removed the file.
        let ours = file.metadata().map_err(Error::io("look at", part))?;
        if fs::metadata(part).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

/// Removes what is left of an attempt; only while the part is locked.
fn forget(path: &Path) {
    for suffix in [".part", ".part.mark"] {
        let _ = fs::remove_file(beside(path, suffix));
    }
}

/// What `NAME.part` is a part of; it lies beside it as `NAME.part.mark`.
struct Mark {
    url: String,
    /// A strong ETag, else Last-Modified: good for If-Range.
    validator: String,
    total: Option<u64>,
}

impl Mark {
    /// From an answer's headers. Where only the rest of a file comes, `total` is the length of
    /// that.
    fn of(url: &str, headers: &ureq::http::HeaderMap) -> Self {
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let etag = header("etag").filter(|e| !e.starts_with("W/"));
        let validator = etag.or_else(|| header("last-modified")).unwrap_or("").to_string();
        Self {
            url: url.into(),
            validator,
            total: header("content-length").and_then(|l| l.parse().ok()),
        }
    }

    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        let (url, validator, total) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Self { url: url.into(), validator: validator.into(), total: total.parse().ok() })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let total = self.total.map_or("unknown".to_string(), |t| t.to_string());
        fs::write(path, format!("{}\n{}\n{total}\n", self.url, self.validator))
            .map_err(Error::io("write", path))?;
        Ok(())
    }
}
