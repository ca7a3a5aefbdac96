//! Our side of benches/speed.py: one stage per call, with everything around it set up before the
//! clock starts. Prints `ready`; then each line on standard input asks for a round, which is
//! answered by its seconds.
use std::{
    cell::RefCell,
    env,
    fs::{self, File},
    io::{BufRead, Cursor, stdin},
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::Path,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use atlas::{
    base::{
        rng::{Use, stream},
        stop_request::Stop,
    },
    config::{Augment, Backend, Config, Head, Losses, Stem, Tta, Wire},
    data::{
        labels::Labels,
        manifest::{CHANNELS, Part},
        shard::{Entry, Reader, Writer},
    },
    distributed::{self, batch_share::Share, device},
    loading::{
        loader::{Loader, Make, Source},
        normalization::Normalization,
        sampler::Draw,
    },
    network::{
        model::{DropKeys, Folded, Mode, Network, Norms, Precision, Spec},
        optim::{Optimizer, Rates},
        predictor::Predictor,
    },
    training::backward::{Input, Passes, SyncedGradients},
};
use rand::{RngExt, seq::SliceRandom};
use tch::{Device, Kind, Tensor};

/// Threads of every stage.
const THREADS: usize = 2;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["decode", folder, extension, repeat] => decode(folder, extension, repeat.parse()?),
        ["loader", shard, samples, size, crop] => {
            loader(Path::new(shard), samples.parse()?, size.parse()?, crop.parse()?, false)
        }
        ["cold", shard, samples, size, crop] => {
            loader(Path::new(shard), samples.parse()?, size.parse()?, crop.parse()?, true)
        }
        ["pread", shard, samples, size] => pread(Path::new(shard), samples.parse()?, size.parse()?),
        ["train", size, batch, precision, layout] => {
            train(size.parse()?, batch.parse()?, of(precision)?, layout == "nhwc")
        }
        ["check"] => check(),
        ["predict", size, images, precision, batch] => {
            predict(size.parse()?, images.parse()?, of(precision)?, batch.parse()?)
        }
        _ => bail!("see benches/speed.py for the stages and their arguments"),
    }
}

fn of(precision: &str) -> Result<Precision> {
    match precision {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        other => bail!("precision {other}"),
    }
}

/// A round for each line that comes.
fn rounds(mut round: impl FnMut() -> Result<()>) -> Result<()> {
    println!("ready");
    for line in stdin().lock().lines() {
        line?;
        let start = Instant::now();
        round()?;
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Does `work` with every number below `n`, on all threads.
fn on_threads(n: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                std::iter::repeat_with(|| next.fetch_add(1, Relaxed))
                    .take_while(|i| *i < n)
                    .for_each(&work)
            });
        }
    });
}

/// The floor of preprocessing: every image of whole samples read and decoded, nothing else (a JPEG
/// to its planes of brightness and colour), into buffers that are kept.
fn decode(folder: &str, extension: &str, repeat: usize) -> Result<()> {
    device::keep_memory();
    let mut files: Vec<_> =
        fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let sample =
            name.rsplit_once('_').filter(|_| name.ends_with(extension)).map(|(sample, _)| sample);
        sample.is_some_and(|s| {
            CHANNELS.iter().all(|c| Path::new(folder).join(format!("{s}_{c}.{extension}")).exists())
        })
    });
    rounds(|| {
        on_threads(files.len() * repeat, |i| {
            let bytes = fs::read(&files[i % files.len()]).expect("the file was listed");
            match extension {
                "png" => {
                    let mut reader =
                        png::Decoder::new(Cursor::new(&bytes)).read_info().expect("a PNG");
                    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
                    reader.next_frame(&mut pixels).expect("a PNG");
                }
                _ => {
                    let mut decoder = turbojpeg::Decompressor::new().expect("a decoder");
                    let turbojpeg::DecompressHeader { width, height, subsamp, .. } =
                        decoder.read_header(&bytes).expect("a JPEG");
                    let mut pixels = vec![
                        0;
                        turbojpeg::yuv_pixels_len(width, 1, height, subsamp)
                            .expect("a size")
                    ];
                    let planes = turbojpeg::YuvImage {
                        pixels: &mut pixels[..],
                        width,
                        align: 1,
                        height,
                        subsamp,
                    };
                    decoder.decompress_to_yuv(&bytes, planes).expect("a JPEG");
                }
            }
        });
        Ok(())
    })
}

/// One shard of random pixels, as large as the peer's.
struct Shard(Reader);

impl Shard {
    fn open(path: &Path, samples: usize, size: usize) -> Result<Self> {
        if !path.exists() {
            let mut writer = Writer::create(path, Part::Train, samples, size)?;
            for i in 0..samples {
                let mut image = vec![0; size * size * 4];
                rand::Rng::fill_bytes(&mut stream(Use::Synth, 0, 0, i as u64), &mut image);
                writer.push(Entry::new(i.to_string(), Labels::default(), [0; 4], image))?;
            }
            writer.finish(0)?;
        }
        Ok(Self(Reader::open(path)?))
    }
}

impl Source for Shard {
    fn size(&self) -> usize {
        self.0.size()
    }
    fn labels(&self, _: usize) -> Labels {
        Labels::default()
    }
    fn read(&self, i: usize, out: &mut [u8]) -> atlas::base::Result<()> {
        self.0.read(i, out)
    }
    fn read_rows(
        &self,
        i: usize,
        rows: std::ops::Range<usize>,
        out: &mut [u8],
    ) -> atlas::base::Result<()> {
        self.0.read_rows(i, rows, out)
    }
}

/// Drops a file from the page cache, as far as that goes.
fn evict(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    // SAFETY: advice about an open file.
    let code = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if code == 0 { Ok(()) } else { bail!("posix_fadvise: {code}") }
}

fn order(n: usize, round: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut stream(Use::Order, 0, round, 0));
    order
}

/// Random crops, turns, flips, brightness and contrast of every second, affine maps of every second
/// image.
fn loader(path: &Path, samples: usize, size: usize, crop: u32, cold: bool) -> Result<()> {
    let shard = Arc::new(Shard::open(path, samples, size)?);
    let (probability, elastic) = if cold { (0.0, 0.0) } else { (1.0, 0.5) };
    let augment = Augment {
        resize: size as u32,
        crop,
        rot90: probability,
        flip: 0.75 * probability,
        brightness_contrast: 0.5 * probability,
        per_channel: false,
        brightness: 0.1,
        contrast: 0.1,
        elastic,
        elastic_affine: 30.0,
        elastic_alpha: 0.0,
        ..Config::default().augment
    };
    device::keep_memory(); // as in training
    let mut epoch = 0;
    rounds(|| {
        epoch += 1;
        let mut shard = shard.clone();
        if cold {
            // which reads whole images, as in a first epoch
            shard = Arc::new(Shard::open(path, samples, size)?);
            evict(path)?;
        }
        let draws: Vec<Draw> = order(samples, epoch)
            .into_iter()
            .map(|sample| Draw { sample, key: sample as u64 })
            .collect();
        let make = Make::Train { augment: augment.clone(), seed: 0, epoch };
        Loader::new(shard, draws.chunks(16).map(<[_]>::to_vec).collect(), make, THREADS, 4)
            .try_for_each(|batch| batch.map(drop))?;
        Ok(())
    })
}

/// The floor of a cold loader: the same blocks in a random order, by as many threads.
fn pread(path: &Path, samples: usize, size: usize) -> Result<()> {
    drop(Shard::open(path, samples, size)?);
    let file = File::open(path)?;
    let (bytes, mut epoch) = (size * size * 4, 0);
    rounds(|| {
        epoch += 1;
        evict(path)?;
        let order = order(samples, epoch);
        on_threads(samples, |i| {
            thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(bytes, 0);
                file.read_exact_at(buffer, (order[i] * bytes) as u64)
                    .expect("the shard is long enough");
            });
        });
        Ok(())
    })
}

fn network(nhwc: bool, device: Device) -> Result<Network> {
    device::set_up_cpu(THREADS).unwrap();
    let spec = Spec {
        arch: "se_resnext50_32x4d".into(),
        stem: Stem::Standard,
        head: Head::Linear,
        channels: 4,
        classes: 28,
        dropout: 0.0,
    };
    Ok(Network::new(&spec, 0, nhwc, device)?)
}

/// Forward pass, BCE, backward pass, AdamW.
fn train(size: i64, batch: i64, precision: Precision, nhwc: bool) -> Result<()> {
    let world = distributed::start(&Config::default().comm)?;
    let network = network(nhwc, world.device)?;
    let gradients = SyncedGradients::new(&network, world, Wire::F32);
    let config = atlas::config::Train { lr: 1e-4, clip: 0.0, ..Config::default().train };
    let mut optimizer = Optimizer::new(&config, &network);
    let losses = Losses { bce: 1.0, focal: 0.0, lovasz: 0.0, ..Losses::default() };
    let on = (Kind::Float, network.device());
    let images = Tensor::randn([batch, 4, size, size], on);
    let targets = Tensor::rand([batch, 28], on).lt(0.1).to_kind(Kind::Float);
    let share = Share::new(batch as usize, 0, 1, 0);
    let keys: Vec<u64> = (0..batch as u64).collect();
    let passes = Passes { share: &share, precision, losses: &losses, step: 0 };
    let mut step = || -> Result<()> {
        let input = |_| Input {
            images: images.shallow_clone(),
            targets: targets.shallow_clone(),
            keys: DropKeys { seed: 0, epoch: 0, keys: &keys },
        };
        passes.backward(&network, &gradients, |_| Norms::Local, input)?;
        gradients.finish()?;
        optimizer.step(&network, Rates { lr: 1e-4, momentum: 0.9 });
        device::wait(network.device());
        Ok(())
    };
    (0..2).try_for_each(|_| step())?;
    rounds(step)
}

/// Images in memory.
struct Images {
    side: usize,
    pixels: Vec<u8>,
}

impl Source for Images {
    fn size(&self) -> usize {
        self.side
    }
    fn labels(&self, _: usize) -> Labels {
        Labels::default()
    }
    fn read(&self, i: usize, out: &mut [u8]) -> atlas::base::Result<()> {
        out.copy_from_slice(&self.pixels[i * out.len()..][..out.len()]);
        Ok(())
    }
}

/// Five crops of two thirds of the side, the largest logit of them.
fn predict(size: usize, images: usize, precision: Precision, batch: usize) -> Result<()> {
    let network = network(true, device::choose(Backend::Auto, 0)?)?;
    let side = size * 3 / 2;
    let mut pixels = vec![0; images * side * side * 4];
    stream(Use::Synth, 0, 0, 0).fill(&mut pixels[..]);
    let source = Arc::new(Images { side, pixels });
    let mut config = Config { threads: Some(THREADS), ..Config::default() };
    (config.augment.resize, config.augment.crop) = (side as u32, size as u32);
    config.predict.batch = batch;
    let (normalization, stop) = (Normalization::unit(), Stop::new());
    let predictor = Predictor {
        network: &network,
        precision,
        normalization: &normalization,
        augment: &config.augment,
        predict: &config.predict,
        threads: config.threads(),
        stop: &stop,
    };
    let samples: Vec<usize> = (0..images).collect();
    let run =
        || predictor.logits(&source, &samples, Tta::FiveCrop, None).map(drop).context("prediction");
    run()?;
    rounds(run)
}

/// Whether the device computes what the CPU does: logits and gradients in f32 and bf16, relative to
/// the largest of them.
fn check() -> Result<()> {
    let device = device::choose(Backend::Auto, 0)?;
    let (cpu, other) = (network(true, Device::Cpu)?, network(true, device)?);
    let images = Tensor::randn([8, 4, 96, 96], (Kind::Float, Device::Cpu));
    let keys: Vec<u64> = (0..8).collect();
    let results = |network: &Network, precision| {
        network.zero_gradients();
        let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Frozen);
        let logits = network.forward(&images.to_device(network.device()), mode, precision);
        logits.square().mean(None::<Kind>).backward();
        let folded = Folded::new(network, precision).forward(&images.to_device(network.device()));
        [
            ("logits", logits.detach()),
            ("gradients", network.flat_gradients()),
            ("folded logits", folded),
        ]
    };
    for (precision, limit) in [(Precision::F32, 1e-3), (Precision::Bf16, 1e-2)] {
        for ((what, want), (_, got)) in
            results(&cpu, Precision::F32).into_iter().zip(results(&other, precision))
        {
            let off = (got.to_device(Device::Cpu) - &want).norm().double_value(&[])
                / want.norm().double_value(&[]);
            println!(
                "{precision:?} on {device:?}: {what} differ by {off:.1e} of their norm (limit \
                    {limit:.0e})"
            );
            if off > limit || off.is_nan() {
                bail!("{what} of {device:?} in {precision:?} differ from those of the CPU in f32");
            }
        }
    }
    Ok(())
}
