//! One training step: forward and backward passes, the sum of the gradients over the ranks, the
//! update of the weights.

use std::{ops::Range, time::Instant};

use tch::Tensor;

use super::{
    backward::{Input, LossNotFinite, Passes, one_hot},
    session::Session,
};
use crate::{
    base::{Error, Result},
    distributed::{Op, batch_share::Share, device, watchdog::Limit},
    loading::loader::Batch,
    network::{
        model::{DropKeys, Norms},
        optim::Rates,
    },
};

/// What a step did.
pub struct StepReport {
    /// L2 norm of the gradient before clipping.
    pub norm: f64,
    /// Mean over the whole batch.
    pub loss: f64,
    /// The gradient was not finite, so that nothing was changed.
    pub skipped: bool,
    /// Some rank was asked to stop.
    pub stop: bool,
    /// Seconds in which this rank waited for the sums over the ranks.
    pub communication: f64,
    /// Seconds for the update of the weights.
    pub optimizer: f64,
}

/// Trains on `batch`, this rank's `share` of the step's samples. `stop` is whether this rank was
/// asked to stop. Where the loss is not finite, no parameter has changed.
pub fn train_step(
    session: &mut Session,
    batch: &Batch,
    share: &Share,
    rates: Rates,
    stop: bool,
) -> Result<Result<StepReport, LossNotFinite>> {
    assert!(!session.injected("panic"), "asked for by ATLAS_FAULT");
    if session.injected("error") {
        return Err(Error::failed("asked for by ATLAS_FAULT"));
    }
    let world = session.world;
    let statistics = session.network.flat_buffers().copy();
    let (logits, loss) = match forward_and_backward(session, batch, share) {
        Ok(done) => done,
        Err(not_finite) => return Ok(Err(not_finite)),
    };
    session.add_logits(share, &logits);
    device::wait(world.device);
    let (mut communication, mut optimizer) = (0.0, 0.0);
    let mut sums = [loss, f64::from(u8::from(stop))];
    timed(&mut communication, || {
        world.watchdog().during("sum of the gradients", Limit::Usual, || {
            world.all_reduce(&mut sums, Op::Sum)?;
            session.gradients.finish()?;
            device::wait(world.device);
            Ok::<_, Error>(())
        })
    })?;
    let step = timed(&mut optimizer, || {
        world.watchdog().during("optimizer", Limit::Usual, || {
            let step = session.optimizer.step(&session.network, rates);
            if let (false, Some(ema)) = (step.skipped, &mut session.ema) {
                ema.update(&session.network);
            }
            Ok::<_, Error>(step)
        })
    })?;
    let [loss, stops] = sums;
    session.seen_losses.push(loss as f32);
    session.state.optimizer_steps = session.optimizer.steps();
    if step.skipped {
        count_skipped(session, &statistics)?;
    }
    let (norm, skipped) = (step.norm, step.skipped);
    let stop = stops > 0.0;
    Ok(Ok(StepReport { norm, loss, skipped, stop, communication, optimizer }))
}

/// The logits of this rank's share `[n, 28]`, flat, and its part of the loss.
fn forward_and_backward(
    session: &Session,
    batch: &Batch,
    share: &Share,
) -> Result<(Vec<f32>, f64), LossNotFinite> {
    let (config, world) = (session.config, session.world);
    let side = config.augment.crop as usize;
    let image = side * side * 4;
    let passes = Passes {
        share,
        precision: session.precision(),
        losses: &config.train.loss,
        step: session.state.step,
    };
    let norms = |pass| match config.train.sync_bn {
        true if world.size() > 1 => {
            Norms::Together { world, samples: share.together(pass), counts: share.counts }
        }
        _ => Norms::Local,
    };
    let input = |range: Range<usize>| Input {
        images: session.state.network.normalization.apply(
            &batch.images[range.start * image..range.end * image],
            side,
            world.device,
        ),
        targets: one_hot(&batch.labels[range.clone()]).to_device(world.device),
        keys: DropKeys {
            seed: config.train.seed,
            epoch: session.state.epoch as u64,
            keys: &batch.keys[range],
        },
    };
    // With synchronised batch norm the ranks wait for each other in here, too.
    let limit = if config.train.sync_bn { Limit::Usual } else { Limit::None };
    world.watchdog().during("forward and backward pass", limit, || {
        passes.backward(&session.network, &session.gradients, norms, input)
    })
}

/// After a gradient that is not finite: restores the running `statistics`, which the forward pass
/// may have made infinite, too.
///
/// # Errors
/// After more than `train.max_skipped_steps` such steps.
fn count_skipped(session: &mut Session, statistics: &Tensor) -> Result<()> {
    tch::no_grad(|| session.network.flat_buffers().copy_(statistics));
    session.state.skipped += 1;
    let (skipped, most) = (session.state.skipped, session.config.train.max_skipped_steps);
    if session.is_first() {
        log::warn!(
            "step {}: the gradient is not finite; the step is skipped ({skipped} so far)",
            session.state.step + 1
        );
    }
    if skipped <= most {
        return Ok(());
    }
    // All ranks know; one reports it.
    Err(if session.is_first() {
        Error::failed(format!(
            "{skipped} steps had a gradient that is not finite, more than train.max_skipped_steps \
                = {most}; try a smaller train.lr"
        ))
    } else {
        Error::Elsewhere(1)
    })
}

/// Does `work` and adds its seconds to `counter`.
pub fn timed<T>(counter: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *counter += start.elapsed().as_secs_f64();
    result
}
