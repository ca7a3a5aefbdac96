//! Image files of a folder, grouped by id. One pass over the names, the files themselves are not
//! touched: a parallel file system lists 124,000 names in a second, but needs minutes for as many
//! calls of stat. Only links are followed, to find those that lead nowhere. Of a name only what
//! differs from the others is kept.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, FileType},
    path::{Path, PathBuf},
    sync::Arc,
};

use rayon::prelude::*;

use super::{
    CHANNELS,
    files::{Files, ID},
    problem::ProblemKind as Kind,
};
use crate::base::{Error, Result, progress::Progress};

const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "tif", "tiff"];

const EXPECTED: &str = "expected <id>_<red|green|blue|yellow>.<png|jpg|tif>[.gz]";

/// What systems leave in folders, in any case; besides, hidden names that are no image's.
const LEFT_BY_SYSTEMS: [&str; 5] =
    ["Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "__MACOSX"];

/// By channel, what the name of its file ends in: a position in [`Names::endings`], from 1. 0: no
/// file.
pub(super) type Endings = [u16; 4];

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Listing {
    /// In order of id.
    pub samples: Vec<(String, Endings)>,
    pub names: Names,
    /// What is no image of a sample: why, its name, and what was expected; in order.
    pub rejected: Vec<(Kind, String, String)>,
    /// A second file for a channel: id, name of the file that is used, name of the other one.
    pub doubled: Vec<(String, String, String)>,
    /// What systems left in the folder and nobody misses: how many, and the first by name.
    pub passed_over: (usize, String),
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
///
/// # Errors
/// Data where the path of the folder is not UTF-8, as the manifest is.
pub(super) fn list(folder: &Path, progress: &Progress) -> Result<Listing> {
    if folder.to_str().is_none() {
        let what = "the path is not UTF-8; rename the folder, or name a link to it";
        return Err(Error::data(folder, what));
    }
    let (mut found, mut links) = (Found::new(folder), Vec::new());
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        progress.add(1);
        let name = entry.file_name();
        if is_left_by_system(&name) {
            found.pass_over(&name.to_string_lossy());
            continue;
        }
        let Some(name) = name.to_str() else {
            let bytes = name.as_encoded_bytes().escape_ascii().to_string();
            found.reject(Kind::NotUtf8, &bytes, "rename it");
            continue;
        };
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => links.push(name.to_string()),
            kind => found.take(name, kind.ok()),
        }
    }
    let kinds: Vec<_> = links
        .par_iter()
        .map(|name| fs::metadata(folder.join(name)).map(|target| target.file_type()))
        .collect();
    for (name, kind) in links.iter().zip(kinds) {
        match kind {
            Ok(kind) => found.take(name, Some(kind)),
            Err(e) => found.reject(Kind::BrokenLink, name, format!("cannot follow it: {e}")),
        }
    }
    Ok(found.in_order())
}

fn is_left_by_system(name: &OsStr) -> bool {
    let is_image = || name.to_str().is_some_and(|name| parse(name).is_some());
    match name.as_encoded_bytes() {
        [b'.', b'_', ..] => true, // macOS keeps its attributes of a file beside it
        [b'.', ..] => !is_image(),
        name => LEFT_BY_SYSTEMS.iter().any(|left| left.as_bytes().eq_ignore_ascii_case(name)),
    }
}

/// What is listed so far.
struct Found {
    samples: HashMap<String, Endings>,
    names: Names,
    rejected: Vec<(Kind, String, String)>,
    doubled: Vec<(String, String, String)>,
    passed_over: (usize, String),
}

impl Found {
    fn new(folder: &Path) -> Self {
        Self {
            samples: HashMap::new(),
            names: Names { folder: folder.into(), endings: Vec::new(), files: HashMap::new() },
            rejected: Vec::new(),
            doubled: Vec::new(),
            passed_over: (0, String::new()),
        }
    }

    fn pass_over(&mut self, name: &str) {
        let (number, first) = &mut self.passed_over;
        if *number == 0 || name < first.as_str() {
            *first = name.into();
        }
        *number += 1;
    }

    fn reject(&mut self, kind: Kind, name: &str, detail: impl Into<String>) {
        self.rejected.push((kind, name.into(), detail.into()));
    }

    /// Puts a name where it belongs; `kind` is that of the file, or of the link's target.
    fn take(&mut self, name: &str, kind: Option<FileType>) {
        if kind.is_some_and(|kind| kind.is_dir()) {
            let detail = "what is in it is not read; move its images up";
            return self.reject(Kind::SubFolder, name, detail);
        }
        let Some((id, channel, ending)) = parse(name) else {
            return self.reject(Kind::ForeignFile, name, EXPECTED);
        };
        if name.starts_with('.') {
            return self.reject(Kind::ForeignFile, name, "hidden; rename it if it is an image");
        }
        if kind.is_some_and(|kind| !kind.is_file()) {
            return self.reject(Kind::ForeignFile, name, "a pipe, socket or device, no file");
        }
        let ending = self.names.number(ending);
        let Some(endings) = self.samples.get_mut(id) else {
            let mut endings = [0; 4];
            endings[channel] = ending;
            self.samples.insert(id.into(), endings);
            return;
        };
        let slot = &mut endings[channel];
        if *slot == 0 {
            *slot = ending;
            return;
        }
        // Of two files the first by name counts, whatever the order of the listing.
        let (mut used, mut unused) = (*slot, ending);
        if self.names.ending(unused) < self.names.ending(used) {
            std::mem::swap(&mut used, &mut unused);
        }
        *slot = used;
        let name = |ending| format!("{id}_{}.{}", CHANNELS[channel], self.names.ending(ending));
        self.doubled.push((id.to_string(), name(used), name(unused)));
    }

    fn in_order(self) -> Listing {
        let Self { samples, names, mut rejected, mut doubled, passed_over } = self;
        let mut samples: Vec<_> = samples.into_iter().collect();
        samples.sort_unstable();
        rejected.sort_unstable();
        doubled.sort_unstable();
        Listing { samples, names, rejected, doubled, passed_over }
    }
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

    fn rejected(kind: Kind, name: &str, detail: &str) -> (Kind, String, String) {
        (kind, name.into(), detail.into())
    }

    fn listed(folder: &Path) -> Listing {
        list(folder, &Progress::new("list", "files", 0)).unwrap()
    }

    #[test]
    fn what_systems_leave_is_passed_over_and_upper_case_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a_red.PNG", "a_green.Jpg", "a_blue.TIF.GZ", "a_yellow.JPEG"] {
            fs::write(dir.path().join(name), "").unwrap();
            fs::write(dir.path().join(format!("._{name}")), "").unwrap();
        }
        for name in [".DS_Store", "thumbs.db", "Desktop.ini", ".a_red.png.swp", ".nfs0001"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for name in ["__MACOSX", "@eaDir", ".ipynb_checkpoints"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join(".b_red.png"), "").unwrap();
        let listing = listed(dir.path());
        let ids: Vec<&str> = listing.samples.iter().map(|s| s.0.as_str()).collect();
        assert_eq!(ids, ["a"]);
        assert!(listing.samples[0].1.iter().all(|&ending| ending > 0));
        assert_eq!(listing.passed_over, (12, ".DS_Store".into()));
        let [(kind, name, _)] = &listing.rejected[..] else { panic!("{:?}", listing.rejected) };
        assert_eq!((*kind, name.as_str()), (Kind::ForeignFile, ".b_red.png"));
    }

    #[test]
    fn what_cannot_be_read_is_listed_with_the_reason() {
        use std::os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("image"), "").unwrap();
        fs::create_dir(path("sub")).unwrap();
        fs::create_dir(path("b_red.png")).unwrap();
        symlink(path("image"), path("a_red.png")).unwrap();
        symlink("nowhere", path("a_green.png")).unwrap();
        symlink("a_blue.png", path("a_blue.png")).unwrap();
        symlink(path("sub"), path("link")).unwrap();
        let _socket = UnixListener::bind(path("a_yellow.png")).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"caf\xe9_red.png")), "").unwrap();
        let listing = listed(dir.path());
        let [(id, endings)] = &listing.samples[..] else { panic!("{:?}", listing.samples) };
        assert_eq!((id.as_str(), endings.map(|e| e > 0)), ("a", [true, false, false, false]));
        let found: Vec<_> = listing.rejected.iter().map(|(k, name, _)| (*k, &name[..])).collect();
        assert_eq!(
            found,
            [
                (Kind::BrokenLink, "a_blue.png"),
                (Kind::BrokenLink, "a_green.png"),
                (Kind::ForeignFile, "a_yellow.png"),
                (Kind::ForeignFile, "image"),
                (Kind::NotUtf8, "caf\\xe9_red.png"),
                (Kind::SubFolder, "b_red.png"),
                (Kind::SubFolder, "link"),
                (Kind::SubFolder, "sub"),
            ]
        );
        let odd = dir.path().join(OsStr::from_bytes(b"\xe9"));
        fs::create_dir(&odd).unwrap();
        let e = list(&odd, &Progress::new("list", "files", 0)).unwrap_err();
        assert!(e.exit_code() == 65 && e.to_string().contains("UTF-8"), "{e}");
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
        let mut listing = listed(dir.path());
        // Which of the two is met first depends on the file system.
        assert_eq!(listing.doubled.iter().map(|d| d.0.as_str()).collect::<Vec<_>>(), ["a", "a"]);
        assert_eq!(listing.rejected, [rejected(Kind::ForeignFile, "notes.txt", EXPECTED)]);
        let [(a, endings), (b, complete)] = listing.samples.try_into().unwrap();
        assert_eq!((a.as_str(), listing.names.ending(endings[0])), ("a", "jpg"));
        assert_eq!(listing.names.complete(endings).unwrap_err(), "green, yellow");
        let files = listing.names.complete(complete).unwrap();
        assert_eq!(files.path(&b, 2), dir.path().join("b_blue.TIF").to_string_lossy());
    }
}
