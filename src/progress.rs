//! Progress of long work: a bar on a terminal, a line every few seconds in a log file.

use std::{
    io::IsTerminal,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts units of work; shared by threads.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    unit: &'static str,
    last_line: Mutex<Instant>,
    start: Instant,
    /// Units that were done before.
    before: u64,
    bytes: AtomicU64,
}

impl Progress {
    /// `what` is what goes on ("preprocess"), `unit` what is counted ("samples").
    pub fn new(what: impl Into<String>, unit: &'static str, total: u64) -> Self {
        let what = what.into();
        let visible = std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg}, {per_sec}, {eta} left").expect("a fixed template");
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style).with_prefix(what.clone()).with_message(unit);
        Self { bar, what, unit, last_line: Mutex::new(Instant::now()), start: Instant::now(), before: 0, bytes: AtomicU64::new(0) }
    }

    /// As [`new`](Self::new), with `done` units done in an earlier life; they do not count as speed.
    pub fn going_on(what: impl Into<String>, unit: &'static str, done: u64, total: u64) -> Self {
        let mut progress = Self::new(what, unit, total);
        progress.bar = progress.bar.clone().with_position(done);
        progress.bar.reset_eta();
        progress.before = done;
        progress
    }

    /// `n` more units are done.
    pub fn add(&self, n: u64) {
        self.bar.inc(n);
        self.line();
    }

    /// `n` more bytes have come; the line then also says how many there are and how fast they come.
    pub fn add_bytes(&self, n: u64) {
        self.bytes.fetch_add(n, Relaxed);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{}{}", self.unit, self.received()));
        }
        self.line();
    }

    /// `, 12.3 MB at 4.5 MB/s`; nothing where bytes are not counted.
    fn received(&self) -> String {
        match self.bytes.load(Relaxed) as f64 / 1e6 {
            0.0 => String::new(),
            mb => format!(", {mb:.1} MB at {:.1} MB/s", mb / self.start.elapsed().as_secs_f64().max(1e-3)),
        }
    }

    fn line(&self) {
        if !self.bar.is_hidden() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(|e| e.into_inner());
        if last.elapsed() > Duration::from_secs(10) {
            *last = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let rate = (done - self.before) as f64 / self.start.elapsed().as_secs_f64();
            let left = (total.saturating_sub(done)) as f64 / rate.max(1e-9);
            let left = if rate > 0.0 { format!(", {} left", duration(left)) } else { String::new() };
            log::info!("{}: {done}/{total} {}{}, {rate:.1}/s{left}", self.what, self.unit, self.received());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds as a person reads them: `42 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_read_well() {
        assert_eq!([42.0, 185.0, 7800.0].map(super::duration), ["42 s", "3 min 05 s", "2 h 10 min"]);
    }
}
