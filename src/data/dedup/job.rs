//! The job `dedup`: near-duplicates of all samples of a work folder, at once or by the tasks of an
//! array, and a record of what they were found in, so that nothing is done twice.

use std::{collections::HashSet, fmt::Write, fs, ops::Range, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, Result, atomic_file, checksum, stop_request::Stop},
    config,
    data::{
        dedup::{
            decide::{self, Candidate, Group, Leak},
            parts::{self, NearPairs},
            search,
            tables::{
                CONFLICTS, ConflictRow, DUPLICATES, DuplicateRow, Duplicates, LEAKS, LeakRow,
                Tables,
            },
            thumb::Thumb,
        },
        labels::Labels,
        manifest::{Part, Sample, Source},
        shard::Store,
        work_folder::WorkFolder,
    },
};

/// What the tables were made from, their checksum and a summary.
const STATE: &str = "dedup.json";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupSummary {
    /// Training samples that were compared.
    pub train: usize,
    /// Test samples that were compared.
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

/// Content of `dedup.json`.
#[derive(Serialize, Deserialize)]
struct DedupState {
    manifest: String,
    inputs: String,
    tables: String,
    summary: DedupSummary,
}

/// How far `dedup` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupStatus {
    /// Whether the tables are there and up to date.
    pub is_merged: bool,
    /// For each task of an array, whether its parts are there and up to date.
    pub tasks: Vec<bool>,
}

/// Finds and decides for all samples of a work folder and writes the tables; true where that had
/// been done before, from the same shards with the same settings, and nothing was left to do.
///
/// # Errors
/// Those of the manifest and the shards; a radius that finds nearly every pair.
pub fn run(work: &WorkFolder, settings: &config::Dedup) -> Result<(DedupSummary, bool)> {
    let input = DedupInput::new(work, settings)?;
    if let Some(summary) = input.finished() {
        return Ok((summary, true));
    }
    let all = || 0..input.samples.len();
    let found = input.search([all(), all()])?;
    log::info!(
        "dedup: {} pairs of {} samples lie within {} bits",
        found.candidates,
        all().end,
        settings.radius
    );
    Ok((input.finish(found)?, false))
}

/// Task `task` of an array of `tasks`: searches its parts and leaves the result in the work folder,
/// for [`merge`]. Returns the number of its parts and of those made now; a part that is there and
/// up to date stays as it is.
///
/// # Errors
/// As [`run`]; Stopped after `stop`, between two parts.
pub fn run_task(
    work: &WorkFolder,
    settings: &config::Dedup,
    task: usize,
    tasks: usize,
    stop: &Stop,
) -> Result<(usize, usize)> {
    let input = DedupInput::new(work, settings)?;
    let mut counts = (0, 0);
    for (number, ranges) in
        parts::ranges(input.samples.len(), tasks).into_iter().enumerate().skip(task).step_by(tasks)
    {
        let source = parts::source(&input.fingerprint, &ranges);
        let made = parts::read(work.path(), number, &source).is_err();
        if made && stop.asked() {
            return Err(Error::Stopped(
                "stopped; the finished parts stay, run it again to go on".into(),
            ));
        }
        if made {
            parts::write(work.path(), number, source, input.search(ranges)?)?;
        }
        counts = (counts.0 + 1, counts.1 + usize::from(made));
    }
    Ok(counts)
}

/// Decides on what the tasks of an array found, and writes the tables, equal to those of [`run`].
///
/// # Errors
/// [`Error::Data`] names the part that is missing or outdated.
pub fn merge(
    work: &WorkFolder,
    settings: &config::Dedup,
    tasks: usize,
) -> Result<(DedupSummary, bool)> {
    let input = DedupInput::new(work, settings)?;
    if let Some(summary) = input.finished() {
        return Ok((summary, true));
    }
    let mut all = NearPairs::default();
    for (number, ranges) in parts::ranges(input.samples.len(), tasks).into_iter().enumerate() {
        let source = parts::source(&input.fingerprint, &ranges);
        let part = parts::read(work.path(), number, &source).map_err(|what| {
            let task = number % tasks;
            Error::data(
                parts::path(work.path(), number),
                format!("{what}; run `atlas dedup --task {task} --tasks {tasks}`, then this again"),
            )
        })?;
        all.candidates += part.candidates;
        all.confirmed.extend(part.confirmed);
    }
    Ok((input.finish(all)?, false))
}

/// Whether there are tables, of whatever data.
pub fn exists(work: &WorkFolder) -> bool {
    work.path().join(STATE).exists()
}

/// How far an array of `tasks` is.
///
/// # Errors
/// Those of the manifest and the shards.
pub fn status(work: &WorkFolder, settings: &config::Dedup, tasks: usize) -> Result<DedupStatus> {
    let input = DedupInput::new(work, settings)?;
    let is_merged = input.finished().is_some();
    let ranges = parts::ranges(input.samples.len(), tasks);
    let is_fresh = |i: usize| {
        parts::read(work.path(), i, &parts::source(&input.fingerprint, &ranges[i])).is_ok()
    };
    let is_done = |task| is_merged || (task..ranges.len()).step_by(tasks).all(is_fresh);
    Ok(DedupStatus { is_merged, tasks: (0..tasks).map(is_done).collect() })
}

/// Reads `duplicates.csv` of a work folder; `None` where `dedup` was not run.
///
/// # Errors
/// [`Error::Data`] names a broken line, or the table where it belongs to another manifest or was
/// changed since.
pub fn duplicates(work: &WorkFolder) -> Result<Option<Duplicates>> {
    let path = work.path().join(DUPLICATES);
    if !path.exists() {
        return Ok(None);
    }
    let manifest = manifest_sum(work)?;
    let state = state(work.path()).filter(|state| state.manifest == manifest);
    let state = state.ok_or_else(|| {
        let what = "made from another manifest than the current one; run `atlas dedup` again";
        Error::data(&path, what)
    })?;
    if tables_sum(work.path()).is_none_or(|sum| sum != state.tables) {
        let what = format!(
            "it, {CONFLICTS} or {LEAKS} is not as `atlas dedup` wrote it, which recorded their \
             checksum in {STATE}; run `atlas dedup` again"
        );
        return Err(Error::data(&path, what));
    }
    Duplicates::read(&path).map(Some)
}

/// What is searched, and how.
struct DedupInput<'a> {
    work: &'a WorkFolder,
    /// The training part and the test part.
    stores: [&'a Arc<Store>; 2],
    settings: &'a config::Dedup,
    samples: Vec<StoredSample<'a>>,
    candidates: Vec<Candidate>,
    fingerprint: String,
}

impl<'a> DedupInput<'a> {
    fn new(work: &'a WorkFolder, settings: &'a config::Dedup) -> Result<Self> {
        let samples = stored_samples(work)?;
        let candidate = |s: &StoredSample| Candidate {
            test: s.sample.part == Part::Test,
            official: s.sample.source == Source::Official,
            labels: s.sample.labels,
        };
        Ok(Self {
            work,
            stores: [work.store(Part::Train)?, work.store(Part::Test)?],
            settings,
            candidates: samples.iter().map(candidate).collect(),
            fingerprint: fingerprint(&samples, settings),
            samples,
        })
    }

    /// What was found before, if the tables are still there and nothing else has changed.
    fn finished(&self) -> Option<DedupSummary> {
        let state = state(self.work.path())?;
        let same = state.inputs == self.fingerprint
            && state.manifest == manifest_sum(self.work).ok()?
            && tables_sum(self.work.path()).is_some_and(|sum| sum == state.tables);
        same.then_some(state.summary)
    }

    /// The near pairs with one sample in each of `ranges`.
    fn search(&self, ranges: [Range<usize>; 2]) -> Result<NearPairs> {
        let hashes: Vec<[u64; 4]> = self.samples.iter().map(|s| s.hashes).collect();
        let pairs = search::pairs(&hashes, ranges, self.settings.radius)?;
        let confirmed =
            decide::confirm(&self.candidates, &pairs, self.settings.min_correlation, |i| {
                self.thumb(i)
            })?;
        Ok(NearPairs { candidates: pairs.len(), confirmed })
    }

    fn thumb(&self, i: usize) -> Result<Thumb> {
        let store = self.stores[usize::from(self.candidates[i].test)];
        let mut image = vec![0; store.size() * store.size() * 4];
        store.read(self.samples[i].place, &mut image)?;
        Ok(Thumb::new(&image, store.size()))
    }

    /// Decides and writes the tables.
    fn finish(&self, found: NearPairs) -> Result<DedupSummary> {
        let work = self.work.path();
        let (groups, leaks) = decide::decide(&self.candidates, found.confirmed, |i| self.thumb(i))?;
        let summary = DedupSummary {
            train: self.stores[0].len(),
            test: self.stores[1].len(),
            candidates: found.candidates,
            groups: groups.len(),
            removed: groups.iter().map(|g| g.members.len() - 1).sum(),
            conflicts: groups.iter().filter(|g| self.differ(g)).count(),
            leaks: leaks.len(),
        };
        self.tables(&groups, &leaks).write(work)?;
        let tables = tables_sum(work).ok_or_else(|| {
            Error::data(work, "the tables of `dedup` vanished while they were written")
        })?;
        let manifest = manifest_sum(self.work)?;
        let inputs = self.fingerprint.clone();
        let state = DedupState { manifest, inputs, tables, summary };
        let text = serde_json::to_string_pretty(&state).map_err(Error::failed)?;
        atomic_file::write(work.join(STATE), text + "\n")?;
        Ok(state.summary)
    }

    /// Whether the members of a group have different labels.
    fn differ(&self, group: &Group) -> bool {
        let labels = |&(i, _): &(usize, Option<f32>)| self.samples[i].sample.labels;
        group.members.iter().map(labels).collect::<HashSet<Labels>>().len() > 1
    }

    fn tables(&self, groups: &[Group], leaks: &[Leak]) -> Tables {
        let id = |i: usize| self.samples[i].sample.id.clone();
        let distances = |a: usize, b: usize| -> [u32; 3] {
            let hashes = |i: usize| self.samples[i].hashes;
            std::array::from_fn(|c| (hashes(a)[c] ^ hashes(b)[c]).count_ones())
        };
        let (mut tables, mut removed) = (Tables::default(), HashSet::new());
        for group in groups {
            let differ = self.differ(group);
            for &(i, correlation) in &group.members {
                let kept = i == group.kept;
                if !kept {
                    removed.insert(i);
                }
                let [red, green, blue] = distances(i, group.kept);
                let correlation = correlation.map_or(String::new(), |r| format!("{r:.4}"));
                let (id, of, group) = (id(i), id(group.kept), id(group.members[0].0));
                if differ {
                    let labels = self.samples[i].sample.labels.to_string();
                    let (group, id) = (group.clone(), id.clone());
                    tables.conflicts.push(ConflictRow { group, id, kept, labels });
                }
                let row = DuplicateRow { id, group, kept, of, red, green, blue, correlation };
                tables.duplicates.push(row);
            }
        }
        let leak = |l: &Leak| {
            let [red, green, blue] = distances(l.train, l.test);
            let (train, test, kept) = (id(l.train), id(l.test), !removed.contains(&l.train));
            let correlation = format!("{:.4}", l.correlation);
            LeakRow { train, test, red, green, blue, correlation, kept }
        };
        tables.leaks = leaks.iter().map(leak).collect();
        tables
    }
}

/// A sample of the manifest that is in the shards (quarantined ones are not).
struct StoredSample<'a> {
    sample: &'a Sample,
    /// Position in the store of its part.
    place: usize,
    hashes: [u64; 4],
    /// Of the stored pixels, by which candidates are confirmed.
    checksum: u64,
}

/// Training samples in the order of their shards, then test samples.
fn stored_samples(work: &WorkFolder) -> Result<Vec<StoredSample<'_>>> {
    let manifest = work.manifest()?;
    let mut all = Vec::new();
    for part in [Part::Train, Part::Test] {
        let store = work.store(part)?;
        for sample in manifest.samples.iter().filter(|s| s.part == part) {
            if let Some(place) = store.find(&sample.id) {
                let (hashes, checksum) = (store.phash(place), store.checksum(place));
                all.push(StoredSample { sample, place, hashes, checksum });
            }
        }
    }
    if all.is_empty() {
        return Err(Error::failed("the shards hold no sample; check the quarantine lists"));
    }
    Ok(all)
}

/// Checksum of the samples and settings that the result depends on.
fn fingerprint(samples: &[StoredSample], settings: &config::Dedup) -> String {
    let mut text =
        format!("{} {} {}\n", env!("CARGO_PKG_VERSION"), settings.radius, settings.min_correlation);
    for s in samples {
        let _ = writeln!(
            text,
            "{},{:?},{:?},{},{:x?},{:x}",
            s.sample.id, s.sample.part, s.sample.source, s.sample.labels, s.hashes, s.checksum
        );
    }
    format!("{:016x}", checksum::of(text.as_bytes()))
}

/// The manifest that the tables are of: also samples that are in no shard count.
fn manifest_sum(work: &WorkFolder) -> Result<String> {
    Ok(format!("{:016x}", work.manifest_hash()?))
}

fn state(work: &Path) -> Option<DedupState> {
    serde_json::from_slice(&fs::read(work.join(STATE)).ok()?).ok()
}

/// Checksum of the three tables; `None` where one is missing.
fn tables_sum(work: &Path) -> Option<String> {
    let tables = [DUPLICATES, CONFLICTS, LEAKS].map(|name| fs::read(work.join(name)).ok());
    let parts: Option<Vec<&[u8]>> = tables.iter().map(|t| t.as_deref()).collect();
    Some(format!("{:016x}", checksum::of_parts(parts?)))
}
