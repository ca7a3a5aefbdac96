//! One file: attempts, the download itself, and the checks before it gets its name.

use std::{
    fs,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use ureq::{Body, http::Response};

use super::{
    FileKind, Item,
    attempt_error::AttemptError,
    check,
    client::{Client, header},
    ledger::LedgerRow,
    part::Part,
    with_suffix,
};
use crate::{
    base::{Error, Result, progress::Progress},
    config,
};

/// Bytes by which a part must grow for the count of attempts to start again.
const MIN_PROGRESS: u64 = 8 << 20;

/// A connection that brings fewer bytes in two read timeouts counts as stalled.
const MIN_BYTES: u64 = 64 << 10;

/// Longest wait before another attempt, in seconds.
const MAX_WAIT: f64 = 60.0;

pub struct Transfer<'a> {
    pub client: &'a Client<'a>,
    pub config: &'a config::Fetch,
    pub max_side: u32,
    pub progress: &'a Progress,
}

impl Transfer<'_> {
    /// Fetches `item` into `folder`. An error is returned with the number of attempts.
    pub fn fetch(&self, folder: &Path, item: &Item) -> Result<LedgerRow, (AttemptError, u32)> {
        let path = &folder.join(&item.file);
        let part_len = || fs::metadata(with_suffix(path, ".part")).map_or(0, |m| m.len());
        // The part's length when the count of attempts without progress started.
        let mut start = part_len();
        let (mut attempts, mut without_progress) = (0, 0);
        loop {
            attempts += 1;
            without_progress += 1;
            let error = match self.attempt(path, item) {
                Ok(row) => return Ok(row),
                Err(e @ (AttemptError::Retry(_) | AttemptError::Corrupt(_))) => e,
                Err(e) => return Err((e, attempts)),
            };
            // Bytes of a file that fails its check do not count: there might be no end.
            if matches!(error, AttemptError::Retry(_)) && part_len() >= start + MIN_PROGRESS {
                (without_progress, start) = (0, part_len());
            }
            if without_progress >= self.config.attempts {
                return Err((error, attempts));
            }
            log::debug!("{}: {error}; attempt {attempts}", item.url);
            self.client.pause(self.backoff(without_progress)).map_err(|e| (e.into(), attempts))?;
        }
    }

    /// Doubled with each attempt, and randomly between half of that and all of it, so that the
    /// connections do not all return at the same time.
    fn backoff(&self, attempt: u32) -> Duration {
        let doublings = attempt.clamp(1, 16) as i32 - 1;
        let wait = (self.config.backoff_seconds * 2f64.powi(doublings)).min(MAX_WAIT);
        Duration::from_secs_f64(wait * (0.5 + 0.5 * rand::random::<f64>()))
    }

    /// One request. A part that is empty or of no use is removed.
    fn attempt(&self, path: &Path, item: &Item) -> Result<LedgerRow, AttemptError> {
        let mut part = Part::open(path, &item.url)?;
        let result = match part.total() == Some(part.len()) {
            true => Ok(()),
            false => self.download(&mut part, item),
        };
        match result {
            Ok(()) => self.publish(part, item),
            Err(e) => {
                let is_useless = matches!(e, AttemptError::Missing(_) | AttemptError::TooLarge(_));
                if is_useless || part.len() == 0 {
                    part.discard();
                }
                Err(e)
            }
        }
    }

    /// Requests what is missing of `part`, and appends it.
    fn download(&self, part: &mut Part, item: &Item) -> Result<(), AttemptError> {
        let answer = self.client.get(&item.url, &part.range_headers())?;
        let restart = part.is_restarted_by(&answer)?;
        let content_type = header(&answer, "content-type").unwrap_or_default();
        if !check::content_type(item.kind, content_type) {
            let what = format!("a page of type {content_type} instead of the file");
            return Err(AttemptError::Corrupt(what));
        }
        let encoding = header(&answer, "content-encoding").unwrap_or_default();
        if !["", "identity"].contains(&encoding) {
            let what = format!("encoded as {encoding}, which was not requested");
            return Err(AttemptError::Corrupt(what));
        }
        match restart {
            true => part.restart(&item.url, &answer)?,
            false => part.learn_total(&answer),
        }
        if let Some(total) = part.total().filter(|&total| total > self.largest(item)) {
            return Err(self.too_large(item, &format!("the server announces {total} bytes")));
        }
        let result = self.receive(part, answer, item);
        let len = part.len();
        match (result, part.total()) {
            (Err(e @ (AttemptError::Fatal(_) | AttemptError::TooLarge(_))), _) => return Err(e),
            (_, Some(total)) if len == total => {}
            (Ok(()), Some(total)) => {
                let what = format!("the connection ended after {len} of {total} bytes");
                return Err(AttemptError::Retry(what));
            }
            (Err(AttemptError::Retry(what)), Some(total)) => {
                return Err(AttemptError::Retry(format!("{what} after {len} of {total} bytes")));
            }
            (result, _) => result?,
        }
        if part.total().is_none() && item.kind == FileKind::Table && check::is_cut(part.path())? {
            part.discard();
            return Err(AttemptError::Retry("the table's last line is truncated".into()));
        }
        Ok(())
    }

    /// Bytes that `item` cannot exceed.
    fn largest(&self, item: &Item) -> u64 {
        check::largest(item.kind, self.max_side)
    }

    /// Why more than [`largest`](Self::largest) bytes are not taken.
    fn too_large(&self, item: &Item, what: &str) -> AttemptError {
        let bound = match item.kind {
            FileKind::Image => {
                format!("any image of preprocess.max_pixels_side = {} pixels", self.max_side)
            }
            FileKind::Table => "any table of samples".into(),
            FileKind::Archive => "any archive of the competition".into(),
            FileKind::Xml => "any XML of the Atlas".into(),
        };
        let largest = self.largest(item);
        AttemptError::TooLarge(format!("{what}, more than {bound} has ({largest} bytes)"))
    }

    /// Appends the body of `answer`, which is `item`, to `part`.
    fn receive(
        &self,
        part: &mut Part,
        answer: Response<Body>,
        item: &Item,
    ) -> Result<(), AttemptError> {
        let largest = self.largest(item);
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let patience = Duration::from_secs_f64(2.0 * self.config.read_timeout_seconds);
        let (mut since, mut received) = (Instant::now(), 0);
        loop {
            self.client.check_stop()?;
            if since.elapsed() > patience {
                if received < MIN_BYTES {
                    let seconds = patience.as_secs_f64();
                    let what = format!("only {received} bytes came in {seconds} seconds");
                    return Err(AttemptError::Retry(what));
                }
                (since, received) = (Instant::now(), 0);
            }
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if part.len() + n as u64 > largest => {
                    return Err(self.too_large(item, "the server goes on sending"));
                }
                Ok(n) => {
                    part.append(&buffer[..n])?;
                    received += n as u64;
                    self.progress.add_bytes(n as u64);
                }
                Err(e) => return Err(self.client.connection_error(&e)),
            }
        }
    }

    /// Checks the complete file and gives it its name.
    fn publish(&self, part: Part, item: &Item) -> Result<LedgerRow, AttemptError> {
        if let Err(e) = check::content(item.kind, part.path(), self.max_side) {
            part.discard();
            return Err(match e {
                Error::Data { what, .. } => AttemptError::Corrupt(what),
                e => AttemptError::Fatal(e),
            });
        }
        let (bytes, sha256) = (part.len(), check::sha256(part.path())?);
        let validator = part.publish()?;
        Ok(LedgerRow { file: item.file.clone(), bytes, sha256, url: item.url.clone(), validator })
    }
}
