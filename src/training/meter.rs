//! Where the time of a training goes: the lines of `metrics.jsonl`, one per interval of steps.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{session::Session, train_step::StepReport};
use crate::distributed::device;

/// Seconds between two lines in the log.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Counts one interval after another.
pub struct Meter {
    /// Steps per interval.
    pub interval: usize,
    since: Instant,
    logged: Instant,
    samples: usize,
    /// Seconds in which this rank waited for data, waited for the other ranks, updated the weights,
    /// wrote checkpoints.
    data: f64,
    communication: f64,
    optimizer: f64,
    pub checkpoint: f64,
    norm: f64,
}

impl Meter {
    /// About ten intervals per epoch of `steps` steps.
    pub fn new(steps: usize) -> Self {
        let now = Instant::now();
        let interval = steps.div_ceil(10).max(1);
        Self {
            interval,
            since: now,
            logged: now,
            samples: 0,
            data: 0.0,
            communication: 0.0,
            optimizer: 0.0,
            checkpoint: 0.0,
            norm: 0.0,
        }
    }

    /// Adds a step of `samples` of all ranks, before which this rank `waited` seconds for data.
    pub fn add(&mut self, samples: usize, waited: f64, step: &StepReport) {
        self.samples += samples;
        self.data += waited;
        self.communication += step.communication;
        self.optimizer += step.optimizer;
        self.norm = step.norm;
    }

    /// Ends the interval: its line of `metrics.jsonl`, and from time to time a line in the log.
    pub fn line(&mut self, session: &Session, lr: f64) -> Value {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let s = &session.state;
        // The losses of the whole interval, also those from before a restart.
        let loss =
            mean(&session.seen_losses[(s.step_in_epoch - 1) / self.interval * self.interval..]);
        let (rate, fastest) =
            (self.samples as f64 / seconds, self.samples as f64 / (seconds - self.data).max(1e-9));
        let share = |part: f64| part / seconds;
        let (host, gpu) = (resident_mib(), device::memory_mib(session.world.device));
        let line = json!({
            "epoch": s.epoch + 1,
            "step": s.step,
            "lr": lr,
            "loss": loss,
            "gradient_norm": self.norm,
            "ranks": session.world.size(),
            "samples_per_s": rate,
            "samples_per_s_without_waiting": fastest,
            "data_wait": share(self.data),
            "communication": share(self.communication),
            "optimizer": share(self.optimizer),
            "checkpoint": share(self.checkpoint),
            "skipped_steps": s.skipped,
            "resident_mib": host,
            "gpu_mib": gpu,
        });
        if self.logged.elapsed() > LOG_EVERY {
            let percent = |part: f64| format!("{:.0} %", 100.0 * share(part));
            log::info!(
                "step {}: {rate:.0} samples/s ({fastest:.0} without waiting for data); data {}, \
                    communication {}, optimizer {}, checkpoint {}; loss {}, gradient {:.2}, lr \
                    {lr:.2e}, skipped {}; memory {host} MiB{}",
                s.step,
                percent(self.data),
                percent(self.communication),
                percent(self.optimizer),
                percent(self.checkpoint),
                loss.map_or("-".into(), |l| format!("{l:.4}")),
                self.norm,
                s.skipped,
                gpu.map_or(String::new(), |mib| format!(", GPU {mib} MiB")),
            );
            self.logged = Instant::now();
        }
        *self = Self { interval: self.interval, logged: self.logged, ..Self::new(1) };
        line
    }
}

/// Resident memory of this process in MiB.
pub fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .map_or(0, |pages| (pages * 4096) >> 20)
}

/// The mean of the finite losses; `None` where there is none.
pub fn mean(losses: &[f32]) -> Option<f64> {
    let finite: Vec<f64> = losses.iter().map(|&l| f64::from(l)).filter(|l| l.is_finite()).collect();
    (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
}
