use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::*;

/// Images in memory whose pixels follow from their number; it can fail, panic and watch how far the
/// workers run ahead.
#[derive(Default)]
struct Memory {
    fail_at: Option<usize>,
    panic_at: Option<usize>,
    /// Largest number of batches (of one sample each) that may have been begun beyond those asked
    /// for.
    room: Option<usize>,
    asked: AtomicUsize,
    reads: AtomicUsize,
    too_far: AtomicBool,
}

impl Source for Memory {
    fn size(&self) -> usize {
        48
    }

    fn labels(&self, i: usize) -> Labels {
        Labels::from_classes([i % 28]).unwrap()
    }

    fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, SeqCst);
        if self.room.is_some_and(|room| i >= self.asked.load(SeqCst) + room) {
            self.too_far.store(true, SeqCst);
        }
        assert_ne!(Some(i), self.panic_at, "a panic on purpose");
        if Some(i) == self.fail_at {
            return Err(Error::data("memory.h5", format!("sample {i} is damaged")));
        }
        out.iter_mut().enumerate().for_each(|(k, x)| *x = (k * (i + 3) / 7) as u8);
        Ok(())
    }
}

fn augment() -> Augment {
    Augment { resize: 40, crop: 32, elastic: 0.5, elastic_alpha: 100.0, ..Augment::default() }
}

fn train() -> Make {
    Make::Train { augment: augment(), seed: 3, epoch: 2 }
}

/// `n` samples in batches of `size`, with keys that differ from the samples.
fn draws(n: usize, size: usize) -> Vec<Vec<Draw>> {
    let all: Vec<Draw> = (0..n).map(|i| Draw { sample: i, key: 1000 + i as u64 }).collect();
    all.chunks(size).map(<[Draw]>::to_vec).collect()
}

fn loaded(make: &Make, threads: usize, ahead: usize) -> Vec<Batch> {
    let loader =
        Loader::new(Arc::new(Memory::default()), draws(23, 4), make.clone(), threads, ahead);
    loader.map(|b| Batch { waited: Duration::ZERO, ..b.unwrap() }).collect()
}

#[test]
fn output_does_not_depend_on_threads_and_ahead() {
    for make in [train(), Make::Eval { augment: augment(), tta: Tta::FiveCrop }] {
        let one = loaded(&make, 1, 0);
        for (threads, ahead) in [(0, 0), (1, 3), (2, 0), (3, 1), (8, 20)] {
            assert!(loaded(&make, threads, ahead) == one, "{threads} threads, {ahead} ahead");
        }
    }
}

#[test]
fn batches_hold_what_was_drawn() {
    let views = [(train(), 1, 32), (Make::Eval { augment: augment(), tta: Tta::None }, 1, 40)];
    let more = [(Tta::FiveCrop, 5), (Tta::FiveCropD4, 40)]
        .map(|(tta, n)| (Make::Eval { augment: augment(), tta }, n, 32));
    for (make, views, side) in views.into_iter().chain(more) {
        assert_eq!((make.views(), make.side()), (views, side));
        let batches = loaded(&make, 2, 1);
        assert_eq!(batches.len(), 6);
        let mut stored = vec![0; 48 * 48 * 4];
        for (b, batch) in batches.iter().enumerate() {
            let n = if b == 5 { 3 } else { 4 };
            assert_eq!(batch.samples, (4 * b..4 * b + n).collect::<Vec<_>>());
            assert_eq!(batch.images.len(), n * views * side * side * 4);
            for (i, image) in batch.images.chunks_exact(views * side * side * 4).enumerate() {
                let sample = 4 * b + i;
                assert_eq!(
                    (batch.keys[i], batch.labels[i]),
                    (1000 + sample as u64, Labels::from_classes([sample % 28]).unwrap())
                );
                Memory::default().read(sample, &mut stored).unwrap();
                let (mut want, mut scratch) = (vec![0; image.len()], Scratch::default());
                match &make {
                    Make::Train { augment, .. } => {
                        let mut rng = rng::stream(Use::Augment, 3, 2, batch.keys[i]);
                        augment::random(augment, &mut rng, &stored, 48, &mut scratch, &mut want)
                            .unwrap();
                    }
                    Make::Eval { augment, tta } => {
                        augment::views(augment, *tta, &stored, 48, &mut scratch, &mut want).unwrap()
                    }
                }
                assert!(image == want, "sample {sample}");
            }
        }
    }
}

#[test]
fn workers_do_not_run_further_ahead_than_agreed() {
    for (threads, ahead) in [(1, 0), (2, 3), (4, 1)] {
        let source = Arc::new(Memory { room: Some(threads + ahead), ..Memory::default() });
        let mut loader = Loader::new(source.clone(), draws(40, 1), train(), threads, ahead);
        while source.reads.load(SeqCst) < threads + ahead {
            thread::yield_now();
        }
        // Gives workers without a bound the time to overstep it.
        thread::sleep(Duration::from_millis(20));
        assert_eq!(source.reads.load(SeqCst), threads + ahead);
        for _ in 0..40 {
            source.asked.fetch_add(1, SeqCst);
            loader.next().unwrap().unwrap();
        }
        assert!(loader.next().is_none() && !source.too_far.load(SeqCst));
    }
}

#[test]
fn errors_and_panics_arrive_in_their_place_and_end_the_iteration() {
    let failing = Memory { fail_at: Some(9), ..Memory::default() };
    let panicking = Memory { panic_at: Some(9), ..Memory::default() };
    for (source, message) in [(failing, "memory.h5: "), (panicking, "batch 2: ")] {
        let mut loader = Loader::new(Arc::new(source), draws(40, 4), train(), 3, 4);
        assert!(loader.next().unwrap().is_ok() && loader.next().unwrap().is_ok());
        let error = loader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(loader.next().is_none());
    }
}

#[test]
fn dropping_joins_the_workers() {
    for taken in [0, 1, 5] {
        let source = Arc::new(Memory::default());
        let mut loader = Loader::new(source.clone(), draws(400, 4), train(), 3, 2);
        for _ in 0..taken {
            loader.next().unwrap().unwrap();
        }
        drop(loader);
        // Every worker held the source; they are gone.
        assert_eq!(Arc::strong_count(&source), 1);
        assert!(source.reads.load(SeqCst) <= 4 * (taken + 3 + 2));
    }
}

/// Images in memory, read whole, or with all but the rows asked for filled with a number.
struct Rows(Option<u8>);

impl Source for Rows {
    fn size(&self) -> usize {
        40
    }

    fn labels(&self, _: usize) -> Labels {
        Labels::default()
    }

    fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        out.iter_mut().enumerate().for_each(|(k, x)| *x = (k * (i + 3) / 7) as u8);
        Ok(())
    }

    fn read_rows(&self, i: usize, rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        self.read(i, out)?;
        if let Some(number) = self.0 {
            out[..rows.start * 160].fill(number);
            out[rows.end * 160..].fill(number);
        }
        Ok(())
    }
}

#[test]
fn rows_that_are_not_asked_for_do_not_matter() {
    let all = |filled, make: &Make| -> Vec<Batch> {
        let loader = Loader::new(Arc::new(Rows(filled)), draws(23, 4), make.clone(), 2, 1);
        loader.map(|b| Batch { waited: Duration::ZERO, ..b.unwrap() }).collect()
    };
    // Stored at the size that is cropped, and resized first; the views of prediction.
    let resized = Make::Train { augment: Augment { resize: 36, ..augment() }, seed: 3, epoch: 2 };
    for make in [train(), resized, Make::Eval { augment: augment(), tta: Tta::FiveCrop }] {
        let want = all(None, &make);
        assert!([17, 200].iter().all(|&n| all(Some(n), &make) == want), "{make:?}");
    }
}

#[test]
fn nothing_to_do_ends_at_once() {
    assert!(Loader::new(Arc::new(Memory::default()), vec![], train(), 4, 4).next().is_none());
}
