//! Progress of long work: a bar on a terminal, a line every few seconds in a log file.

use std::{
    io::IsTerminal,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars on the terminal, one below the other; hidden where standard error is not a terminal.
static DRAWN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Runs `write`, which writes whole lines to standard error, so that they appear above the
/// bars. A terminal that was closed is none any more, and has no bars to move.
pub fn above<T>(write: impl FnOnce() -> T) -> T {
    match std::io::stderr().is_terminal() {
        true => DRAWN.suspend(write),
        false => write(),
    }
}

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
    /// `what` names the work ("preprocess"), `unit` what is counted ("samples"); `total` is 0 where
    /// it is not known.
    pub fn new(what: impl Into<String>, unit: &'static str, total: u64) -> Self {
        let what = what.into();
        let (bar, template) = match total {
            0 => (ProgressBar::no_length(), "{prefix} {pos} {msg}, {per_sec}"),
            _ => (
                ProgressBar::new(total),
                "{prefix} {bar:30} {pos}/{len} {msg}, {per_sec}, {eta} left",
            ),
        };
        let style = ProgressStyle::with_template(template).expect("a fixed template");
        let bar = DRAWN.add(bar.with_style(style).with_prefix(what.clone()).with_message(unit));
        let (start, bytes) = (Instant::now(), AtomicU64::new(0));
        Self { bar, what, unit, last_line: Mutex::new(start), start, before: 0, bytes }
    }

    /// As [`new`](Self::new), with `done` units done by an earlier process, which do not count for
    /// the speed.
    pub fn resumed(what: impl Into<String>, unit: &'static str, done: u64, total: u64) -> Self {
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

    /// `n` more bytes were received; the line then also has their number and rate.
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
            mb => format!(
                ", {mb:.1} MB at {:.1} MB/s",
                mb / self.start.elapsed().as_secs_f64().max(1e-3)
            ),
        }
    }

    fn line(&self) {
        if !self.bar.is_hidden() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(|e| e.into_inner());
        if last.elapsed() > Duration::from_secs(10) {
            *last = Instant::now();
            let done = self.bar.position();
            let rate = (done - self.before) as f64 / self.start.elapsed().as_secs_f64();
            let (mut of, mut remaining) = (String::new(), String::new());
            if let Some(total) = self.bar.length() {
                of = format!("/{total}");
                if rate > 0.0 {
                    remaining =
                        format!(", {} left", duration(total.saturating_sub(done) as f64 / rate));
                }
            }
            let (what, unit, received) = (&self.what, self.unit, self.received());
            log::info!("{what}: {done}{of} {unit}{received}, {rate:.1}/s{remaining}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Lines on a terminal that are updated in place; nothing in a log file.
pub struct Note(ProgressBar);

impl Note {
    pub fn begin() -> Self {
        let style = ProgressStyle::with_template("{msg}").expect("a fixed template");
        Self(DRAWN.add(ProgressBar::no_length().with_style(style)))
    }

    /// Whether standard error is not a terminal.
    pub fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    pub fn set(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// `width` characters: full blocks for the share of the work that is done, light ones for the rest.
pub fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64) as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

/// A curve as at most `width` characters between the least value, low, and the largest, high; where
/// there are more values than characters, each shows the mean of several. A value that is not
/// finite gives a gap.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = values.len().min(width);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let means: Vec<f64> = (0..columns)
        .map(|i| mean(&values[i * values.len() / columns..(i + 1) * values.len() / columns]))
        .collect();
    let finite = || means.iter().copied().filter(|m| m.is_finite());
    let (least, most) =
        (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let level = |m: &f64| match (m - least) / (most - least) {
        _ if !m.is_finite() => ' ',
        share if share.is_finite() => LEVELS[(share * 7.0).round() as usize],
        _ => LEVELS[0], // all are equal
    };
    means.iter().map(level).collect()
}

/// Seconds in readable form: `42 s`, `3 min 05 s`, `2 h 10 min`.
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
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!([42.0, 185.0, 7800.0].map(duration), ["42 s", "3 min 05 s", "2 h 10 min"]);
    }

    #[test]
    fn a_sparkline_spans_the_least_to_the_largest() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[9.0, 2.0, 5.5], 8), "█▁▅");
        assert_eq!(sparkline(&[1.0, 3.0, 8.0, 10.0, 16.0], 2), "▁█"); // means of two and of three
        assert_eq!(sparkline(&[1.0, f64::NAN, 2.0], 8), "▁ █");
        assert_eq!(
            (sparkline(&[], 8), sparkline(&[3.0; 4], 3), sparkline(&[f64::INFINITY], 3)),
            (String::new(), "▁▁▁".into(), " ".into())
        );
    }

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0, 7.0].map(|s| bar(s, 4)),
            ["░░░░", "██░░", "███░", "████", "████"]
        );
        assert_eq!(bar(f64::NAN, 2), "░░");
    }
}
