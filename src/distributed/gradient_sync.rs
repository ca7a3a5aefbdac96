//! The sum of all ranks' gradients, stage by stage: the sum of the last stage runs while the stages
//! before it still compute.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tch::{Kind, Tensor};

use super::{Ticket, World};
use crate::{base::Result, config::Wire};

/// Sums flat gradients over the ranks in buckets, one per stage of the network. Only the backward
/// pass after [`arm`](Self::arm) starts the sums; those before it just add up (gradient
/// accumulation). Clones share the sums.
#[derive(Clone)]
pub struct GradientSync {
    world: &'static World,
    wire: Wire,
    state: Arc<Mutex<SyncState>>,
}

/// What happened in a backward pass, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncEvent {
    /// The gradient of this parameter was complete.
    Gradient(usize),
    /// The sum of this bucket was started.
    Begun(usize),
}

struct SyncState {
    buckets: Vec<Bucket>,
    /// The bucket of each parameter.
    bucket_of: Vec<usize>,
    armed: bool,
    events: Vec<SyncEvent>,
    /// The pending sum of the running statistics.
    statistics: Option<Ticket>,
}

struct Bucket {
    /// Its part of the flat gradients.
    gradients: Tensor,
    /// Its parameters.
    leaves: Range<usize>,
    /// Number of parameters whose gradient is not complete yet.
    missing: usize,
    /// What is sent in the place of `gradients`, in another kind of number.
    sent: Option<Tensor>,
    ticket: Option<Ticket>,
}

impl GradientSync {
    /// For `gradients`, the flat gradients of a network, and its `stages`: the parameters of each,
    /// and where their gradients lie. `wire` is the kind of number that is sent.
    pub fn new(
        stages: Vec<(Range<usize>, Range<i64>)>,
        gradients: &Tensor,
        world: &'static World,
        wire: Wire,
    ) -> Self {
        let bucket_of = stages.iter().enumerate();
        let bucket_of = bucket_of.flat_map(|(b, (leaves, _))| leaves.clone().map(move |_| b));
        let bucket_of = bucket_of.collect();
        let bucket = |(leaves, values): (Range<usize>, Range<i64>)| Bucket {
            gradients: gradients.narrow(0, values.start, values.end - values.start),
            leaves,
            missing: 0,
            sent: None,
            ticket: None,
        };
        let state = SyncState {
            buckets: stages.into_iter().map(bucket).collect(),
            bucket_of,
            armed: false,
            events: Vec::new(),
            statistics: None,
        };
        Self { world, wire, state: Arc::new(Mutex::new(state)) }
    }

    /// The ranks whose gradients are summed.
    pub fn world(&self) -> &'static World {
        self.world
    }

    /// The next backward pass is the last one of its step. Where ranks normalise by themselves,
    /// `statistics` are the flat running statistics and the weight of this rank's in their mean
    /// over the ranks, which replaces them on all ranks.
    pub fn arm(&self, statistics: Option<(Tensor, f64)>) {
        let mut state = self.state();
        if let (Some((mut values, weight)), true) = (statistics, self.world.size() > 1) {
            let _ = tch::no_grad(|| values.g_mul_scalar_(weight));
            let begun = self.world.begin(&values);
            state.statistics = Some(begun.unwrap_or_else(|e| self.world.fail(&e)));
        }
        state.armed = true;
        state.events.clear();
        state.buckets.iter_mut().for_each(|b| b.missing = b.leaves.len());
    }

    /// A backward pass has completed the gradient of parameter `leaf`. The last one of a stage
    /// starts the sum of its bucket. A failure ends the job.
    pub fn gradient_ready(&self, leaf: usize) {
        let done = self.state().complete(leaf, self.world, self.wire);
        done.unwrap_or_else(|e| self.world.fail(&e));
    }

    /// Waits for all sums. The flat gradients are then those of all ranks together.
    pub fn finish(&self) -> Result<()> {
        let mut state = self.state();
        state.armed = false;
        for bucket in state.buckets.iter_mut().rev() {
            let ticket = bucket.ticket.take().expect("a backward pass reaches every parameter");
            self.world.finish(ticket)?;
            if let Some(sent) = bucket.sent.take() {
                tch::no_grad(|| bucket.gradients.copy_(&sent));
            }
        }
        if let Some(ticket) = state.statistics.take() {
            self.world.finish(ticket)?;
        }
        Ok(())
    }

    /// Of the last backward pass.
    pub fn events(&self) -> Vec<SyncEvent> {
        self.state().events.clone()
    }

    fn state(&self) -> MutexGuard<'_, SyncState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SyncState {
    fn complete(&mut self, leaf: usize, world: &World, wire: Wire) -> Result<()> {
        if !self.armed {
            return Ok(());
        }
        self.events.push(SyncEvent::Gradient(leaf));
        let at = self.bucket_of[leaf];
        let bucket = &mut self.buckets[at];
        bucket.missing -= 1;
        if bucket.missing == 0 {
            if wire == Wire::Bf16 && world.size() > 1 {
                bucket.sent = Some(tch::no_grad(|| bucket.gradients.to_kind(Kind::BFloat16)));
            }
            bucket.ticket = Some(world.begin(bucket.sent.as_ref().unwrap_or(&bucket.gradients))?);
            self.events.push(SyncEvent::Begun(at));
        }
        Ok(())
    }
}
