//! Looks through the data folders: which samples are complete and labelled, and everything that is
//! not, in one go.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Manifest, Part, Sample, Source,
    listing::{Listing, list},
};
use crate::{
    base::{Error, Result, csv_file, progress::Progress},
    config::Data,
    data::labels::{Labels, read_ids, read_table},
};

/// One fault of the data, found by `plan`.
/// Name of the list in the work folder.
const PROBLEMS: &str = "problems.csv";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// What kind of fault, such as `missing channels`.
    pub kind: &'static str,
    /// `train`, `test` or `external`.
    pub place: &'static str,
    pub id: String,
    /// More about it; may be empty.
    pub detail: String,
}

/// What the folders hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The complete, labelled samples; their shard numbers are still 0.
    pub manifest: Manifest,
    /// Everything else, sorted by kind, place and id.
    pub problems: Vec<Problem>,
    /// Faults of whole folders, such as a missing test part.
    pub warnings: Vec<String>,
}

/// Reads the competition's and the external folder, whichever is set.
///
/// # Errors
/// Usage where no folder is set, a folder or a table is missing; data where no sample is complete.
pub fn scan(data: &Data) -> Result<Scan> {
    let mut scan = Scan::default();
    if data.kaggle.is_none() && data.external.is_none() {
        return Err(Error::usage(
            "no data: set data.kaggle (a folder with train/ and train.csv) or data.external (a folder with images/ and a CSV), \
             in the configuration or by --set data.kaggle=FOLDER",
        ));
    }
    if let Some(folder) = &data.kaggle {
        exists("data.kaggle", folder, "")?;
        exists("data.kaggle", folder, "train")?;
        exists("data.kaggle", folder, "train.csv")?;
        scan.labelled("train", Source::Official, &folder.join("train"), &folder.join("train.csv"))?;
    }
    if let Some(folder) = &data.external {
        exists("data.external", folder, "")?;
        exists("data.external", folder, "images")?;
        scan.labelled(
            "external",
            Source::External,
            &folder.join("images"),
            &external_table(folder)?,
        )?;
    }
    if let Some(folder) = &data.kaggle {
        scan.test(folder)?;
    }
    scan.problems.sort_unstable();
    if scan.manifest.count(Part::Train) == 0 {
        let folder = data.kaggle.as_ref().or(data.external.as_ref()).expect("one of them is set");
        let first = scan.problems.first().map_or(String::new(), |p| {
            format!(" (first fault: {} in {}: {})", p.kind, p.place, p.id)
        });
        return Err(Error::data(
            folder,
            format!("the data set is empty: no labelled sample has all four channels{first}"),
        ));
    }
    Ok(scan)
}

/// Every sample of a folder of pictures that belong to no data set, in order of id: as the test
/// part, without labels.
pub fn pictures(folder: &Path) -> Result<Scan> {
    let mut scan = Scan::default();
    let Listing { samples, mut names, .. } = scan.list("images", folder, 0)?;
    for (id, endings) in samples {
        match names.complete(endings) {
            Ok(files) => scan.manifest.samples.push(Sample {
                id,
                source: Source::External,
                part: Part::Test,
                labels: Labels::default(),
                files,
                shard: 0,
            }),
            Err(missing) => scan.problem(MISSING_CHANNELS, "images", id, missing),
        }
    }
    scan.problems.sort_unstable();
    Ok(scan)
}

/// The kind of problem of a sample that lacks pictures, which its detail names.
pub const MISSING_CHANNELS: &str = "missing channels";

/// The id that a fault of a table names; empty where it names none.
fn id_in(fault: &str) -> &str {
    fault.split_once("id ").map_or("", |(_, rest)| rest.split([':', ' ']).next().unwrap_or(""))
}

/// Whether one of `samples`, which are in order of id, has this one.
fn has(samples: &[Sample], id: &str) -> bool {
    samples.binary_search_by(|s| s.id.as_str().cmp(id)).is_ok()
}

fn exists(key: &str, folder: &Path, part: &str) -> Result<()> {
    let path = if part.is_empty() { folder.into() } else { folder.join(part) };
    match path.exists() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "{key}: {} does not exist; set {key} to the folder that holds the data",
            path.display()
        ))),
    }
}

/// The one CSV of the external folder that has the columns Id and Target.
///
/// # Errors
/// Usage where there is none, or several.
pub fn external_table(folder: &Path) -> Result<PathBuf> {
    let mut tables = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
            && let Ok(mut reader) = csv::Reader::from_path(&path)
            && let Ok(header) = reader.headers()
            && ["Id", "Target"]
                .iter()
                .all(|&want| header.iter().any(|h| h.trim().trim_start_matches('\u{feff}') == want))
        {
            tables.push(path);
        }
    }
    tables.sort();
    match tables.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::usage(format!(
            "data.external: {} has no CSV with the columns Id,Target beside images/",
            folder.display()
        ))),
        many => {
            let names: Vec<_> =
                many.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy()).collect();
            Err(Error::usage(format!(
                "data.external: {} has several label tables ({}); keep one",
                folder.display(),
                names.join(", ")
            )))
        }
    }
}

impl Scan {
    fn problem(
        &mut self,
        kind: &'static str,
        place: &'static str,
        id: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.problems.push(Problem { kind, place, id: id.into(), detail: detail.into() });
    }

    /// The train part or the external set: pictures with a table of labels.
    fn labelled(
        &mut self,
        place: &'static str,
        source: Source,
        folder: &Path,
        table: &Path,
    ) -> Result<()> {
        let (mut rows, faults) = read_table(table)?;
        let mut unusable = HashSet::new();
        for fault in faults {
            let id = id_in(&fault);
            let kind = match () {
                () if fault.contains("is repeated") => "repeated ids",
                () if fault.contains("unknown class") => "unknown classes",
                () => "broken rows",
            };
            if kind == "unknown classes" {
                unusable.insert(id.to_string());
            }
            self.problem(kind, place, id, format!("{}, {fault}", table.display()));
        }
        let Listing { samples, mut names, .. } = self.list(place, folder, rows.len())?;
        // Both in order of id: they are walked along side by side.
        rows.sort_unstable();
        let mut rows = rows.into_iter().peekable();
        let official = self.manifest.samples.len();
        for (id, endings) in samples {
            while let Some((id, _)) = rows.next_if(|row| row.0 < id) {
                self.problem("labels without images", place, id, "");
            }
            let label = rows.next_if(|row| row.0 == id).map(|row| row.1);
            match (names.complete(endings), label) {
                (Err(missing), _) => self.problem(MISSING_CHANNELS, place, id, missing),
                (Ok(_), _) if unusable.contains(&id) => {} // its row is reported already
                (Ok(_), None) => self.problem("images without labels", place, id, ""),
                (Ok(_), Some(l)) if l.is_empty() => {
                    self.problem("images without labels", place, id, "its row has no class")
                }
                (Ok(_), Some(_)) if has(&self.manifest.samples[..official], &id) => {
                    self.problem("repeated ids", place, id, "the official sample counts")
                }
                (Ok(files), Some(labels)) => self.manifest.samples.push(Sample {
                    id,
                    source,
                    part: Part::Train,
                    labels,
                    files,
                    shard: 0,
                }),
            }
        }
        for (id, _) in rows {
            self.problem("labels without images", place, id, "");
        }
        Ok(())
    }

    /// The test part, in the order of the sample submission where there is one.
    fn test(&mut self, folder: &Path) -> Result<()> {
        let (pictures, submission) = (folder.join("test"), folder.join("sample_submission.csv"));
        let order = match submission.exists() {
            true => {
                let (ids, faults) = read_ids(&submission)?;
                for fault in faults {
                    let id = id_in(&fault);
                    let kind =
                        if fault.contains("is repeated") { "repeated ids" } else { "broken rows" };
                    self.problem(kind, "test", id, format!("{}, {fault}", submission.display()));
                }
                Some(ids)
            }
            false => {
                self.warnings.push(format!(
                    "{} is missing; the test part is taken in the order of its ids",
                    submission.display()
                ));
                None
            }
        };
        if !pictures.exists() {
            self.warnings.push(format!(
                "{} is missing; there will be nothing to predict",
                pictures.display()
            ));
            return Ok(());
        }
        let Listing { samples: found, mut names, .. } =
            self.list("test", &pictures, order.as_ref().map_or(0, Vec::len))?;
        let order = order.unwrap_or_else(|| found.iter().map(|sample| sample.0.clone()).collect());
        let mut ordered = vec![false; found.len()];
        let trained = self.manifest.samples.len();
        let official = self.manifest.samples.partition_point(|s| s.source == Source::Official);
        for id in order {
            let at = found.binary_search_by(|sample| sample.0.cmp(&id)).ok();
            let files = at.map(|at| {
                ordered[at] = true;
                names.complete(found[at].1)
            });
            let trained = &self.manifest.samples[..trained];
            match files {
                None => self.problem("ids without images", "test", id, "in sample_submission.csv"),
                Some(Err(missing)) => self.problem(MISSING_CHANNELS, "test", id, missing),
                Some(Ok(_)) if has(&trained[..official], &id) || has(&trained[official..], &id) => {
                    self.problem("repeated ids", "test", id, "in the train part too")
                }
                Some(Ok(files)) => {
                    let labels = Labels::default();
                    self.manifest.samples.push(Sample {
                        id,
                        source: Source::Official,
                        part: Part::Test,
                        labels,
                        files,
                        shard: 0,
                    });
                }
            }
        }
        for (id, _) in
            found.into_iter().zip(ordered).filter(|(_, ordered)| !ordered).map(|(sample, _)| sample)
        {
            self.problem("images not in sample_submission.csv", "test", id, "left out");
        }
        Ok(())
    }

    /// Lists a folder in which so many samples are expected; 0 where nobody knows.
    fn list(&mut self, place: &'static str, folder: &Path, samples: usize) -> Result<Listing> {
        let mut listing =
            list(folder, &Progress::new(format!("list {place}"), "files", 4 * samples as u64))?;
        for (id, taken, left) in std::mem::take(&mut listing.doubled) {
            self.problem(
                "two files for a channel",
                place,
                id,
                format!("{taken} counts, {left} does not"),
            );
        }
        for name in std::mem::take(&mut listing.foreign) {
            self.problem(
                "files that are no channel of a sample",
                place,
                name,
                "expected <id>_<channel>.<png|jpg|tif>[.gz]",
            );
        }
        Ok(listing)
    }

    /// The problems by kind and place: how many, and a few ids.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for same in self.problems.chunk_by(|a, b| (a.kind, a.place) == (b.kind, b.place)) {
            let few = |p: &Problem| match p.detail.as_str() {
                "" => p.id.clone(),
                detail if same.len() <= 3 || p.kind == MISSING_CHANNELS => {
                    format!("{} ({detail})", p.id)
                }
                _ => p.id.clone(),
            };
            let ids: Vec<String> = same.iter().take(5).map(few).collect();
            let more = if same.len() > 5 { ", ..." } else { "" };
            lines.push(format!(
                "{} {} in {}: {}{more}",
                same.len(),
                same[0].kind,
                same[0].place,
                ids.join(", ")
            ));
        }
        lines
    }

    /// Writes every problem to `work/problems.csv` (`kind,place,id,detail`), also when there is
    /// none.
    pub fn write_problems(&self, work: &Path) -> Result<PathBuf> {
        let path = work.join(PROBLEMS);
        csv_file::write(&path, &["kind", "place", "id", "detail"], &self.problems)?;
        Ok(path)
    }
}

/// The ids of the problems that `plan` found in `place`; none where it wrote no list.
pub fn problem_ids(work: &Path, place: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Row {
        place: String,
        id: String,
    }
    let path = work.join(PROBLEMS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows = csv_file::read::<Row>(&path, "plan")?;
    Ok(rows.into_iter().filter(|r| r.place == place).map(|r| r.id).collect())
}
