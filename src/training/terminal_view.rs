//! The training on a terminal: progress, curves of loss and F1, speed and memory. Nothing of it is
//! written where standard error is not a terminal.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{meter::resident_mib, session::Session};
use crate::{
    base::progress::{Note, bar, duration, sparkline},
    distributed::device,
    training::history::EpochRow,
};

/// Columns of a curve and of the bar.
const WIDTH: usize = 40;

/// Steps over which speed is averaged.
const RECENT: usize = 20;

/// Time between two updates.
const EVERY: Duration = Duration::from_millis(200);

/// The lines of one training.
pub struct TerminalView {
    note: Note,
    start: Instant,
    /// Steps that were done before this process started.
    before: u64,
    /// Mean losses of the intervals so far.
    losses: Vec<f64>,
    /// The last steps: when they ended, their samples, seconds of waiting for data.
    recent: VecDeque<(Instant, usize, f64)>,
    drawn: Option<Instant>,
}

impl TerminalView {
    pub fn begin(session: &Session) -> Self {
        let losses = if session.is_first() { session.logs.losses() } else { Vec::new() };
        Self {
            note: Note::begin(),
            start: Instant::now(),
            before: session.state.step,
            losses,
            recent: VecDeque::new(),
            drawn: None,
        }
    }

    /// Adds an interval with this mean loss.
    pub fn interval(&mut self, loss: Option<f64>) {
        self.losses.push(loss.unwrap_or(f64::NAN));
    }

    /// Adds a step of `samples`, before which this rank waited `waited` seconds for data.
    pub fn step(&mut self, session: &Session, samples: usize, waited: f64, lr: f64) {
        if self.note.is_hidden() {
            return;
        }
        self.recent.push_back((Instant::now(), samples, waited));
        if self.recent.len() > RECENT + 1 {
            self.recent.pop_front();
        }
        if self.recent.len() < 2 || self.drawn.is_some_and(|t| t.elapsed() < EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let ends = self.recent.back().zip(self.recent.front());
        let seconds = ends.map_or(0.0, |(b, f)| (b.0 - f.0).as_secs_f64()).max(1e-9);
        let since = self.recent.iter().skip(1);
        let (samples, waited) = since.fold((0, 0.0), |(n, s), step| (n + step.1, s + step.2));
        let (done, total) = (session.state.step, session.schedule.steps() as u64);
        let each = self.start.elapsed().as_secs_f64() / (done - self.before).max(1) as f64;
        let figures = Figures {
            fold: session.data.fold,
            share: done as f64 / total.max(1) as f64,
            remaining: each * total.saturating_sub(done) as f64,
            losses: &self.losses,
            history: &session.state.history,
            samples_per_s: samples as f64 / seconds,
            data_wait: waited / seconds,
            lr,
            resident_mib: resident_mib(),
            gpu_mib: device::memory_mib(session.world.device),
        };
        self.note.set(figures.text());
    }
}

/// What is shown.
struct Figures<'a> {
    fold: usize,
    /// Share of the steps of all epochs that is done.
    share: f64,
    /// Seconds.
    remaining: f64,
    losses: &'a [f64],
    history: &'a [EpochRow],
    samples_per_s: f64,
    /// Share of the time in which this rank waited for data.
    data_wait: f64,
    lr: f64,
    resident_mib: u64,
    gpu_mib: Option<u64>,
}

impl Figures<'_> {
    /// Four lines.
    fn text(&self) -> String {
        let curve = |name: &str, values: &[f64], more: String| {
            let last = values
                .iter()
                .rev()
                .find(|v| v.is_finite())
                .map_or("    -".into(), |v| format!("{v:.3}"));
            format!("{name:<9} {:<WIDTH$} {last}{more}", sparkline(values, WIDTH))
        };
        let (scores, epochs): (Vec<f64>, Vec<usize>) =
            self.history.iter().filter_map(|row| Some((row.macro_f1?, row.epoch))).unzip();
        let best =
            (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] { i } else { best });
        let best = best
            .map_or(String::new(), |i| format!(", best {:.3} in epoch {}", scores[i], epochs[i]));
        let gpu = self.gpu_mib.map_or(String::new(), |mib| format!(", GPU {mib} MiB"));
        [
            format!(
                "{:<9} {} {:.0} %, about {} left",
                format!("fold {}", self.fold),
                bar(self.share, WIDTH),
                100.0 * self.share,
                duration(self.remaining)
            ),
            curve("loss", self.losses, String::new()),
            curve("macro F1", &scores, best),
            format!(
                "{:<9} {:.0} samples/s, waiting for data {:.0} %, memory {} MiB{gpu}, lr {:.2e}",
                "speed",
                self.samples_per_s,
                100.0 * self.data_wait,
                self.resident_mib,
                self.lr
            ),
        ]
        .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize, macro_f1: Option<f64>) -> EpochRow {
        EpochRow { epoch, macro_f1, ..EpochRow::default() }
    }

    #[test]
    fn four_lines_show_progress_curves_and_speed() {
        let history = [row(1, Some(0.1)), row(2, None), row(3, Some(0.5)), row(4, Some(0.4))];
        let figures = Figures {
            fold: 1,
            share: 0.25,
            remaining: 185.0,
            losses: &[4.0, 2.0, 0.5],
            history: &history,
            samples_per_s: 142.6,
            data_wait: 0.021,
            lr: 3e-3,
            resident_mib: 812,
            gpu_mib: Some(4096),
        };
        let pad = |text: &str| format!("{text:<40}");
        let expected = [
            format!("fold 1    {}{} 25 %, about 3 min 05 s left", "█".repeat(10), "░".repeat(30)),
            format!("loss      {} 0.500", pad("█▄▁")),
            format!("macro F1  {} 0.400, best 0.500 in epoch 3", pad("▁█▆")),
            "speed     143 samples/s, waiting for data 2 %, memory 812 MiB, GPU 4096 MiB, lr \
                3.00e-3"
                .into(),
        ];
        assert_eq!(figures.text().lines().collect::<Vec<_>>(), expected);
        let at_start = Figures { losses: &[], history: &[], gpu_mib: None, ..figures };
        let text = at_start.text();
        assert!(text.lines().nth(2).unwrap().trim_end().ends_with('-'), "{text}");
    }
}
