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
    kind: config::Schedule,
    lr: f64,
    momentum: f64,
    /// Steps of the run.
    steps: usize,
    /// One-cycle: steps with rising lr, div, final_div, (largest, smallest) momentum.
    rising: usize,
    div: f64,
    final_div: f64,
    momenta: (f64, f64),
    /// Multi-step: first steps of the later phases, and the factor of each.
    milestones: Vec<usize>,
    gamma: f64,
}

impl Schedule {
    /// The configured schedule over `train.epochs` epochs of `steps_per_epoch` optimiser steps.
    pub fn new(train: &config::Train, steps_per_epoch: usize) -> Self {
        let steps = train.epochs * steps_per_epoch;
        Self {
            kind: train.schedule,
            lr: train.lr,
            momentum: train.momentum,
            steps,
            rising: (steps as f64 * train.pct_start) as usize,
            div: train.div,
            final_div: train.final_div,
            momenta: (train.momentum_max, train.momentum_min),
            milestones: train
                .milestones
                .iter()
                .map(|m| (m * steps_per_epoch as f64).round() as usize)
                .collect(),
            gamma: train.gamma,
        }
    }

    /// Steps of the run.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Rates of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> Rates {
        let Self { lr, momentum, .. } = *self;
        match self.kind {
            config::Schedule::OneCycle => self.one_cycle(step),
            config::Schedule::Constant => Rates { lr, momentum },
            config::Schedule::MultiStep => {
                let passed = self.milestones.iter().filter(|&&m| m <= step).count();
                Rates { lr: lr * self.gamma.powi(passed as i32), momentum }
            }
        }
    }

    /// As fastai 1.0 (Smith 2018): lr rises linearly from lr / div, then falls by a cosine to lr /
    /// div / final_div; the momentum mirrors it. The last step is one before the end of the curve.
    fn one_cycle(&self, step: usize) -> Rates {
        let (low, (most, least)) = (self.lr / self.div, self.momenta);
        if step <= self.rising && self.rising > 0 {
            let share = step as f64 / self.rising as f64;
            return Rates {
                lr: low + share * (self.lr - low),
                momentum: most + share * (least - most),
            };
        }
        let share = (step - self.rising) as f64 / (self.steps - self.rising).max(1) as f64;
        let cosine =
            |start: f64, end: f64| end + (start - end) / 2.0 * (1.0 + (PI * share.min(1.0)).cos());
        Rates { lr: cosine(self.lr, low / self.final_div), momentum: cosine(least, most) }
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
                assert!(
                    (is.lr - want.lr).abs() < 1e-15,
                    "step {step}: lr {} not {}",
                    is.lr,
                    want.lr
                );
                assert!(
                    (is.momentum - want.momentum).abs() < 1e-14,
                    "step {step}: {} not {}",
                    is.momentum,
                    want.momentum
                );
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
