//! Scans the data folders: finds the samples that are complete and labelled, and everything that is
//! not, in one pass.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Files, Manifest, Part, Sample, Source,
    listing::{Listing, list},
    problem::{Problem, ProblemKind as Kind, listed_id, summary},
    spelling::Spellings,
};
use crate::{
    base::{Error, Result, progress::Progress},
    config::Data,
    data::labels::{self, BadRow, Labels, RowFault, check_columns, read_ids, read_table},
};

/// What the folders hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The complete, labelled samples; their shard numbers are still 0.
    pub manifest: Manifest,
    /// Everything else, sorted by kind, place and id.
    pub problems: Vec<Problem>,
    /// Faults of whole folders, such as a missing test part.
    pub warnings: Vec<String>,
    /// The first fault with which nothing can go on.
    fatal: Option<Error>,
}

/// Reads the competition's and the external folder, whichever is set. What it finds can be listed
/// whether or not it can be used, which [`Scan::check`] tells.
///
/// # Errors
/// Usage where no folder is set, a folder or a table is missing.
pub fn scan(data: &Data) -> Result<Scan> {
    let mut scan = Scan::default();
    if data.kaggle.is_none() && data.external.is_none() {
        return Err(Error::usage(
            "no data: set data.kaggle (a folder with train/ and train.csv) or data.external (a \
                folder with images/ and a CSV), in the configuration or by --set \
                data.kaggle=FOLDER",
        ));
    }
    if let Some(folder) = &data.kaggle {
        let (images, table) = (folder.join("train"), folder.join("train.csv"));
        must_exist("data.kaggle", &[folder, &images, &table])?;
        let read = scan.labelled("train", Source::Official, &images, &table);
        scan.go_on("train", read)?;
    }
    if let Some(folder) = &data.external {
        let images = folder.join("images");
        must_exist("data.external", &[folder, &images])?;
        let read = external_table(folder)
            .and_then(|table| scan.labelled("external", Source::External, &images, &table));
        scan.go_on("external", read)?;
    }
    if let Some(folder) = &data.kaggle {
        let read = scan.test(folder);
        scan.go_on("test", read)?;
    }
    scan.problems.sort_unstable();
    scan.warn_of_labels();
    if scan.manifest.count(Part::Train) == 0 && scan.fatal.is_none() {
        let folder = data.kaggle.as_ref().or(data.external.as_ref()).expect("one of them is set");
        let alike = scan.problems.chunk_by(|a, b| (a.kind, a.place) == (b.kind, b.place));
        let found = alike.max_by_key(|same| same.len()).map_or(String::new(), |same| {
            format!("; found {}; problems.csv in paths.work lists all", summary(same).join(""))
        });
        let what = "the data set is empty: no labelled sample has all four channels";
        scan.fatal = Some(Error::data(folder, format!("{what}{found}")));
    }
    Ok(scan)
}

/// Every sample of a folder of images that belong to no data set, in order of id: as the test
/// part, without labels.
pub fn scan_images(folder: &Path) -> Result<Scan> {
    let mut scan = Scan::default();
    let Listing { samples, mut names, .. } = scan.list("images", folder, 0)?;
    for (id, endings) in samples {
        match names.complete(endings) {
            Ok(files) => scan.add(id, Source::External, Part::Test, Labels::default(), files),
            Err(missing) => scan.problem(Kind::MissingChannels, "images", id, missing),
        }
    }
    scan.problems.sort_unstable();
    Ok(scan)
}

/// Whether an id of a file would not survive the tables that list it.
fn is_unusual(id: &str) -> bool {
    id.chars().any(char::is_control) || id.trim() != id
}

/// Whether one of `samples`, which are in order of id, has this one.
fn has(samples: &[Sample], id: &str) -> bool {
    samples.binary_search_by(|s| s.id.as_str().cmp(id)).is_ok()
}

/// The `paths` that `key` names.
fn must_exist(key: &str, paths: &[&PathBuf]) -> Result<()> {
    match paths.iter().find(|path| !path.exists()) {
        None => Ok(()),
        Some(path) => Err(Error::usage(format!(
            "{key}: {} does not exist; set {key} to the folder that holds the data",
            path.display()
        ))),
    }
}

/// The one CSV of the external folder that has the columns Id and Target.
///
/// # Errors
/// Usage where there is none, or several; data where those that are there cannot be used.
pub fn external_table(folder: &Path) -> Result<PathBuf> {
    let (mut tables, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name.as_encoded_bytes().starts_with(b".")
            || !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
        {
            continue;
        }
        match check_columns(&path) {
            Ok(()) => tables.push(path),
            Err(e) => others.push((path, e)),
        }
    }
    tables.sort();
    others.sort_by(|a, b| a.0.cmp(&b.0));
    match (tables.as_slice(), others.into_iter().next()) {
        ([one], _) => Ok(one.clone()),
        ([], Some((_, fault))) => Err(fault),
        ([], None) => Err(Error::usage(format!(
            "data.external: {} has no CSV with the columns Id,Target beside images/",
            folder.display()
        ))),
        (many, _) => {
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
        kind: Kind,
        place: &'static str,
        id: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.problems.push(Problem { kind, place, id: id.into(), detail: detail.into() });
    }

    /// Adds a complete sample; its shard is not known yet.
    fn add(&mut self, id: String, source: Source, part: Part, labels: Labels, files: Files) {
        self.manifest.samples.push(Sample { id, source, part, labels, files, shard: 0 });
    }

    fn bad_row(&mut self, place: &'static str, table: &Path, row: &BadRow) {
        let detail = format!("{}, {row}", table.display());
        self.problem((&row.fault).into(), place, row.fault.id(), detail);
    }

    /// Reports an id with a control character, such as a newline, which would break the lines of
    /// logs and tables, or with a blank at an end, which tables lose.
    fn unusual(&mut self, place: &'static str, id: &str) {
        match id.contains(char::is_control) {
            true => {
                let detail = "rename its files; an id may have any characters but control \
                    characters";
                self.problem(Kind::ControlCharacter, place, listed_id(id), detail);
            }
            false => {
                let detail = "rename its files; an id may have blanks, but not as its first or \
                    last character";
                self.problem(Kind::OuterBlank, place, id, detail);
            }
        }
    }

    /// Keeps what is wrong with a table or folder, so that the rest is looked at, too.
    fn go_on(&mut self, place: &'static str, read: Result<()>) -> Result<()> {
        match read {
            Err(Error::Data { path, what }) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.problem(Kind::BrokenTable, place, name, what.clone());
                self.fatal.get_or_insert(Error::Data { path, what });
                Ok(())
            }
            other => other,
        }
    }

    /// Whether the samples can be used.
    ///
    /// # Errors
    /// Data where a table cannot be read, the sample submission has blank or repeated rows, or no
    /// sample is complete.
    pub fn check(&mut self) -> Result<()> {
        self.fatal.take().map_or(Ok(()), Err)
    }

    /// The train part or the external set: images with a table of labels.
    fn labelled(
        &mut self,
        place: &'static str,
        source: Source,
        folder: &Path,
        table: &Path,
    ) -> Result<()> {
        let (mut rows, bad_rows) = read_table(table)?;
        let mut unusable = HashSet::new();
        for row in bad_rows {
            if let RowFault::UnknownClass { id, .. } = &row.fault {
                unusable.insert(id.clone());
            }
            self.bad_row(place, table, &row);
        }
        let Listing { samples, mut names, .. } = self.list(place, folder, rows.len())?;
        // Both are in order of id, so that one pass over both finds the pairs.
        rows.sort_unstable();
        let mut rows = rows.into_iter().peekable();
        let official = self.manifest.samples.len();
        let (mut without_images, mut without_labels) = (Vec::new(), Vec::new());
        for (id, endings) in samples {
            while let Some((id, _)) = rows.next_if(|row| row.0 < id) {
                without_images.push(id);
            }
            let label = rows.next_if(|row| row.0 == id).map(|row| row.1);
            match (names.complete(endings), label) {
                _ if is_unusual(&id) => self.unusual(place, &id),
                (Err(missing), _) => self.problem(Kind::MissingChannels, place, id, missing),
                (Ok(_), _) if unusable.contains(&id) => {} // its row is reported already
                (Ok(_), None) => without_labels.push(id),
                (Ok(_), Some(l)) if l.is_empty() => {
                    self.problem(Kind::ImagesWithoutLabels, place, id, "its row has no class")
                }
                (Ok(_), Some(_)) if has(&self.manifest.samples[..official], &id) => {
                    self.problem(Kind::RepeatedId, place, id, "the official sample counts")
                }
                (Ok(files), Some(labels)) => self.add(id, source, Part::Train, labels, files),
            }
        }
        without_images.extend(rows.map(|row| row.0));
        self.without_images(Kind::LabelsWithoutImages, place, without_images, &without_labels);
        for id in without_labels {
            self.problem(Kind::ImagesWithoutLabels, place, id, "");
        }
        Ok(())
    }

    /// Reports `ids` of a table as `kind`; where one differs from an id in `images`, which no row
    /// names, only in how it is written, that is said.
    fn without_images(
        &mut self,
        kind: Kind,
        place: &'static str,
        ids: Vec<String>,
        images: &[String],
    ) {
        let spellings = Spellings::of(images);
        for id in ids {
            let detail = spellings.other(&id).map_or(String::new(), |other| {
                format!("the images are called `{other}`; expected this id in the table")
            });
            self.problem(kind, place, id, detail);
        }
    }

    /// Warns where nothing can be learnt of a class, or of all.
    fn warn_of_labels(&mut self) {
        let train = self.manifest.samples.iter().filter(|s| s.part == Part::Train);
        let sets: Vec<Labels> = train.map(|s| s.labels).collect();
        if sets.is_empty() {
            return; // which is said as such
        }
        if let Some(absent) = labels::absent(sets.iter().copied(), "the training part") {
            self.warnings.push(format!(
                "{absent}; macro_f1 counts them as 0, macro_f1_present leaves them out"
            ));
        }
        if sets.len() > 1 && sets.iter().all(|set| *set == sets[0]) {
            self.warnings.push(format!(
                "all {} training samples have the same classes ({}): there is nothing to tell \
                    apart; look at the column Target",
                sets.len(),
                sets[0].names()
            ));
        }
    }

    /// The ids of the sample submission in their order; `None` where there is none.
    fn test_ids(&mut self, submission: &Path) -> Result<Option<Vec<String>>> {
        if !submission.exists() && !submission.is_symlink() {
            self.warnings.push(format!(
                "{} is missing; the test part is taken in the order of its ids",
                submission.display()
            ));
            return Ok(None);
        }
        let (ids, bad_rows) = read_ids(submission)?;
        bad_rows.iter().for_each(|row| self.bad_row("test", submission, row));
        // `submit` writes one row for each of them, in this order, and accepts nothing else.
        if let [first, rest @ ..] = bad_rows.as_slice() {
            let more = match rest.len() {
                0 => String::new(),
                n => format!(" (and {n} more bad rows, listed in problems.csv in paths.work)"),
            };
            let what = format!("{first}{more}; correct the table, then run the job again");
            self.fatal.get_or_insert(Error::data(submission, what));
        }
        Ok(Some(ids))
    }

    /// The test part, in the order of the sample submission where there is one.
    fn test(&mut self, folder: &Path) -> Result<()> {
        let images = folder.join("test");
        let submission = folder.join("sample_submission.csv");
        let order = self.test_ids(&submission)?;
        if !images.exists() {
            self.warnings
                .push(format!("{} is missing; there will be nothing to predict", images.display()));
            return Ok(());
        }
        let Listing { samples: found, mut names, .. } =
            self.list("test", &images, order.as_ref().map_or(0, Vec::len))?;
        if order.as_ref().is_some_and(Vec::is_empty) && !found.is_empty() {
            let what = "no row below the header; list the ids to predict, or remove the file";
            self.fatal.get_or_insert(Error::data(&submission, what));
        }
        let order = order.unwrap_or_else(|| found.iter().map(|sample| sample.0.clone()).collect());
        let mut ordered = vec![false; found.len()];
        let trained = self.manifest.samples.len();
        let official = self.manifest.samples.partition_point(|s| s.source == Source::Official);
        let (ids, mut without_images) = (order.len(), Vec::new());
        for id in order {
            let at = found.binary_search_by(|sample| sample.0.cmp(&id)).ok();
            let files = at.map(|at| {
                ordered[at] = true;
                names.complete(found[at].1)
            });
            let trained = &self.manifest.samples[..trained];
            match files {
                _ if is_unusual(&id) => self.unusual("test", &id),
                None => without_images.push(id),
                Some(Err(missing)) => self.problem(Kind::MissingChannels, "test", id, missing),
                Some(Ok(_)) if has(&trained[..official], &id) || has(&trained[official..], &id) => {
                    self.problem(Kind::RepeatedId, "test", id, "in the train part too")
                }
                Some(Ok(files)) => {
                    self.add(id, Source::Official, Part::Test, Labels::default(), files);
                }
            }
        }
        let left_out = found.into_iter().zip(ordered).filter(|(_, ordered)| !ordered);
        let left_out: Vec<String> = left_out.map(|(sample, _)| sample.0).collect();
        if ids > 0 && without_images.len() == ids && !left_out.is_empty() {
            let what = format!(
                "none of its {ids} ids has images in test/: it says {}, where the images say {}; \
                    expected the same ids",
                without_images[0], left_out[0]
            );
            self.fatal.get_or_insert(Error::data(&submission, what));
        }
        self.without_images(Kind::IdWithoutImages, "test", without_images, &left_out);
        for id in left_out {
            match is_unusual(&id) {
                true => self.unusual("test", &id),
                false => self.problem(Kind::NotInSubmission, "test", id, "left out"),
            }
        }
        Ok(())
    }

    /// Lists a folder in which `samples` samples are expected; 0 where the number is not known.
    fn list(&mut self, place: &'static str, folder: &Path, samples: usize) -> Result<Listing> {
        let mut listing =
            list(folder, &Progress::new(format!("list {place}"), "files", 4 * samples as u64))?;
        for (id, used, unused) in std::mem::take(&mut listing.doubled) {
            self.problem(Kind::TwoFiles, place, id, format!("{used} counts, {unused} does not"));
        }
        for (kind, name, detail) in std::mem::take(&mut listing.rejected) {
            self.problem(kind, place, name, detail);
        }
        if let (number @ 1.., first) = &listing.passed_over {
            log::info!("{place}: {number} hidden and system files passed over, such as {first}");
        }
        Ok(listing)
    }
}
