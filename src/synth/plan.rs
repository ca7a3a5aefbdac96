//! The samples of a synthetic set: ids, labels, wells, and which sample is a copy of which.

use std::collections::HashSet;

use rand::Rng as _;

use super::{draw::RandomDraw, options::SynthOptions, population::population};
use crate::{
    base::{
        Error, Result,
        rng::{self, Rng, Use},
    },
    data::labels::{CLASSES, Labels},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subset {
    Train,
    Test,
    External,
}

/// A sample of the set, before it is painted.
#[derive(Clone, Debug)]
pub struct PlannedSample {
    pub id: String,
    pub subset: Subset,
    pub labels: Labels,
    /// Index of the sample that this one is a copy of, if it is one.
    pub copy_of: Option<usize>,
    /// The cells in the samples of one well look alike; every official sample is its own well.
    pub well: u64,
}

/// Share of the copies whose labels differ from those of the original, as in the real tables.
const CONFLICTS: f32 = 0.1;

/// All samples: train, then test, then external ones, each in the order of their tables.
pub fn plan(options: &SynthOptions) -> Result<Vec<PlannedSample>> {
    let mut rng = rng::stream(Use::Synth, options.seed, 0, 0);
    let mut deck = Deck::new(&mut rng);
    let copies = |n: usize| (options.duplicates * n as f64).round() as usize;
    let (train_copies, test_copies, external_copies) =
        (copies(options.samples), copies(options.test), copies(options.external));
    let originals = options.samples - train_copies;
    let total = train_copies + test_copies + external_copies;
    if total > originals {
        return Err(Error::usage(format!(
            "--duplicates {} gives {total} copies of {originals} train samples; give a smaller \
                share or more --samples",
            options.duplicates
        )));
    }
    let floor = options.min_per_class;
    let mut train = deck.draw(originals, floor, "train", &mut rng)?;
    let test_floor =
        if floor == 0 { 0 } else { (floor * options.test).div_ceil(options.samples.max(1)).max(3) };
    let floor_of_test = if options.test > 0 { test_floor } else { 0 };
    let mut test = deck.draw(options.test - test_copies, floor_of_test, "test", &mut rng)?;
    let mut samples = Vec::with_capacity(options.samples + options.test + options.external);

    // Distinct originals for all copies, so that every planted group is a pair.
    let mut order: Vec<usize> = (0..originals).collect();
    shuffle(&mut order, &mut rng);
    let (for_train, rest) = order.split_at(train_copies);
    let (for_test, rest) = rest.split_at(test_copies);
    let for_external = &rest[..external_copies];
    let mut copied = |from: &[usize], train: &[Labels]| -> Vec<(Labels, Option<usize>)> {
        let mut labels = |o: usize| match rng.chance(CONFLICTS) {
            true => conflicting(train[o], &mut rng),
            false => train[o],
        };
        from.iter().map(|&o| (labels(o), Some(o))).collect()
    };
    let (train_pairs, test_pairs) = (copied(for_train, &train), copied(for_test, &train));
    let external_pairs = copied(for_external, &train);
    for (subset, own, pairs) in
        [(Subset::Train, &mut train, train_pairs), (Subset::Test, &mut test, test_pairs)]
    {
        for (labels, copy_of) in own.drain(..).map(|l| (l, None)).chain(pairs) {
            let (id, well) = (uuid(&mut rng), samples.len() as u64);
            samples.push(PlannedSample { id, subset, labels, copy_of, well });
        }
    }
    external(options.external, external_pairs, &mut deck, &mut rng, &mut samples);
    sort(samples)
}

/// Sorts each table by id, so that a row's position does not reveal copies, and updates the indices
/// of the originals.
fn sort(samples: Vec<PlannedSample>) -> Result<Vec<PlannedSample>> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| {
        (samples[a].subset, &samples[a].id).cmp(&(samples[b].subset, &samples[b].id))
    });
    let mut now = vec![0; samples.len()];
    order.iter().enumerate().for_each(|(new, &old)| now[old] = new);
    let sorted = order.iter().map(|&old| PlannedSample {
        copy_of: samples[old].copy_of.map(|o| now[o]),
        ..samples[old].clone()
    });
    Ok(sorted.collect())
}

/// External samples in wells of two or three fields. A copy is the first field of its well; the
/// other fields are images of their own with its labels.
fn external(
    count: usize,
    copies: Vec<(Labels, Option<usize>)>,
    deck: &mut Deck,
    rng: &mut Rng,
    samples: &mut Vec<PlannedSample>,
) {
    let (mut copies, mut taken) = (copies.into_iter(), HashSet::new());
    let end = samples.len() + count;
    while samples.len() < end {
        let (labels, copy_of) = copies.next().unwrap_or_else(|| (deck.next(rng), None));
        let remaining = end - samples.len() - copies.len();
        let fields = if rng.chance(0.75) { 2 } else { 3 }.min(remaining);
        let well = loop {
            let (antibody, plate) = (rng.count(10_000, 75_000), rng.count(1, 1999));
            let (row, column) = ((b'A' + rng.count(0, 7) as u8) as char, rng.count(1, 12));
            let name = format!("{antibody}_{plate}_{row}{column}");
            if taken.insert(name.clone()) {
                break name;
            }
        };
        let number = samples.len() as u64;
        for field in 1..=fields {
            let copy_of = copy_of.filter(|_| field == 1);
            let (id, subset) = (format!("{well}_{field}"), Subset::External);
            samples.push(PlannedSample { id, subset, labels, copy_of, well: number });
        }
    }
}

/// The population as a shuffled deck: every set is drawn once before any is drawn again.
struct Deck {
    sets: Vec<Labels>,
    next: usize,
}

impl Deck {
    fn new(rng: &mut Rng) -> Self {
        let mut sets = population();
        shuffle(&mut sets, rng);
        Self { sets, next: 0 }
    }

    fn next(&mut self, rng: &mut Rng) -> Labels {
        if self.next == self.sets.len() {
            shuffle(&mut self.sets, rng);
            self.next = 0;
        }
        self.next += 1;
        self.sets[self.next - 1]
    }

    /// `count` sets in which each class occurs at least `floor` times: if one is too rare, sets
    /// with it replace sets whose classes all occur more often than that.
    fn draw(
        &mut self,
        count: usize,
        floor: usize,
        part: &str,
        rng: &mut Rng,
    ) -> Result<Vec<Labels>> {
        let mut sets: Vec<Labels> = (0..count).map(|_| self.next(rng)).collect();
        let mut have = [0usize; CLASSES];
        sets.iter().flat_map(|s| s.iter()).for_each(|c| have[c] += 1);
        let mut rarest: Vec<usize> = (0..CLASSES).collect();
        rarest.sort_by_key(|&c| have[c]);
        for class in rarest {
            let with: Vec<Labels> =
                self.sets.iter().copied().filter(|s| s.contains(class)).collect();
            while have[class] < floor {
                // Prefer to replace sets of common classes only, so that the middle of the
                // distribution does not change.
                let spare = |s: &Labels| !s.contains(class) && s.iter().all(|c| have[c] > floor);
                let victims: Vec<usize> = (0..count).filter(|&i| spare(&sets[i])).collect();
                if victims.is_empty() {
                    return Err(Error::usage(format!(
                        "{count} original {part} samples cannot hold {floor} of each of the \
                            {CLASSES} classes; give more samples or a smaller --min-per-class"
                    )));
                }
                let victim = (0..4)
                    .map(|_| victims[rng.count(0, victims.len() - 1)])
                    .max_by_key(|&i| sets[i].iter().map(|c| have[c]).min())
                    .expect("four candidates");
                let set = with[rng.count(0, with.len() - 1)];
                sets[victim].iter().for_each(|c| have[c] -= 1);
                set.iter().for_each(|c| have[c] += 1);
                sets[victim] = set;
            }
        }
        shuffle(&mut sets, rng);
        Ok(sets)
    }
}

/// The labels with one class added or, if there are several, removed.
fn conflicting(labels: Labels, rng: &mut Rng) -> Labels {
    let place = rng.count(0, CLASSES - 1);
    if labels.len() > 1 && rng.chance(0.5) {
        let drop = labels.iter().nth(place % labels.len());
        return Labels::from_classes(labels.iter().filter(|&c| Some(c) != drop))
            .expect("classes of a set");
    }
    let mut more = labels;
    let absent = (0..CLASSES).map(|i| (place + i) % CLASSES).find(|&c| !labels.contains(c));
    more.insert(absent.expect("no set has all classes"));
    more
}

fn uuid(rng: &mut Rng) -> String {
    let (a, b) = (rng.next_u64(), rng.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        0x8000 | b >> 48 & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
}
