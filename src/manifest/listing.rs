//! Pictures of a folder, grouped by id. One pass over the names, no look at the files: a parallel file system answers a
//! listing of 124,000 files in a second, but that many stats in minutes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::CHANNELS;
use crate::error::{Error, Result};

const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "tif", "tiff"];

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By id, the name of the file of each channel; in order of id.
    pub samples: BTreeMap<String, [Option<String>; 4]>,
    /// Names that are no `<id>_<channel>.<png|jpg|tif>[.gz]`, in order.
    pub foreign: Vec<String>,
    /// A second file for a channel: (id, name taken, name left).
    pub doubled: Vec<(String, String, String)>,
}

/// Lists `folder`; the result does not depend on the order in which the file system gives the names.
pub(super) fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let Some((id, channel)) = parse(&name) else {
            listing.foreign.push(name);
            continue;
        };
        let id = id.to_string();
        let slot = &mut listing.samples.entry(id.clone()).or_default()[channel];
        match slot {
            None => *slot = Some(name),
            Some(taken) => {
                // Of two files the first by name counts, whatever the order of the listing.
                let mut left = name;
                if left < *taken {
                    std::mem::swap(taken, &mut left);
                }
                listing.doubled.push((id, taken.clone(), left));
            }
        }
    }
    listing.foreign.sort_unstable();
    listing.doubled.sort_unstable();
    Ok(listing)
}

/// Id and channel of `<id>_<channel>.<extension>[.gz]`.
fn parse(name: &str) -> Option<(&str, usize)> {
    let (id, rest) = name.rsplit_once('_')?;
    let (channel, extension) = rest.split_once('.')?;
    let channel = CHANNELS.iter().position(|&c| c == channel)?;
    let extension = extension.to_ascii_lowercase();
    let extension = extension.strip_suffix(".gz").unwrap_or(&extension);
    (!id.is_empty() && EXTENSIONS.contains(&extension)).then_some((id, channel))
}

/// Full paths where all four are there, else the names of the missing channels.
pub(super) fn complete(folder: &Path, files: [Option<String>; 4]) -> Result<[PathBuf; 4], String> {
    let missing: Vec<&str> = CHANNELS.iter().zip(&files).filter(|(_, f)| f.is_none()).map(|(c, _)| *c).collect();
    if missing.is_empty() { Ok(files.map(|f| folder.join(f.unwrap_or_default()))) } else { Err(missing.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pictures() {
        assert_eq!(parse("10580_1610_C1_1_blue.jpg"), Some(("10580_1610_C1_1", 2)));
        assert_eq!(parse("030822be-bb9b_red.png"), Some(("030822be-bb9b", 0)));
        assert_eq!(parse("a_yellow.TIF.gz"), Some(("a", 3)));
        assert_eq!(parse("a_green.tiff"), Some(("a", 1)));
        for foreign in [".DS_Store", "_red.png", "a_pink.png", "a_red", "a_red.txt", "a_red.png.part", "a.red.png"] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_doubled_channel_is_settled_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a_red.tif.gz", "a_red.png", "a_blue.png", "notes.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let mut listing = list(dir.path()).unwrap();
        assert_eq!(listing.doubled, [("a".into(), "a_red.png".into(), "a_red.tif.gz".into())]);
        assert_eq!(listing.foreign, ["notes.txt"]);
        let files = listing.samples.remove("a").unwrap();
        assert_eq!(files[0].as_deref(), Some("a_red.png"));
        assert_eq!(complete(dir.path(), files).unwrap_err(), "green, yellow");
    }
}
