//! The external images of the Human Protein Atlas, and the table that names them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    FetchJob, FetchSummary, FileKind, Item, address::images, download::download,
    fetched::FailedFile, ledger::Ledger, summary::SourceCount, xml::read_atlas,
};
use crate::{
    base::{Error, Result, csv_file, progress::Progress},
    data::{labels::read_ids, manifest::external_table},
};

/// The table of ids in the data folder.
///
/// # Errors
/// Usage, if the folder does not exist or does not have exactly one table.
pub fn id_table(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        return external_table(folder);
    }
    Err(Error::usage(format!(
        "data.external: {} does not exist; make it and put the CSV (Id,Target) there, or let --xml \
         make one",
        folder.display()
    )))
}

/// Fetches the four images of each of the task's ids of `table`, to
/// `images/<id>_<channel>.jpg` in the data folder.
///
/// # Errors
/// Data, if no id of the table is an image of the Atlas. Files that could not be fetched are part
/// of the summary.
pub fn fetch_images(job: &FetchJob, table: &Path) -> Result<FetchSummary> {
    let (ids, faults) = read_ids(table)?;
    for fault in faults.iter().take(10) {
        log::warn!("{}: {fault}", table.display());
    }
    let (possible, refused) = images(&ids, &job.config.images_url);
    if let (true, Some((id, reason))) = (possible.is_empty(), refused.first()) {
        return Err(Error::data(
            table,
            format!("none of the {} ids is an image of the Atlas ({id}: {reason})", ids.len()),
        ));
    }
    let (items, refused) = images(&job.share.select(ids), &job.config.images_url);
    let ledger = Ledger::open(job.folder, job.share.task)?;
    let mut done = download(job, &ledger, &items, None, "fetch external");
    done.foreign.extend(refused.iter().map(|(id, reason)| FailedFile {
        file: id.clone(),
        url: String::new(),
        reason: format!("{reason}; not requested"),
        attempts: 0,
        missing: true,
    }));
    let allowed = (job.config.max_missing_fraction * items.len() as f64).floor() as usize;
    let refused = SourceCount::Refused(refused.len());
    FetchSummary::new(job.share, &ledger, items.len(), done, allowed, refused)
}

/// The table that [`make_table`] wrote; serialised, the job's JSON.
#[derive(Debug, Serialize)]
pub struct TableSummary {
    /// Images with a location of the 28 classes: the rows of the table.
    pub images: usize,
    /// Images without such a location.
    pub unlabelled: usize,
    /// Addresses that are not images of the Atlas.
    pub foreign: usize,
    /// Locations that are not one of the 28 classes, and how many images name them.
    pub unknown: BTreeMap<String, usize>,
    pub table: PathBuf,
}

/// Writes `proteinatlas.csv` (`Id,Target`) to the data folder, from the Atlas's XML: a file, or an
/// address, from which it is fetched first.
///
/// # Errors
/// Usage, if there is another table; Data, if the XML is broken.
pub fn make_table(job: &FetchJob, xml: &str) -> Result<TableSummary> {
    let folder = job.folder;
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let table = folder.join("proteinatlas.csv");
    // `plan` accepts one table only.
    if let Ok(other) = external_table(folder)
        && other != table
    {
        return Err(Error::usage(format!(
            "--xml would write {}, but {} is there already; move it away, or fetch by it without \
             --xml",
            table.display(),
            other.display()
        )));
    }
    let source = if xml.contains("://") { fetch_xml(job, xml)? } else { xml.into() };
    let length = fs::metadata(&source).map_err(Error::io("look at", &source))?.len();
    let progress = Progress::new("read XML", "bytes", length);
    let atlas = read_atlas(&source, &progress, job.stop)?;
    drop(progress);
    for (location, images) in &atlas.unknown {
        log::warn!("`{location}` is not one of the 28 classes; {images} images name it");
    }
    let rows = atlas.rows.iter().map(|(id, labels)| (id, labels.to_string()));
    csv_file::write(&table, &["Id", "Target"], rows)?;
    external_table(folder)?; // an error if there were several already
    let (images, unlabelled, foreign) = (atlas.rows.len(), atlas.unlabelled, atlas.foreign);
    Ok(TableSummary { images, unlabelled, foreign, unknown: atlas.unknown, table })
}

/// Fetches the XML to the data folder, and keeps it, since the download takes long.
fn fetch_xml(job: &FetchJob, url: &str) -> Result<PathBuf> {
    let file = if url.ends_with(".gz") { "proteinatlas.xml.gz" } else { "proteinatlas.xml" };
    let item = Item { file: file.into(), url: url.into(), kind: FileKind::Xml };
    let ledger = Ledger::open(job.folder, 0)?;
    let path = job.folder.join(file);
    if path.exists() && ledger.row(file).is_some_and(|row| row.url != url) {
        log::info!("{} came from another address; it is fetched again", path.display());
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let done = download(job, &ledger, &[item], None, "fetch XML");
    match (done.ended, done.failed.first()) {
        (Some(e), _) => Err(e),
        (None, Some(failed)) => Err(Error::failed(format!("{url}: {}", failed.reason))),
        (None, None) => Ok(path),
    }
}
