//! What the job `dedup` leaves in the work folder, and how later steps read it.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, Result, atomic_file, stop::Stop},
    config,
    data::{
        dedup::{
            decide::{self, Candidate, Confirmed, Group, Leak},
            parts, search,
            thumb::Thumb,
        },
        labels::Labels,
        manifest::{Manifest, Part, Sample, Source},
        shard::Store,
    },
};

/// One row per member of a group of at least two: `id,group,kept,of,red,green,blue,correlation`.
/// `group` is the id of the group's first member, `kept` 1 or 0, `of` the one that is kept; then
/// the distances of the hashes to that one, in bits, and the correlation with it.
pub const DUPLICATES: &str = "duplicates.csv";
/// Groups whose members have different labels: `group,id,kept,labels`.
pub const CONFLICTS: &str = "conflicts.csv";
/// Training samples that are also in the test set: `train,test,red,green,blue,correlation,kept`.
/// They stay in training; whoever wants to score without them takes them from here.
pub const LEAKS: &str = "leaks.csv";
/// What the tables were made from, and the sums of `Summary`.
const STATE: &str = "dedup.json";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Training samples looked at.
    pub train: usize,
    /// Test samples looked at.
    pub test: usize,
    /// Pairs within the radius.
    pub candidates: usize,
    pub groups: usize,
    /// Training samples that do not stay.
    pub removed: usize,
    /// Groups whose members have different labels.
    pub conflicts: usize,
    /// Pairs of a training and a test sample.
    pub leaks: usize,
}

#[derive(Serialize, Deserialize)]
struct State {
    manifest: String,
    inputs: String,
    tables: String,
    summary: Summary,
}

/// Finds and decides for all samples of a work folder and writes the tables; true where that had
/// been done before, from the same shards with the same settings, and nothing was left to do.
///
/// # Errors
/// Those of the manifest and the shards; a radius that finds nearly every pair.
pub fn run(work: &Path, settings: &config::Dedup) -> Result<(Summary, bool)> {
    let manifest = Manifest::read(work)?;
    let stores = open(work)?;
    let input = Input::new(&manifest, &stores, settings)?;
    match input.before(work) {
        Some(summary) => Ok((summary, true)),
        None => {
            let all = || 0..input.samples.len();
            let found = input.search([all(), all()])?;
            log::info!(
                "dedup: {} pairs of {} samples lie within {} bits",
                found.candidates,
                all().end,
                settings.radius
            );
            Ok((input.finish(work, found)?, false))
        }
    }
}

/// Task `task` of an array of `tasks`: finds what it has to and leaves it in the work folder, for
/// [`merge`]. Returns the numbers of parts that are its own and of those made now; a part that is
/// there and fresh is left as it is.
///
/// # Errors
/// As [`run`]; Stopped after `stop`, between two parts.
pub fn run_task(
    work: &Path,
    settings: &config::Dedup,
    task: usize,
    tasks: usize,
    stop: &Stop,
) -> Result<(usize, usize)> {
    let manifest = Manifest::read(work)?;
    let stores = open(work)?;
    let input = Input::new(&manifest, &stores, settings)?;
    let mut counts = (0, 0);
    for (number, ranges) in
        parts::ranges(input.samples.len(), tasks).into_iter().enumerate().skip(task).step_by(tasks)
    {
        let source = parts::source(&input.fingerprint, &ranges);
        let made = parts::read(work, number, &source).is_err();
        if made && stop.asked() {
            return Err(Error::Stopped(
                "stopped; the finished parts stay, run it again to go on".into(),
            ));
        }
        if made {
            parts::write(work, number, source, input.search(ranges)?)?;
        }
        counts = (counts.0 + 1, counts.1 + usize::from(made));
    }
    Ok(counts)
}

/// Decides on what the tasks of an array found, and writes the tables, equal to those of [`run`].
///
/// # Errors
/// [`Error::Data`] names the part that is missing or outdated.
pub fn merge(work: &Path, settings: &config::Dedup, tasks: usize) -> Result<(Summary, bool)> {
    let manifest = Manifest::read(work)?;
    let stores = open(work)?;
    let input = Input::new(&manifest, &stores, settings)?;
    if let Some(summary) = input.before(work) {
        return Ok((summary, true));
    }
    let mut all = Found::default();
    for (number, ranges) in parts::ranges(input.samples.len(), tasks).into_iter().enumerate() {
        let part = parts::read(work, number, &parts::source(&input.fingerprint, &ranges)).map_err(
            |what| {
                Error::data(
                    parts::path(work, number),
                    format!("{what}; run `atlas dedup --task {}`, then this again", number % tasks),
                )
            },
        )?;
        all.candidates += part.candidates;
        all.confirmed.extend(part.confirmed);
    }
    Ok((input.finish(work, all)?, false))
}

/// Whether there are tables, of whatever data.
pub fn exists(work: &Path) -> bool {
    work.join(STATE).exists()
}

/// Whether nothing is left to decide, and for each task of an array whether its parts are there.
///
/// # Errors
/// Those of the manifest and the shards.
pub fn standing(work: &Path, settings: &config::Dedup, tasks: usize) -> Result<(bool, Vec<bool>)> {
    let manifest = Manifest::read(work)?;
    let stores = open(work)?;
    let input = Input::new(&manifest, &stores, settings)?;
    let done = input.before(work).is_some();
    let ranges = parts::ranges(input.samples.len(), tasks);
    let fresh =
        |i: usize| parts::read(work, i, &parts::source(&input.fingerprint, &ranges[i])).is_ok();
    Ok((
        done,
        (0..tasks).map(|task| done || (task..ranges.len()).step_by(tasks).all(fresh)).collect(),
    ))
}

fn open(work: &Path) -> Result<[Store; 2]> {
    Ok([Store::open(work, Part::Train)?, Store::open(work, Part::Test)?])
}

/// Near pairs of samples.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// Pairs within the radius.
    candidates: usize,
    confirmed: Vec<Confirmed>,
}

/// What is searched, and how.
struct Input<'a> {
    manifest: &'a Manifest,
    stores: &'a [Store; 2],
    settings: &'a config::Dedup,
    samples: Vec<Stored<'a>>,
    candidates: Vec<Candidate>,
    fingerprint: String,
}

impl<'a> Input<'a> {
    fn new(
        manifest: &'a Manifest,
        stores: &'a [Store; 2],
        settings: &'a config::Dedup,
    ) -> Result<Self> {
        let samples = stored_samples(manifest, stores)?;
        let candidate = |s: &Stored| Candidate {
            test: s.sample.part == Part::Test,
            official: s.sample.source == Source::Official,
            labels: s.sample.labels,
        };
        let (candidates, fingerprint) =
            (samples.iter().map(candidate).collect(), inputs(&samples, settings));
        Ok(Self { manifest, stores, settings, samples, candidates, fingerprint })
    }

    /// What was found before, if the tables are still there and nothing else has changed.
    fn before(&self, work: &Path) -> Option<Summary> {
        let state = state(work)?;
        let same = state.inputs == self.fingerprint
            && tables_sum(work).is_some_and(|sum| sum == state.tables);
        same.then_some(state.summary)
    }

    /// The near pairs with one sample in each of `ranges`.
    fn search(&self, ranges: [Range<usize>; 2]) -> Result<Found> {
        let hashes: Vec<[u64; 4]> = self.samples.iter().map(|s| s.hashes).collect();
        let pairs = search::pairs(&hashes, ranges, self.settings.radius)?;
        let confirmed =
            decide::confirm(&self.candidates, &pairs, self.settings.min_correlation, |i| {
                self.thumb(i)
            })?;
        Ok(Found { candidates: pairs.len(), confirmed })
    }

    fn thumb(&self, i: usize) -> Result<Thumb> {
        let store = &self.stores[usize::from(self.candidates[i].test)];
        let mut image = vec![0; store.size() * store.size() * 4];
        store.read(self.samples[i].place, &mut image)?;
        Ok(Thumb::new(&image, store.size()))
    }

    /// Decides and writes the tables.
    fn finish(&self, work: &Path, found: Found) -> Result<Summary> {
        let (groups, leaks) = decide::decide(&self.candidates, found.confirmed, |i| self.thumb(i))?;
        let summary = Summary {
            train: self.stores[0].len(),
            test: self.stores[1].len(),
            candidates: found.candidates,
            groups: groups.len(),
            removed: groups.iter().map(|g| g.members.len() - 1).sum(),
            conflicts: groups.iter().filter(|g| differ(g, &self.samples)).count(),
            leaks: leaks.len(),
        };
        write_tables(work, &self.samples, &groups, &leaks)?;
        let tables = tables_sum(work).ok_or_else(|| {
            Error::data(work, "the tables of `dedup` vanished while they were written")
        })?;
        let manifest = format!("{:016x}", self.manifest.hash());
        let state =
            State { manifest, inputs: self.fingerprint.clone(), tables, summary: summary.clone() };
        let text = serde_json::to_string_pretty(&state).map_err(Error::failed)?;
        atomic_file::write(work.join(STATE), text + "\n")?;
        Ok(summary)
    }
}

/// A sample of the manifest that is in the shards (quarantined ones are not).
struct Stored<'a> {
    sample: &'a Sample,
    place: usize,
    hashes: [u64; 4],
}

/// Training samples in the order of their shards, then test samples.
fn stored_samples<'a>(manifest: &'a Manifest, stores: &[Store; 2]) -> Result<Vec<Stored<'a>>> {
    let mut all = Vec::new();
    for (part, store) in [Part::Train, Part::Test].into_iter().zip(stores) {
        for sample in manifest.samples.iter().filter(|s| s.part == part) {
            if let Some(place) = store.find(&sample.id) {
                all.push(Stored { sample, place, hashes: store.phash(place) });
            }
        }
    }
    if all.is_empty() {
        Err(Error::failed("the shards hold no sample; look at the quarantine lists"))
    } else {
        Ok(all)
    }
}

fn inputs(samples: &[Stored], settings: &config::Dedup) -> String {
    let mut text =
        format!("{} {} {}\n", env!("CARGO_PKG_VERSION"), settings.radius, settings.min_correlation);
    for s in samples {
        let _ = writeln!(
            text,
            "{},{:?},{:?},{},{:x?}",
            s.sample.id, s.sample.part, s.sample.source, s.sample.labels, s.hashes
        );
    }
    format!("{:016x}", atomic_file::checksum(text.as_bytes()))
}

fn state(work: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(work.join(STATE)).ok()?).ok()
}

fn tables_sum(work: &Path) -> Option<String> {
    let tables = [DUPLICATES, CONFLICTS, LEAKS].map(|name| fs::read(work.join(name)).ok());
    let parts: Option<Vec<&[u8]>> = tables.iter().map(|t| t.as_deref()).collect();
    Some(format!("{:016x}", atomic_file::checksum_parts(parts?)))
}

fn differ(group: &Group, samples: &[Stored]) -> bool {
    let labels: HashSet<Labels> =
        group.members.iter().map(|m| samples[m.0].sample.labels).collect();
    labels.len() > 1
}

fn write_tables(work: &Path, samples: &[Stored], groups: &[Group], leaks: &[Leak]) -> Result<()> {
    let id = |i: usize| &samples[i].sample.id;
    let distances = |a: usize, b: usize| {
        let [r, g, b] =
            std::array::from_fn(|c| (samples[a].hashes[c] ^ samples[b].hashes[c]).count_ones());
        format!("{r},{g},{b}")
    };
    let mut duplicates = String::from("id,group,kept,of,red,green,blue,correlation\n");
    let mut conflicts = String::from("group,id,kept,labels\n");
    let mut removed = HashSet::new();
    for group in groups {
        let name = id(group.members[0].0);
        for &(i, correlation) in &group.members {
            let kept = u8::from(i == group.kept);
            let correlation = correlation.map_or(String::new(), |r| format!("{r:.4}"));
            let _ = writeln!(
                duplicates,
                "{},{name},{kept},{},{},{correlation}",
                id(i),
                id(group.kept),
                distances(i, group.kept)
            );
            if differ(group, samples) {
                let _ = writeln!(conflicts, "{name},{},{kept},{}", id(i), samples[i].sample.labels);
            }
            if kept == 0 {
                removed.insert(i);
            }
        }
    }
    let mut leaked = String::from("train,test,red,green,blue,correlation,kept\n");
    for l in leaks {
        let kept = u8::from(!removed.contains(&l.train));
        let _ = writeln!(
            leaked,
            "{},{},{},{:.4},{kept}",
            id(l.train),
            id(l.test),
            distances(l.train, l.test),
            l.correlation
        );
    }
    atomic_file::write(work.join(DUPLICATES), duplicates)?;
    atomic_file::write(work.join(CONFLICTS), conflicts)?;
    atomic_file::write(work.join(LEAKS), leaked)
}

/// What later steps need of `duplicates.csv`.
#[derive(Clone, Debug, Default)]
pub struct Duplicates {
    /// By id, the id of the first member of its group; samples without a duplicate are not listed.
    pub group: HashMap<String, String>,
    /// Ids that do not stay.
    pub removed: HashSet<String>,
}

/// Reads `duplicates.csv` of a work folder; `None` where `dedup` was not run.
///
/// # Errors
/// [`Error::Data`] names a broken line, or says that the table belongs to another manifest.
pub fn read(work: &Path, manifest: &Manifest) -> Result<Option<Duplicates>> {
    let path: PathBuf = work.join(DUPLICATES);
    if !path.exists() {
        return Ok(None);
    }
    if state(work).is_none_or(|s| s.manifest != format!("{:016x}", manifest.hash())) {
        return Err(Error::data(
            &path,
            "made from another manifest than the one at hand; run `atlas dedup` again",
        ));
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let mut duplicates = Duplicates::default();
    for (i, line) in text.lines().enumerate().skip(1) {
        let mut parts = line.split(',');
        let (Some(id), Some(group), Some(kept @ ("0" | "1"))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::data(
                &path,
                format!(
                    "line {}: `{line}` is not as `dedup` wrote it; run `atlas dedup` again",
                    i + 1
                ),
            ));
        };
        duplicates.group.insert(id.into(), group.into());
        if kept == "0" {
            duplicates.removed.insert(id.into());
        }
    }
    Ok(Some(duplicates))
}
