//! The sum of all ranks' gradients, stage by stage: the last stage's is under way while the stages
//! before it still compute.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tch::{Kind, Tensor};

use crate::{
    base::Result,
    config::Wire,
    distributed::{Ticket, World},
    network::{autograd::GradientHooks, model::Network},
};

/// Sums the gradients of a network over the ranks in flat buckets, one per stage. Only the backward
/// pass after [`arm`](Self::arm) starts the sums; those before it just add up (gradient
/// accumulation).
pub struct GradientSync {
    world: &'static World,
    state: Arc<Mutex<State>>,
    _hooks: GradientHooks,
}

/// What happened in a backward pass, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The gradient of this parameter was complete.
    Gradient(usize),
    /// The sum of this bucket was begun.
    Begun(usize),
}

struct State {
    buckets: Vec<Bucket>,
    /// The bucket of each parameter.
    bucket_of: Vec<usize>,
    armed: bool,
    events: Vec<Event>,
    /// The sum of the running statistics under way.
    statistics: Option<Ticket>,
}

struct Bucket {
    /// Its part of the flat gradients.
    gradients: Tensor,
    /// Its parameters.
    leaves: Range<usize>,
    /// Those whose gradient is not complete yet.
    missing: usize,
    wire: Option<Tensor>,
    ticket: Option<Ticket>,
}

impl GradientSync {
    /// Hooks into the backward passes of `network`, until it is dropped. `wire` is the kind of
    /// number that travels.
    pub fn new(network: &Network, world: &'static World, wire: Wire) -> Self {
        let flat = network.flat_gradients();
        let buckets: Vec<Bucket> = network
            .stages()
            .into_iter()
            .map(|(leaves, values)| Bucket {
                gradients: flat.narrow(0, values.start, values.end - values.start),
                missing: 0,
                leaves,
                wire: None,
                ticket: None,
            })
            .collect();
        let bucket_of = buckets
            .iter()
            .enumerate()
            .flat_map(|(b, bucket)| bucket.leaves.clone().map(move |_| b))
            .collect();
        let state = Arc::new(Mutex::new(State {
            buckets,
            bucket_of,
            armed: false,
            events: Vec::new(),
            statistics: None,
        }));
        let theirs = state.clone();
        let hooks = network.on_gradients(move |leaf| {
            let done = lock(&theirs).complete(leaf, world, wire);
            done.unwrap_or_else(|e| world.fail(&e));
        });
        Self { world, state, _hooks: hooks }
    }

    /// The next backward pass is the last one of its step. Where ranks normalise by themselves,
    /// `statistics` is what this rank's running statistics weigh in the mean of all ranks, which
    /// all go on with.
    pub fn arm(&self, network: &Network, statistics: Option<f64>) {
        let mut state = lock(&self.state);
        if let (Some(weight), true) = (statistics, self.world.size() > 1) {
            let mut buffers = network.flat_buffers();
            let _ = tch::no_grad(|| buffers.g_mul_scalar_(weight));
            state.statistics =
                Some(self.world.begin(&buffers).unwrap_or_else(|e| self.world.fail(&e)));
        }
        state.armed = true;
        state.events.clear();
        state.buckets.iter_mut().for_each(|b| b.missing = b.leaves.len());
    }

    /// Waits for all sums. The flat gradients are then those of all ranks together.
    pub fn finish(&self) -> Result<()> {
        let mut state = lock(&self.state);
        state.armed = false;
        for bucket in state.buckets.iter_mut().rev() {
            let ticket = bucket.ticket.take().expect("a backward pass reaches every parameter");
            self.world.finish(ticket)?;
            if let Some(wire) = bucket.wire.take() {
                tch::no_grad(|| bucket.gradients.copy_(&wire));
            }
        }
        if let Some(ticket) = state.statistics.take() {
            self.world.finish(ticket)?;
        }
        Ok(())
    }

    /// Of the last backward pass.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.state).events.clone()
    }
}

impl State {
    fn complete(&mut self, leaf: usize, world: &World, wire: Wire) -> Result<()> {
        if !self.armed {
            return Ok(());
        }
        self.events.push(Event::Gradient(leaf));
        let at = self.bucket_of[leaf];
        let bucket = &mut self.buckets[at];
        bucket.missing -= 1;
        if bucket.missing == 0 {
            if wire == Wire::Bf16 && world.size() > 1 {
                bucket.wire = Some(tch::no_grad(|| bucket.gradients.to_kind(Kind::BFloat16)));
            }
            bucket.ticket = Some(world.begin(bucket.wire.as_ref().unwrap_or(&bucket.gradients))?);
            self.events.push(Event::Begun(at));
        }
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
