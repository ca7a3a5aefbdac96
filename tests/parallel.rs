//! Several ranks compute what one does: gradients and losses of the same global batches, from
//! samples that all differ.
use std::{path::Path, process::Command};

use atlas::{
    base::Error,
    config::{self, Head, Losses, Optimizer as Rule, Stem, Wire},
    distributed::{self, Op, batch_share::Share, gradient_sync::SyncEvent},
    network::{
        model::{DropKeys, Network, Norms, Precision, Spec},
        optim::{Optimizer, Rates},
        weights,
    },
    training::backward::{Input, Passes, SyncedGradients},
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

#[path = "ranks/launcher.rs"]
mod launcher;

/// What a worker does.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    double: bool,
    bf16: bool,
    /// Numbers on the wire.
    wire: Wire,
    /// Batch norm over all ranks; otherwise frozen.
    synchronised: bool,
    sgd: bool,
    batch: usize,
    micro: usize,
    side: i64,
    steps: u64,
    /// The gradient of this rank is left out.
    dropped: Option<usize>,
    output: String,
}

impl Task {
    fn new() -> Self {
        Self {
            double: true,
            bf16: false,
            wire: Wire::F32,
            synchronised: false,
            sgd: false,
            batch: 10,
            micro: 0,
            side: 32,
            steps: 20,
            dropped: None,
            output: String::new(),
        }
    }

    /// Runs it on so many ranks: the gradients of the first step by name, and the loss of every
    /// step.
    fn run(&self, ranks: usize, folder: &Path) -> (Vec<(String, Tensor)>, Vec<f64>) {
        let output = folder.join(format!("{ranks}.safetensors")).display().to_string();
        let task = serde_json::to_string(&Self { output: output.clone(), ..self.clone() }).unwrap();
        let mut command = if ranks > 1 { launcher::workers(ranks, &task) } else { alone(&task) };
        let out = command.output().unwrap();
        assert!(
            out.status.success(),
            "{ranks} ranks, {self:?}:\n{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let (mut tensors, _) = weights::read(Path::new(&output)).unwrap();
        let losses = Vec::try_from(tensors.remove("losses").unwrap()).unwrap();
        (tensors.into_iter().map(|(name, t)| (name, t.to_kind(Kind::Double))).collect(), losses)
    }
}

fn alone(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "worker", "--ignored", "--nocapture"])
        .env("ATLAS_TEST_WORKER", task)
        .env("OMP_WAIT_POLICY", "PASSIVE");
    command
}

#[test]
#[ignore = "a rank that other tests start"]
fn worker() {
    let task = std::env::var("ATLAS_TEST_WORKER").expect("a test that starts ranks sets it");
    let task: Task = serde_json::from_str(&task).unwrap();
    let world = distributed::start(&config::Comm::default()).unwrap();
    tch::set_num_threads(1);
    let kind = if task.double { Kind::Double } else { Kind::Float };
    let spec = Spec {
        arch: "se_resnext_tiny".into(),
        stem: Stem::Standard,
        head: Head::Seed,
        channels: 4,
        classes: 28,
        dropout: 0.3,
    };
    let network = Network::of_kind(&spec, 5, true, Device::Cpu, kind).unwrap();
    let synced = SyncedGradients::new(&network, world, task.wire);
    let keys = config::Train {
        optimizer: if task.sgd { Rule::Sgd } else { Rule::Adamw },
        ..config::Train::default()
    };
    let mut optimizer = Optimizer::new(&keys, &network);
    let losses = Losses { lovasz: f64::from(u8::from(task.double)), ..Losses::default() };
    let (mut gradients, mut sums) = (Vec::new(), Vec::new());
    for step in 0..task.steps {
        // The last batch of an epoch is short: as here every third one.
        let n = if step % 3 == 2 { task.batch - 3 } else { task.batch };
        let mut share = Share::new(n, world.rank(), world.size(), task.micro);
        share.counts &= task.dropped != Some(world.rank());
        let first = share.samples.start as u64;
        let precision = if task.bf16 { Precision::Bf16 } else { Precision::F32 };
        let passes = Passes { share: &share, precision, losses: &losses, step };
        let norms = |pass| match task.synchronised {
            true => Norms::Together { world, samples: share.together(pass), counts: share.counts },
            false => Norms::Frozen,
        };
        let ids: Vec<u64> = (0..share.samples.len() as u64).map(|i| first + i).collect();
        let input = |range: std::ops::Range<usize>| {
            let samples = &ids[range];
            let one = |&id: &u64| sample(1000 * step + id, task.side);
            Input {
                images: Tensor::stack(&samples.iter().map(one).collect::<Vec<_>>(), 0)
                    .to_kind(kind),
                targets: Tensor::stack(
                    &samples.iter().map(|id| target(1000 * step + id)).collect::<Vec<_>>(),
                    0,
                )
                .to_kind(kind),
                keys: DropKeys { seed: 1, epoch: step, keys: samples },
            }
        };
        let (logits, loss) = passes.backward(&network, &synced, norms, input).unwrap();
        assert_eq!(logits.len(), share.samples.len() * 28);
        synced.finish().unwrap();
        let mut sum = [loss];
        world.all_reduce(&mut sum, Op::Sum).unwrap();
        sums.push(sum[0]);
        if step == 0 {
            gradients =
                network.named_gradients().into_iter().map(|(name, t)| (name, t.copy())).collect();
        }
        optimizer.step(&network, Rates { lr: 1e-3, momentum: 0.9 });
    }
    for flat in [network.flat_parameters(), network.flat_buffers()] {
        world
            .same(weights::with_bytes(&flat, atlas::base::checksum::of), || {
                Error::failed("the ranks come apart")
            })
            .unwrap();
    }
    if world.rank() == 0 {
        gradients.push(("losses".into(), Tensor::from_slice(&sums)));
        weights::write(Path::new(&task.output), &gradients, &weights::Metadata::new()).unwrap();
    }
    world.close();
}

/// Every sample differs from every other: a missing average must show. No two places of an image
/// are alike: which of two equal maxima a pooling takes is a matter of rounding.
fn sample(id: u64, side: i64) -> Tensor {
    tch::manual_seed(id as i64);
    let noise = |side: i64| Tensor::randn([1, 4, side, side], (Kind::Double, Device::Cpu));
    let coarse = noise(4).upsample_bilinear2d([side, side], false, None, None) * 2.0;
    (coarse + noise(side) * 0.5 + noise(1)).squeeze_dim(0)
}

fn target(id: u64) -> Tensor {
    let row: Vec<u8> = (0..28).map(|c| u8::from((id * 7 + c).is_multiple_of(9))).collect();
    Tensor::from_slice(&row)
}

/// Relative L2 distance of all gradients together, and the largest of a single tensor.
fn distance(ours: &[(String, Tensor)], one: &[(String, Tensor)]) -> (f64, f64) {
    let (mut apart, mut whole, mut worst) = (0.0, 0.0, 0f64);
    for ((name, a), (other, b)) in ours.iter().zip(one) {
        assert_eq!(name, other);
        let square = |t: &Tensor| t.square().sum(Kind::Double).double_value(&[]);
        let (d, n) = (square(&(a - b)), square(b));
        apart += d;
        whole += n;
        if n > 0.0 {
            worst = worst.max((d / n).sqrt());
        }
    }
    assert!(whole > 0.0);
    ((apart / whole).sqrt(), worst)
}

fn furthest(ours: &[f64], one: &[f64]) -> f64 {
    assert_eq!(ours.len(), one.len());
    ours.iter().zip(one).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max)
}

#[test]
fn in_f64_ranks_differ_from_one_by_rounding_only() {
    let folder = tempfile::tempdir().unwrap();
    // With more passes than one, frozen batch norm only: the others see the samples of a pass
    // together.
    for (synchronised, sgd, micro) in
        [(false, true, 0), (false, false, 2), (true, false, 0), (true, true, 0)]
    {
        let task = Task { synchronised, sgd, micro, ..Task::new() };
        let one = task.run(1, folder.path());
        for ranks in 2..=4 {
            let ours = task.run(ranks, folder.path());
            let ((all, worst), losses) = (distance(&ours.0, &one.0), furthest(&ours.1, &one.1));
            println!(
                "f64, {ranks} ranks, {task:?}: gradients {all:.1e} (worst {worst:.1e}), losses \
                    {losses:.1e}"
            );
            assert!(
                all < 1e-12 && losses < 1e-10,
                "{ranks} ranks, {task:?}: gradients {all:e}, losses {losses:e}"
            );
        }
    }
}

#[test]
fn in_f32_and_bf16_they_agree_within_the_precision() {
    let folder = tempfile::tempdir().unwrap();
    for (bf16, wire, most, most_of_one) in [
        (false, Wire::F32, 1e-5, 1e-4),
        (true, Wire::F32, 1e-2, 1.0),
        (false, Wire::Bf16, 1e-2, 2e-2),
    ] {
        for synchronised in [false, true] {
            // 16 samples or more in every forward pass: libtorch computes otherwise with fewer.
            let task = Task {
                double: false,
                bf16,
                wire,
                synchronised,
                batch: 66,
                side: 64,
                steps: 1,
                ..Task::new()
            };
            let one = task.run(1, folder.path());
            for ranks in 2..=4 {
                let ours = task.run(ranks, folder.path());
                let (all, worst) = distance(&ours.0, &one.0);
                println!(
                    "bf16 {bf16}, wire {wire:?}, {ranks} ranks, synchronised {synchronised}: \
                        gradients {all:.1e} (worst {worst:.1e})"
                );
                assert!(
                    all < most && worst < most_of_one,
                    "{ranks} ranks, {task:?}: together {all:e}, worst tensor {worst:e}"
                );
            }
        }
    }
}

#[test]
fn a_missing_gradient_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task { steps: 2, ..Task::new() };
    let one = task.run(1, folder.path());
    let ours = Task { dropped: Some(1), ..task }.run(2, folder.path());
    let ((all, _), losses) = (distance(&ours.0, &one.0), furthest(&ours.1, &one.1));
    assert!(all > 1e-2 && losses > 1e-2, "gradients {all:e}, losses {losses:e}");
}

/// The reduction of a stage begins before the backward pass of the stage below it.
#[test]
fn sums_begin_while_the_stages_below_still_compute() {
    let world: &'static distributed::World = Box::leak(Box::new(distributed::World::alone()));
    let spec = Spec {
        arch: "se_resnext_tiny".into(),
        stem: Stem::Standard,
        head: Head::Seed,
        channels: 4,
        classes: 28,
        dropout: 0.0,
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let network = Network::new(&spec, 5, true, Device::Cpu).unwrap();
        let gradients = SyncedGradients::new(&network, world, Wire::F32);
        let share = Share::new(8, 0, 1, 4);
        let keys: Vec<u64> = (0..8).collect();
        let input = |range: std::ops::Range<usize>| Input {
            images: Tensor::stack(
                &keys[range.clone()].iter().map(|&id| sample(id, 64)).collect::<Vec<_>>(),
                0,
            )
            .to_kind(Kind::Float),
            targets: Tensor::stack(
                &keys[range.clone()].iter().map(|&id| target(id)).collect::<Vec<_>>(),
                0,
            )
            .to_kind(Kind::Float),
            keys: DropKeys { seed: 1, epoch: 0, keys: &keys[range] },
        };
        let losses = Losses::default();
        let passes = Passes { share: &share, precision, losses: &losses, step: 0 };
        passes.backward(&network, &gradients, |_| Norms::Local, input).unwrap();
        gradients.finish().unwrap();

        let (events, stages) = (gradients.events(), network.stages());
        assert_eq!(stages.len(), 6, "stem, four stages, head");
        assert!(
            stages.windows(2).all(|w| w[0].0.end == w[1].0.start && w[0].1.end == w[1].1.start),
            "{stages:?}"
        );
        assert_eq!(
            (stages[0].1.start, stages[5].1.end),
            (0, network.flat_gradients().numel() as i64)
        );
        let parameters = network.parameter_slots().len();
        assert_eq!(events.len(), parameters + stages.len(), "each once, in the last pass only");
        for stage in (1..stages.len()).rev() {
            let begun = events.iter().position(|e| *e == SyncEvent::Begun(stage)).unwrap();
            let leaves = &stages[stage - 1].0;
            let below =
                |e: &SyncEvent| matches!(e, SyncEvent::Gradient(leaf) if leaves.contains(leaf));
            let first_below = events.iter().position(below).unwrap();
            assert!(
                begun < first_below,
                "stage {stage}: begun at {begun}, the stage below at {first_below}"
            );
        }
    }
}
