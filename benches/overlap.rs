//! How much of the communication hides behind the backward pass: training steps with a communicator
//! that takes its time, as a network of a given bandwidth would, against compute plus
//! communication. Prints CSV.
use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use atlas::{
    base::Result,
    config::{Head, Losses, Stem, Wire},
    distributed::{Comm, Op, Ticket, World, batch_share::Share, device, watchdog::Watchdog},
    network::model::{DropKeys, Network, Norms, Precision, Spec},
    training::backward::{Input, Passes, SyncedGradients},
};
use tch::{Device, Kind, Tensor};

/// Two ranks of which one is here; a bucket takes its bytes over the bandwidth, after the buckets
/// before it.
struct Delayed {
    bytes_per_s: f64,
    /// When each bucket is through.
    through: Mutex<Vec<Instant>>,
}

impl Comm for Delayed {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        2
    }
    fn broadcast(&self, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
    fn barrier(&self) -> Result<()> {
        Ok(())
    }
    fn begin(&self, bucket: &Tensor) -> Result<Ticket> {
        let mut through = self.through.lock().unwrap();
        let bytes = bucket.numel() * bucket.kind().elt_size_in_bytes();
        let free = through.last().copied().unwrap_or_else(Instant::now).max(Instant::now());
        through.push(free + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s));
        Ok(Ticket(through.len() as u64 - 1))
    }
    fn finish(&self, ticket: Ticket) -> Result<()> {
        let through = self.through.lock().unwrap()[ticket.0 as usize];
        thread::sleep(through.saturating_duration_since(Instant::now()));
        Ok(())
    }
    fn all_reduce(&self, _: &mut [f64], _: Op) -> Result<()> {
        Ok(())
    }
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
    fn close(&self) {}
}

fn main() {
    device::set_up_cpu(1).unwrap();
    let (batch, side) = (16, 128);
    let spec = Spec {
        arch: "se_resnext26_32x4d".into(),
        stem: Stem::Standard,
        head: Head::Linear,
        channels: 4,
        classes: 28,
        dropout: 0.0,
    };
    let network = Network::new(&spec, 1, true, Device::Cpu).unwrap();
    let bytes = 4.0 * (network.flat_gradients().numel() + network.flat_buffers().numel()) as f64;
    let images = Tensor::randn([batch, 4, side, side], (Kind::Float, Device::Cpu));
    let targets = Tensor::zeros([batch, 28], (Kind::Float, Device::Cpu));
    let step = |bytes_per_s: f64| {
        let delayed = Delayed { bytes_per_s, through: Mutex::default() };
        let world = World::new(Box::new(delayed), Watchdog::default());
        let world: &'static World = Box::leak(Box::new(world));
        let gradients = SyncedGradients::new(&network, world, Wire::F32);
        let share = Share::new(2 * batch as usize, 0, 2, 0);
        let keys: Vec<u64> = (0..batch as u64).collect();
        let (precision, losses) = (Precision::F32, Losses::default());
        let passes = Passes { share: &share, precision, losses: &losses, step: 0 };
        let start = Instant::now();
        let input = |_| Input {
            images: images.shallow_clone(),
            targets: targets.shallow_clone(),
            keys: DropKeys { seed: 0, epoch: 0, keys: &keys },
        };
        passes.backward(&network, &gradients, |_| Norms::Local, input).unwrap();
        let computed = start.elapsed().as_secs_f64();
        gradients.finish().unwrap();
        (computed, start.elapsed().as_secs_f64())
    };
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for _ in 0..3 {
        step(f64::INFINITY);
    }
    println!("communication_s,compute_s,step_s,compute_plus_communication_s,hidden_share");
    let compute = median((0..9).map(|_| step(f64::INFINITY).1).collect());
    for share in [0.1, 0.25, 0.5, 1.0] {
        let communication = share * compute;
        // Interleaved with steps without communication, so that a slower minute slows both.
        let pairs: Vec<(f64, f64)> =
            (0..9).map(|_| (step(f64::INFINITY).1, step(bytes / communication).1)).collect();
        let (alone, with) = (
            median(pairs.iter().map(|p| p.0).collect()),
            median(pairs.iter().map(|p| p.1).collect()),
        );
        let hidden = (alone + communication - with) / communication;
        println!(
            "{communication:.3},{alone:.3},{with:.3},{:.3},{hidden:.3}",
            alone + communication
        );
    }
}
