//! Image files of a folder, grouped by id. One pass over the names, the files themselves are not
//! touched: a parallel file system lists 124,000 names in a second, but needs minutes for as many
//! calls of stat. Of a name only what differs from the others is kept.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    CHANNELS,
    files::{Files, ID},
};
use crate::base::{Error, Result, progress::Progress};

const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "tif", "tiff"];

/// By channel, what the name of its file ends in: a position in [`Names::endings`], from 1. 0: no
/// file.
pub(super) type Endings = [u16; 4];

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Listing {
    /// In order of id.
    pub samples: Vec<(String, Endings)>,
    pub names: Names,
    /// Names that are no `<id>_<channel>.<png|jpg|tif>[.gz]`, in order.
    pub foreign: Vec<String>,
    /// A second file for a channel: id, name of the file that is used, name of the other one.
    pub doubled: Vec<(String, String, String)>,
}

/// How the files of a folder are called.
#[derive(Debug)]
pub(super) struct Names {
    folder: PathBuf,
    endings: Vec<String>,
    files: HashMap<Endings, Files>,
}

/// Lists `folder`; the result does not depend on the order in which the file system gives the
/// names. `progress` counts them.
pub(super) fn list(folder: &Path, progress: &Progress) -> Result<Listing> {
    let mut samples: HashMap<String, Endings> = HashMap::new();
    let mut names = Names { folder: folder.into(), endings: Vec::new(), files: HashMap::new() };
    let (mut foreign, mut doubled) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        let name = name.to_string_lossy();
        progress.add(1);
        let Some((id, channel, ending)) = parse(&name) else {
            foreign.push(name.into_owned());
            continue;
        };
        let ending = names.number(ending);
        let Some(endings) = samples.get_mut(id) else {
            let mut endings = [0; 4];
            endings[channel] = ending;
            samples.insert(id.into(), endings);
            continue;
        };
        let slot = &mut endings[channel];
        if *slot == 0 {
            *slot = ending;
        } else {
            // Of two files the first by name counts, whatever the order of the listing.
            let (mut used, mut unused) = (*slot, ending);
            if names.ending(unused) < names.ending(used) {
                std::mem::swap(&mut used, &mut unused);
            }
            *slot = used;
            let name = |ending| format!("{id}_{}.{}", CHANNELS[channel], names.ending(ending));
            doubled.push((id.to_string(), name(used), name(unused)));
        }
    }
    let mut samples: Vec<_> = samples.into_iter().collect();
    samples.sort_unstable();
    foreign.sort_unstable();
    doubled.sort_unstable();
    Ok(Listing { samples, names, foreign, doubled })
}

impl Names {
    fn number(&mut self, ending: &str) -> u16 {
        let known = self.endings.iter().position(|e| e == ending);
        let at = known.unwrap_or_else(|| {
            self.endings.push(ending.into());
            self.endings.len() - 1
        });
        at as u16 + 1 // there are a few hundred ways to write them
    }

    fn ending(&self, number: u16) -> &str {
        &self.endings[usize::from(number) - 1]
    }

    /// The files where all four are there, else the names of the missing channels.
    pub fn complete(&mut self, endings: Endings) -> Result<Files, String> {
        let missing: Vec<&str> =
            CHANNELS.iter().zip(endings).filter(|(_, e)| *e == 0).map(|(c, _)| *c).collect();
        if !missing.is_empty() {
            return Err(missing.join(", "));
        }
        if let Some(files) = self.files.get(&endings) {
            return Ok(files.clone());
        }
        let path = |c: usize| {
            self.folder
                .join(format!("{ID}_{}.{}", CHANNELS[c], self.ending(endings[c])))
                .to_string_lossy()
                .into_owned()
        };
        let files = Files(Arc::new(std::array::from_fn(path)));
        Ok(self.files.entry(endings).or_insert(files).clone())
    }
}

/// Id, channel and ending of `<id>_<channel>.<extension>[.gz]`.
fn parse(name: &str) -> Option<(&str, usize, &str)> {
    let (id, rest) = name.rsplit_once('_')?;
    let (channel, ending) = rest.split_once('.')?;
    let channel = CHANNELS.iter().position(|&c| c == channel)?;
    let extension = match ending.split_at_checked(ending.len().wrapping_sub(3)) {
        Some((extension, gz)) if gz.eq_ignore_ascii_case(".gz") => extension,
        _ => ending,
    };
    let known = EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(extension));
    (!id.is_empty() && known).then_some((id, channel, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_image_files() {
        assert_eq!(parse("10580_1610_C1_1_blue.jpg"), Some(("10580_1610_C1_1", 2, "jpg")));
        assert_eq!(parse("030822be-bb9b_red.png"), Some(("030822be-bb9b", 0, "png")));
        assert_eq!(parse("a_yellow.TIF.gz"), Some(("a", 3, "TIF.gz")));
        assert_eq!(parse("a_green.tiff"), Some(("a", 1, "tiff")));
        for foreign in [
            ".DS_Store",
            "_red.png",
            "a_pink.png",
            "a_red",
            "a_red.",
            "a_red.gz",
            "a_red.é",
            "a_red.txt",
            "a_red.png.part",
            "a.red.png",
        ] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn of_two_files_of_a_channel_the_first_by_name_is_used() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a_red.tif.gz",
            "a_red.png",
            "a_red.jpg",
            "a_blue.png",
            "notes.txt",
            "b_red.png",
            "b_green.png",
            "b_blue.TIF",
            "b_yellow.png",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let mut listing = list(dir.path(), &Progress::new("list", "files", 9)).unwrap();
        // Which of the two is met first depends on the file system.
        assert_eq!(listing.doubled.iter().map(|d| d.0.as_str()).collect::<Vec<_>>(), ["a", "a"]);
        assert_eq!(listing.foreign, ["notes.txt"]);
        let [(a, endings), (b, complete)] = listing.samples.try_into().unwrap();
        assert_eq!((a.as_str(), listing.names.ending(endings[0])), ("a", "jpg"));
        assert_eq!(listing.names.complete(endings).unwrap_err(), "green, yellow");
        let files = listing.names.complete(complete).unwrap();
        assert_eq!(files.path(&b, 2), dir.path().join("b_blue.TIF").to_string_lossy());
    }
}
