//! Unpacks Kaggle's zips without trusting them: an entry must be a plain file with a plain name and
//! have the size that it declares.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};
use zip::{ZipArchive, read::ZipFile, result::ZipError};

use super::{
    check::hex,
    ledger::{Ledger, LedgerRow},
    with_suffix,
};
use crate::base::{Error, Result, atomic_file, progress::Progress, stop_request::Stop, zip_file};

/// Largest entry in bytes; no image or table of the competition is nearly as large.
const MAX_ENTRY: u64 = 256 << 20;

/// How many times larger than the zip its content may be. PNGs and TIFFs hardly shrink, tables
/// about tenfold.
const MAX_RATIO: u64 = 200;

/// Where a zip is unpacked, within the ledger's folder.
#[derive(Clone, Copy, Debug)]
pub enum UnpackTarget<'a> {
    /// All its files, into this folder.
    Folder(&'a str),
    /// The only file in it.
    File(&'a str),
}

/// Unpacks the files of `zip`, which came from `url`, that the ledger does not hold yet. Each is
/// written under a temporary name, checked by its CRC, renamed and added to the ledger. With
/// `verify`, files that are there are hashed again. Returns the number of files unpacked now.
///
/// # Errors
/// Data, if the zip is broken or contains anything but plain files; in the second case nothing is
/// unpacked.
pub fn unpack(
    ledger: &Ledger,
    zip: &Path,
    target: UnpackTarget,
    url: &str,
    verify: bool,
    stop: &Stop,
) -> Result<usize> {
    let file = File::open(zip).map_err(Error::io("open", zip))?;
    let packed = file.metadata().map_err(Error::io("look at", zip))?.len();
    let mut archive = zip_file::open(file).map_err(|e| broken(zip, e))?;
    let entries = plain_entries(&mut archive, zip, target, packed)?;
    let (folder, prefix) = match target {
        UnpackTarget::Folder(into) => (ledger.folder().join(into), format!("{into}/")),
        UnpackTarget::File(_) => (ledger.folder().to_path_buf(), String::new()),
    };
    fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
    let progress =
        Progress::new(format!("unpack {}", zip.display()), "files", entries.len() as u64);
    let mut unpacked = 0;
    for (i, name) in entries {
        if stop.asked() {
            return Err(Error::Stopped(format!(
                "stopped while unpacking {}; run it again to go on",
                zip.display()
            )));
        }
        let file = format!("{prefix}{name}");
        if !ledger.holds(&file, verify)? {
            let mut entry = archive.by_index(i).map_err(|e| broken(zip, e))?;
            let (bytes, sha256) = extract(&mut entry, &folder.join(&name), zip)?;
            let url = url.into();
            ledger.add(LedgerRow { file, bytes, sha256, url, ..LedgerRow::default() })?;
            progress.add_bytes(bytes);
            unpacked += 1;
        }
        progress.add(1);
    }
    // Once for all files; one by one it would take hours on a parallel file system.
    atomic_file::sync_all_of(&folder)?;
    Ok(unpacked)
}

fn broken(zip: &Path, e: ZipError) -> Error {
    match e {
        // The zip may be intact.
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            Error::failed(format!("{}: {e}; unpack it by another program", zip.display()))
        }
        e => Error::data(zip, format!("a broken zip: {e}")),
    }
}

/// Indices and file names of the entries of a zip of `packed` bytes.
///
/// # Errors
/// Data, if one is not a plain file, or they are too large.
fn plain_entries(
    archive: &mut ZipArchive<File>,
    zip: &Path,
    target: UnpackTarget,
    packed: u64,
) -> Result<Vec<(usize, String)>> {
    let (mut entries, mut total) = (Vec::new(), 0u64);
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(|e| broken(zip, e))?;
        if let Some(name) = plain_name(&entry, target).map_err(|what| Error::data(zip, what))? {
            total = total.saturating_add(entry.size());
            entries.push((i, name));
        }
    }
    if total > packed.saturating_mul(MAX_RATIO) {
        let what = format!(
            "claims to hold {total} bytes in {packed}, more than any zip of images; nothing was \
             unpacked"
        );
        return Err(Error::data(zip, what));
    }
    Ok(entries)
}

/// The file name of an entry; none for the folder itself. The error states why the zip is refused.
fn plain_name<R: Read>(entry: &ZipFile<R>, target: UnpackTarget) -> Result<Option<String>, String> {
    let shown = String::from_utf8_lossy(entry.name_raw()).escape_debug().to_string();
    let refused = |why: &str| Err(format!("the entry `{shown}` {why}; nothing was unpacked"));
    let Ok(name) = std::str::from_utf8(entry.name_raw()) else {
        return refused("has a name that is not UTF-8");
    };
    let name = match target {
        UnpackTarget::Folder(into) => {
            name.strip_prefix(into).and_then(|n| n.strip_prefix('/')).unwrap_or(name)
        }
        UnpackTarget::File(only) if name == only => name,
        UnpackTarget::File(only) => return refused(&format!("is not {only}")),
    };
    if entry.is_symlink()
        || entry.unix_mode().is_some_and(|m| ![0, 0o100_000, 0o040_000].contains(&(m & 0o170_000)))
    {
        return refused("is a link or a device");
    }
    if entry.encrypted() {
        return refused("is encrypted");
    }
    if name.is_empty() && entry.is_dir() {
        return Ok(None);
    }
    if name.is_empty()
        || name.starts_with('.')
        || name.contains(['/', '\\'])
        || name.contains(char::is_control)
    {
        return refused("is no plain file name");
    }
    if entry.size() > MAX_ENTRY {
        return refused(&format!(
            "claims {} bytes, more than any file of the competition",
            entry.size()
        ));
    }
    Ok(Some(name.into()))
}

/// Writes an entry to `path`. Returns its size in bytes and its SHA-256.
fn extract<R: Read>(entry: &mut ZipFile<R>, path: &Path, zip: &Path) -> Result<(u64, String)> {
    let name = path.file_name().unwrap_or_default().display();
    let wrong = |what: String| Error::data(zip, format!("the entry {name}: {what}"));
    let part = with_suffix(path, ".part");
    let result = (|| {
        // Never write through a link of that name.
        let _ = fs::remove_file(&part);
        let mut file = File::create_new(&part).map_err(Error::io("create", &part))?;
        let (mut hash, mut bytes, declared) = (Sha256::new(), 0, entry.size());
        let mut buffer = vec![0; 1 << 16];
        loop {
            // The reader fails if there is more than declared and, at the end, if the CRC differs.
            let n = entry.read(&mut buffer).map_err(|e| wrong(e.to_string()))?;
            if n == 0 {
                break;
            }
            bytes += n as u64;
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).map_err(Error::io("write", &part))?;
        }
        if bytes != declared {
            return Err(wrong(format!("holds {bytes} of the {declared} bytes that it declares")));
        }
        fs::rename(&part, path).map_err(Error::io("rename into place", path))?;
        Ok((bytes, hex(&hash.finalize())))
    })();
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result
}
