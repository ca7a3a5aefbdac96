//! The competition's files by Kaggle's REST API.

mod credentials;

use std::{fs, path::Path};

use self::credentials::credentials;
use super::{
    FetchJob, FetchSummary, FileKind, Item,
    check::is_zip,
    download::download,
    ledger::{Ledger, LedgerRow},
    summary::SourceCount,
    unpack::{UnpackTarget, unpack},
    with_suffix,
};
use crate::{
    base::{Error, Result, progress::Progress},
    config,
};

/// Fetches the task's files of the competition into the data folder and unpacks the zips, each into
/// a folder of its name. A zip is removed once all of it is unpacked.
///
/// # Errors
/// Usage, if there are no credentials but something to fetch; Data, if a zip is broken. Files that
/// could not be fetched are part of the summary.
pub fn fetch(job: &FetchJob) -> Result<FetchSummary> {
    let ledger = Ledger::open(job.folder, job.share.task)?;
    let all = job.share.select(files(job.config));
    let mut items = Vec::new();
    for item in &all {
        if !is_unpacked(&ledger, item, job.verify)? {
            items.push(item.clone());
        }
    }
    // Credentials are only needed where something has to be fetched.
    let complete = items.iter().all(|i| ledger.holds(&i.file, false).is_ok_and(|held| held));
    let credentials = if complete && !job.verify { None } else { Some(credentials(job.config)?) };
    let mut done = download(job, &ledger, &items, credentials, "fetch kaggle");
    done.present += all.len() - items.len();
    let mut unpacked = 0;
    if done.ended.is_none() {
        for item in items.iter().filter(|i| !done.failed.iter().any(|f| f.file == i.file)) {
            unpacked += unpack_item(job, &ledger, item)?;
        }
    }
    FetchSummary::new(job.share, &ledger, all.len(), done, 0, SourceCount::Unpacked(unpacked))
}

/// The competition's files in the order in which tasks take them.
fn files(config: &config::Fetch) -> Vec<Item> {
    let api = config.kaggle_url.trim_end_matches('/');
    let base = format!("{api}/competitions/data/download/{}", config.competition);
    [
        ("train.zip", FileKind::Archive),
        ("test.zip", FileKind::Archive),
        ("train.csv", FileKind::Table),
        ("sample_submission.csv", FileKind::Table),
    ]
    .map(|(file, kind)| Item { file: file.into(), url: format!("{base}/{file}"), kind })
    .into()
}

/// The folder of an archive, within the data folder.
fn stem(item: &Item) -> &str {
    item.file.trim_end_matches(".zip")
}

/// Whether all of an archive is unpacked. Its folder has a row in the ledger once it is complete.
fn is_unpacked(ledger: &Ledger, item: &Item, verify: bool) -> Result<bool> {
    let folder = format!("{}/", stem(item));
    if item.kind != FileKind::Archive
        || ledger.row(&folder).is_none()
        || ledger.folder().join(&item.file).exists()
    {
        return Ok(false);
    }
    let files = ledger.files(&folder);
    let progress = Progress::new(format!("check {folder}"), "files", files.len() as u64);
    for file in files {
        progress.add(1);
        if file != folder && !ledger.holds(&file, verify)? {
            log::warn!(
                "{}: {file} is missing or has changed; {} is fetched again",
                ledger.folder().display(),
                item.file
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Unpacks a zip that was fetched, and removes it. Returns the number of files. Kaggle packs some
/// tables for the transfer; others are plain files.
fn unpack_item(job: &FetchJob, ledger: &Ledger, item: &Item) -> Result<usize> {
    let is_archive = item.kind == FileKind::Archive;
    let path = ledger.folder().join(&item.file);
    let (zip, target) = if is_archive {
        (path, UnpackTarget::Folder(stem(item)))
    } else if is_zip(&path)? {
        let zip = with_suffix(&path, ".zip");
        fs::rename(&path, &zip).map_err(Error::io("rename", &path))?;
        (zip, UnpackTarget::File(&item.file))
    } else {
        return Ok(0);
    };
    let unpacked = unpack(ledger, &zip, target, &item.url, job.verify, job.stop)
        .map_err(|e| remove_broken(ledger, &item.file, &zip, e))?;
    if is_archive {
        let (file, url) = (format!("{}/", stem(item)), item.url.clone());
        ledger.add(LedgerRow { file, url, ..LedgerRow::default() })?;
    }
    fs::remove_file(&zip).map_err(Error::io("remove", &zip))?;
    Ok(unpacked)
}

/// Removes a broken zip that this program has fetched (the ledger then has the server's validator):
/// it would stop every later run. A file of the user's stays.
fn remove_broken(ledger: &Ledger, file: &str, path: &Path, e: Error) -> Error {
    let Error::Data { what, .. } = e else { return e };
    let ours = ledger.row(file).is_some_and(|row| !row.validator.is_empty());
    let advice = match ours && fs::remove_file(path).is_ok() {
        true => "it was removed, run again to fetch it again",
        false => "remove it and run again",
    };
    Error::data(path, format!("{what}; {advice}"))
}
