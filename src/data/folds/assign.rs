//! Groups samples by `split.groups`, assigns them to folds and writes the table: the job `split`.

use std::path::Path;

use super::{
    FoldRow, Quality, dense, groups_of,
    known::{Known, unknown, untrained},
    quality, shuffle, split,
    table::{self, write_table},
};
use crate::{
    base::{Error, Result},
    config::{Groups, Split, SplitMethod},
    data::{
        dedup::{DUPLICATES, job, tables::Duplicates},
        labels::{self, Labels},
        manifest::{self, Manifest, Part},
        work_folder::WorkFolder,
    },
};

/// The folds that were written.
pub struct Assigned {
    pub samples: usize,
    /// Groups of samples that stay together.
    pub groups: usize,
    pub quality: Quality,
    /// What the ids say of wells or antibodies, where `split.groups` asks for these.
    pub known: Option<Known>,
    /// What will not be as a reader of the scores expects.
    pub warnings: Vec<String>,
}

/// Assigns the training samples of a work folder and writes its `folds.csv`. Samples that `dedup`
/// removed or that are in no shard get no row.
///
/// # Errors
/// Data, where the manifest, the shards or the duplicates are missing or outdated, or there are
/// fewer groups than folds.
pub fn assign(work: &WorkFolder, keys: &Split) -> Result<Assigned> {
    let samples = Samples::of_work(work, keys.groups)?;
    let work_path = work.path();
    let (rows, assigned) =
        samples.assign(keys, &Manifest::path(work_path), &work_path.join(table::NAME))?;
    table::write(work_path, work.store(Part::Train)?, keys, &rows)?;
    Ok(assigned)
}

/// Assigns the samples of a table Id,Target and writes the folds to `out`.
///
/// # Errors
/// Data, where the table is broken or empty, or there are fewer groups than folds.
pub fn assign_table(labels: &Path, out: &Path, keys: &Split) -> Result<Assigned> {
    let (rows, assigned) = Samples::of_table(labels, keys.groups)?.assign(keys, labels, out)?;
    write_table(out, &rows)?;
    Ok(assigned)
}

/// By sample: the id, the labels and the number of the group.
struct Samples {
    ids: Vec<String>,
    labels: Vec<Labels>,
    groups: Vec<usize>,
}

impl Samples {
    fn of_table(path: &Path, level: Groups) -> Result<Self> {
        let (rows, problems) = labels::read_table(path)?;
        if let Some(problem) = problems.first() {
            let what = format!("{problem} ({} problems in all)", problems.len());
            return Err(Error::data(path, what));
        }
        if rows.is_empty() {
            return Err(Error::data(path, "no row below the header"));
        }
        let (ids, labels): (Vec<String>, Vec<Labels>) = rows.into_iter().unzip();
        let groups = group(&ids, &Duplicates::default(), level);
        Ok(Self { ids, labels, groups })
    }

    fn of_work(work: &WorkFolder, level: Groups) -> Result<Self> {
        let (manifest, store) = (work.manifest()?, work.store(Part::Train)?);
        let duplicates = match job::duplicates(work)? {
            Some(duplicates) => duplicates,
            None if level == Groups::None => Duplicates::default(),
            None => {
                return Err(Error::data(
                    work.path().join(DUPLICATES),
                    "not there; run `atlas dedup` first, or set split.groups=none",
                ));
            }
        };
        let train: Vec<_> = manifest.samples.iter().filter(|s| s.part == Part::Train).collect();
        let ids: Vec<String> = train.iter().map(|s| s.id.clone()).collect();
        // Removed samples still join groups: the well of a removed copy belongs to the sample that
        // is kept.
        let groups = group(&ids, &duplicates, level);
        let is_kept = |id: &str| !duplicates.removed.contains(id) && store.find(id).is_some();
        let kept: Vec<usize> = (0..ids.len()).filter(|&i| is_kept(&ids[i])).collect();
        if kept.is_empty() {
            return Err(Error::data(
                Manifest::path(work.path()),
                "no training sample is in the shards; see the quarantine lists",
            ));
        }
        Ok(Self {
            ids: kept.iter().map(|&i| ids[i].clone()).collect(),
            labels: kept.iter().map(|&i| train[i].labels).collect(),
            groups: dense(&kept.iter().map(|&i| groups[i]).collect::<Vec<_>>()),
        })
    }

    /// The rows of the table `out`; `input` is named in errors.
    fn assign(self, keys: &Split, input: &Path, out: &Path) -> Result<(Vec<FoldRow>, Assigned)> {
        let groups = self.groups.iter().max().map_or(0, |g| g + 1);
        self.check(groups, keys, input, out)?;
        let (folds, order, seed) = (keys.folds, keys.order, keys.seed);
        let (fold_of, share): (Vec<Vec<usize>>, f64) = match keys.method {
            SplitMethod::Folds => {
                let fold_of = split(&self.labels, &self.groups, folds, order, seed);
                (fold_of.into_iter().map(|fold| vec![fold]).collect(), 1.0 / folds as f64)
            }
            SplitMethod::Shuffle => {
                let share = keys.holdout;
                (shuffle(&self.labels, &self.groups, folds, share, order, seed), share)
            }
        };
        let members: Vec<Vec<usize>> = (0..folds)
            .map(|fold| (0..fold_of.len()).filter(|&i| fold_of[i].contains(&fold)).collect())
            .collect();
        let quality = quality(&self.labels, &members, share);
        let known = (keys.groups >= Groups::Well)
            .then(|| Known::of(self.ids.iter().map(String::as_str), keys.groups));
        let unknown = known.filter(|known| known.recognised == 0).map(unknown);
        let absent = labels::absent(self.labels.iter().copied(), "the samples to split");
        let untrained = untrained(&self.labels, &members);
        let warnings = [unknown, absent, untrained].into_iter().flatten().collect();
        let rows: Vec<FoldRow> = (self.ids.into_iter().zip(self.groups).zip(fold_of))
            .map(|((id, group), folds)| FoldRow { id, group, folds })
            .collect();
        let samples = rows.len();
        Ok((rows, Assigned { samples, groups, quality, known, warnings }))
    }

    /// # Errors
    /// Data, where there are too few groups, with the keys that help.
    fn check(&self, groups: usize, keys: &Split, input: &Path, out: &Path) -> Result<()> {
        let needed = if keys.method == SplitMethod::Folds { keys.folds } else { 2 };
        if groups >= needed {
            return Ok(());
        }
        let n = self.ids.len();
        let fewer = (groups >= 2).then(|| format!("lower split.folds to {groups}, "));
        let finer = (n >= needed).then_some("set split.groups=none, ");
        let ways = fewer.unwrap_or_default() + finer.unwrap_or_default();
        let what = format!(
            "its {n} samples form {groups} groups, and {needed} are needed for {}: {ways}add data",
            out.display()
        );
        Err(Error::data(input, what))
    }
}

/// The groups of `level` and of all levels below it.
fn group(ids: &[String], duplicates: &Duplicates, level: Groups) -> Vec<usize> {
    let column = |key: fn(&str) -> Option<&str>| ids.iter().map(|id| key(id)).collect();
    let mut columns: Vec<Vec<Option<&str>>> = Vec::new();
    if level >= Groups::Duplicates {
        columns.push(ids.iter().map(|id| duplicates.group.get(id).map(String::as_str)).collect());
    }
    if level >= Groups::Well {
        columns.push(column(manifest::well_of));
    }
    if level >= Groups::Antibody {
        columns.push(column(manifest::antibody_of));
    }
    groups_of(ids.len(), &columns)
}
