//! Batches, made by worker threads ahead of their use: in order, a few at a time, and the same
//! whatever the number of threads.

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    base::{
        Error, Result,
        caught::panic_message,
        rng::{self, Use},
        thrown,
    },
    config::{Augment, Tta},
    data::{labels::Labels, shard::Store},
    loading::{
        augment::{self, Scratch},
        sampler::Draw,
    },
};

/// Where stored images come from.
pub trait Source: Send + Sync + 'static {
    /// Side of the stored images in pixels.
    fn size(&self) -> usize;
    fn labels(&self, i: usize) -> Labels;
    /// Name of image `i` in messages.
    fn id(&self, i: usize) -> String {
        i.to_string()
    }
    /// Reads image `i` into `out` `[size, size, 4]`.
    fn read(&self, i: usize, out: &mut [u8]) -> Result<()>;
    /// Reads at least `rows` of image `i`, each to its place in `out` `[size, size, 4]`; the other
    /// rows may hold anything.
    fn read_rows(&self, i: usize, _rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        self.read(i, out)
    }
}

impl Source for Store {
    fn size(&self) -> usize {
        Self::size(self)
    }

    fn labels(&self, i: usize) -> Labels {
        Self::labels(self, i)
    }

    fn id(&self, i: usize) -> String {
        Self::id(self, i).into()
    }

    fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        Self::read(self, i, out)
    }

    fn read_rows(&self, i: usize, rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        Self::read_rows(self, i, rows, out)
    }
}

/// How views are made of a stored image.
#[derive(Clone, Debug, PartialEq)]
pub enum Make {
    /// One random view, a pure function of (seed, epoch, key of the draw).
    Train { augment: Augment, seed: u64, epoch: u64 },
    /// The fixed views of prediction ([`augment::views`]).
    Eval { augment: Augment, tta: Tta },
}

impl Make {
    /// Views per sample.
    pub fn views(&self) -> usize {
        match self {
            Self::Train { .. } => 1,
            Self::Eval { tta, .. } => augment::view_count(*tta),
        }
    }

    /// Side of a view in pixels.
    pub fn side(&self) -> usize {
        match self {
            Self::Train { augment, .. } => augment.crop as usize,
            Self::Eval { augment, tta } => augment::view_side(augment, *tta),
        }
    }
}

/// Samples of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[n * views, side, side, 4]`; the views of a sample follow one another.
    pub images: Vec<u8>,
    /// `[n]`
    pub labels: Vec<Labels>,
    /// Index of each sample in the source, `[n]`.
    pub samples: Vec<usize>,
    /// Keys of the draws, `[n]`.
    pub keys: Vec<u64>,
    /// How long the consumer waited for this batch: above zero, the workers are the bottleneck.
    pub waited: Duration,
}

/// Yields the batches in order. The first error (of the source, or a panic of a worker) is yielded
/// in its batch's place and ends the iteration. Dropping the loader stops the workers after
/// their current image.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    batches: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<LoaderState>,
    changed: Condvar,
}

#[derive(Default)]
struct LoaderState {
    /// Batches that a worker has begun.
    begun: usize,
    /// Batches that the consumer has taken.
    taken: usize,
    ready: BTreeMap<usize, Result<Batch>>,
    stop: bool,
}

impl Shared {
    /// No code that can panic runs under the lock, so that a poisoned one is still sound.
    fn lock(&self) -> MutexGuard<'_, LoaderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, LoaderState>) -> MutexGuard<'a, LoaderState> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch to make, once there is room for it; `None` when all are made.
    fn begin(&self, batches: usize, room: usize) -> Option<usize> {
        let mut state = self.lock();
        while !state.stop && state.begun < batches && state.begun >= state.taken + room {
            state = self.wait(state);
        }
        (!state.stop && state.begun < batches).then(|| {
            state.begun += 1;
            state.begun - 1
        })
    }

    fn finish(&self, index: usize, batch: Result<Batch>) {
        self.lock().ready.insert(index, batch);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

impl Loader {
    /// Starts `threads` workers (at least one) on `batches`, whose samples are indices into
    /// `store`. At most `ahead + threads` batches are in the making or waiting to be taken.
    pub fn new<S: Source>(
        store: Arc<S>,
        batches: Vec<Vec<Draw>>,
        make: Make,
        threads: usize,
        ahead: usize,
    ) -> Self {
        let (threads, count) = (threads.max(1), batches.len());
        let shared = Arc::new(Shared::default());
        let work = Arc::new((batches, make));
        let mut loader = Self { shared: shared.clone(), workers: Vec::new(), batches: count };
        for _ in 0..threads.min(count) {
            let (shared, store, work) = (shared.clone(), store.clone(), work.clone());
            let worker = move || {
                let mut maker = Maker::new(&*store, &work.1);
                while let Some(index) = shared.begin(count, ahead + threads) {
                    let made = catch_unwind(AssertUnwindSafe(|| {
                        maker.batch(&work.0[index], || shared.lock().stop)
                    }));
                    // The program's panic hook ends the process (jobs/common.rs); without it, as in
                    // tests, this keeps the consumer from waiting forever.
                    let made = made.unwrap_or_else(|panic| {
                        // The buffers may be half filled and are not used again.
                        maker = Maker::new(&*store, &work.1);
                        Err(Error::failed(format!(
                            "a worker of the loader panicked in batch {index}: {}",
                            panic_message(&*panic)
                        )))
                    });
                    shared.finish(index, made);
                }
            };
            match thread::Builder::new().name("loader".into()).spawn(worker) {
                Ok(handle) => loader.workers.push(handle),
                // Fewer workers are enough, but at least one is needed.
                Err(e) if loader.workers.is_empty() => loader
                    .shared
                    .finish(0, Err(Error::failed(format!("cannot start a loader thread: {e}")))),
                Err(_) => break,
            }
        }
        loader
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let started = Instant::now();
        let mut state = self.shared.lock();
        if state.stop || state.taken == self.batches {
            return None;
        }
        let index = state.taken;
        let mut made = loop {
            match state.ready.remove(&index) {
                Some(made) => break made,
                None => state = self.shared.wait(state),
            }
        };
        state.taken += 1;
        state.stop |= made.is_err();
        drop(state);
        self.shared.changed.notify_all();
        if let Ok(batch) = &mut made {
            batch.waited = started.elapsed();
        }
        Some(made)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in self.workers.drain(..) {
            // Panics of the work were caught and reported as errors of their batch.
            let _ = worker.join();
        }
    }
}

/// Makes batches; one per worker.
struct Maker<'a, S> {
    store: &'a S,
    make: &'a Make,
    stored: Vec<u8>,
    scratch: Scratch,
}

impl<'a, S: Source> Maker<'a, S> {
    fn new(store: &'a S, make: &'a Make) -> Self {
        Self {
            store,
            make,
            stored: vec![0; store.size() * store.size() * 4],
            scratch: Scratch::default(),
        }
    }

    fn batch(&mut self, draws: &[Draw], stopped: impl Fn() -> bool) -> Result<Batch> {
        let bytes = self.make.views() * self.make.side() * self.make.side() * 4;
        let mut images = thrown::reserve(draws.len() * bytes)?;
        for draw in draws {
            if stopped() {
                return Err(Error::failed("the loader was dropped"));
            }
            // One image at a time, so that it is still in the cache when it is filled.
            let start = images.len();
            images.resize(start + bytes, 0);
            let out = &mut images[start..];
            let (size, scratch) = (self.store.size(), &mut self.scratch);
            match self.make {
                Make::Train { augment, seed, epoch } => {
                    let mut rng = rng::stream(Use::Augment, *seed, *epoch, draw.key);
                    self.store.read_rows(
                        draw.sample,
                        augment::rows(augment, &rng, size),
                        &mut self.stored,
                    )?;
                    augment::random(augment, &mut rng, &self.stored, size, scratch, out)?;
                }
                Make::Eval { augment, tta } => {
                    self.store.read(draw.sample, &mut self.stored)?;
                    augment::views(augment, *tta, &self.stored, size, scratch, out)?;
                }
            }
        }
        Ok(Batch {
            images,
            labels: draws.iter().map(|d| self.store.labels(d.sample)).collect(),
            samples: draws.iter().map(|d| d.sample).collect(),
            keys: draws.iter().map(|d| d.key).collect(),
            waited: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests;
