//! Learning rate and momentum as a pure function of the step.

use std::f64::consts::PI;

use crate::config;

/// The rates of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub lr: f64,
    /// Momentum of SGD, beta1 of AdamW.
    pub momentum: f64,
}

/// The rates of all steps of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    train: config::Train,
    /// Steps of the run.
    steps: usize,
    /// One-cycle: steps with rising lr.
    rising: usize,
    /// Multi-step: first steps of the later phases.
    milestones: Vec<usize>,
}

impl Schedule {
    /// The configured schedule over `train.epochs` epochs of `steps_per_epoch` optimiser steps.
    pub fn new(train: &config::Train, steps_per_epoch: usize) -> Self {
        let steps = train.epochs * steps_per_epoch;
        let first_step = |epochs: &f64| (epochs * steps_per_epoch as f64).round() as usize;
        Self {
            train: train.clone(),
            steps,
            rising: (steps as f64 * train.pct_start) as usize,
            milestones: train.milestones.iter().map(first_step).collect(),
        }
    }

    /// Steps of the run.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Rates of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> Rates {
        let config::Train { schedule, lr, momentum, gamma, .. } = self.train;
        match schedule {
            config::Schedule::OneCycle => self.one_cycle(step),
            config::Schedule::Constant => Rates { lr, momentum },
            config::Schedule::MultiStep => {
                let passed = self.milestones.iter().filter(|&&m| m <= step).count();
                Rates { lr: lr * gamma.powi(passed as i32), momentum }
            }
        }
    }

    /// As fastai 1.0 (Smith 2018): lr rises linearly from lr / div, then falls by a cosine to lr /
    /// div / final_div; the momentum mirrors it. The last step is one before the end of the curve.
    fn one_cycle(&self, step: usize) -> Rates {
        let config::Train { lr, div, final_div, momentum_max, momentum_min, .. } = self.train;
        let low = lr / div;
        if step <= self.rising && self.rising > 0 {
            let share = step as f64 / self.rising as f64;
            return Rates {
                lr: low + share * (lr - low),
                momentum: momentum_max + share * (momentum_min - momentum_max),
            };
        }
        let share = (step - self.rising) as f64 / (self.steps - self.rising).max(1) as f64;
        let cosine =
            |start: f64, end: f64| end + (start - end) / 2.0 * (1.0 + (PI * share.min(1.0)).cos());
        Rates { lr: cosine(lr, low / final_div), momentum: cosine(momentum_min, momentum_max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train() -> config::Train {
        config::Train { epochs: 2, lr: 4e-3, ..Default::default() }
    }

    /// fastai 1.0's scheduler as it was implemented: a counter per phase, advanced after each
    /// batch.
    fn fastai(lr: f64, n: usize) -> Vec<Rates> {
        let a1 = (n as f64 * 0.3) as usize;
        let low = lr / 25.0;
        let phases = [(low, lr, 0.95, 0.85, a1), (lr, low / 1e4, 0.85, 0.95, n - a1)];
        let mut current = Rates { lr: low, momentum: 0.95 };
        let mut used = Vec::new();
        for (phase, (from, to, m_from, m_to, count)) in phases.into_iter().enumerate() {
            for i in 1..=count {
                used.push(current);
                let pct = i as f64 / count as f64;
                let anneal = |a: f64, b: f64| match phase {
                    0 => a + pct * (b - a),
                    _ => b + (a - b) / 2.0 * ((PI * pct).cos() + 1.0),
                };
                current = Rates { lr: anneal(from, to), momentum: anneal(m_from, m_to) };
            }
        }
        used
    }

    #[test]
    fn one_cycle_is_fastais_at_every_step() {
        for per_epoch in [2, 50, 337] {
            let schedule = Schedule::new(&train(), per_epoch);
            let expected = fastai(4e-3, 2 * per_epoch);
            assert_eq!(expected.len(), schedule.steps());
            for (step, want) in expected.iter().enumerate() {
                let is = schedule.at(step);
                assert!((is.lr - want.lr).abs() < 1e-15, "step {step}: {is:?} not {want:?}");
                let off = (is.momentum - want.momentum).abs();
                assert!(off < 1e-14, "step {step}: {is:?} not {want:?}");
            }
        }
        let schedule = Schedule::new(&train(), 50);
        assert_eq!(
            (schedule.at(0), schedule.at(30)),
            (Rates { lr: 1.6e-4, momentum: 0.95 }, Rates { lr: 4e-3, momentum: 0.85 })
        );
    }

    #[test]
    fn one_cycle_without_a_rise_starts_at_the_top() {
        let schedule = Schedule::new(&config::Train { pct_start: 0.0, ..train() }, 1);
        assert_eq!(schedule.at(0).lr, 4e-3);
        assert!(schedule.at(1).lr < 4e-3 && schedule.at(1).lr > 0.0);
    }

    #[test]
    fn multi_step_drops_at_its_milestones() {
        let train = config::Train {
            schedule: config::Schedule::MultiStep,
            milestones: vec![0.5, 1.0],
            gamma: 0.5,
            ..train()
        };
        let schedule = Schedule::new(&train, 10);
        assert_eq!(
            [0, 4, 5, 9, 10, 19].map(|s| schedule.at(s).lr / 4e-3),
            [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
        );
        let constant =
            Schedule::new(&config::Train { schedule: config::Schedule::Constant, ..train }, 10);
        assert_eq!(constant.at(19), Rates { lr: 4e-3, momentum: 0.9 });
    }
}
