//! Where a file that is to be written really goes: through links, and into what cannot be replaced.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use crate::base::{Error, Result};

/// What writing to a path means.
pub enum Target {
    /// A file appears at `path`, which is no link; `old` is the regular file that is there now.
    Replace { path: PathBuf, old: Option<Metadata> },
    /// A device, a pipe or an open file gets the bytes.
    Into(Sink),
}

/// What is written into, at the end of all links.
pub struct Sink {
    path: PathBuf,
    /// Where it is an open file of a process (`/dev/stdout`, `/dev/fd/63`).
    descriptor: Option<Descriptor>,
}

/// An open file of a process.
struct Descriptor {
    number: u32,
    /// Of this process.
    own: bool,
}

/// As many links as the kernel follows.
const LINKS: usize = 40;

impl Target {
    /// Follows the links of `path`, to the file or to where the last link points.
    ///
    /// # Errors
    /// Usage for a folder, a disk, a circle of links and for new names among the devices.
    pub fn of(path: &Path) -> Result<Self> {
        let refused = |what: &str| Err(Error::usage(format!("{}: {what}", path.display())));
        let mut at = path.to_path_buf();
        for _ in 0..LINKS {
            if let Some(descriptor) = descriptor(&at) {
                let is_standard = descriptor.own && descriptor.number < 3;
                return match is_standard || fs::symlink_metadata(&at).is_ok() {
                    true => Ok(Self::Into(Sink { path: at, descriptor: Some(descriptor) })),
                    false => refused("no file is open under this number; name a file"),
                };
            }
            let Ok(metadata) = fs::symlink_metadata(&at) else {
                return match is_among_devices(&at) {
                    true => refused("there is no such device; name a file elsewhere"),
                    false => Ok(Self::Replace { path: at, old: None }),
                };
            };
            let kind = metadata.file_type();
            if kind.is_symlink() {
                let to = fs::read_link(&at).map_err(Error::io("read the link", &at))?;
                at = folder_of(&at).join(to);
            } else if kind.is_dir() {
                return refused("this is a folder; name a file");
            } else if kind.is_block_device() {
                return refused("this is a disk; name a file");
            } else if kind.is_file() {
                return Ok(Self::Replace { path: at, old: Some(metadata) });
            } else {
                return Ok(Self::Into(Sink { path: at, descriptor: None }));
            }
        }
        refused("its links lead in a circle; name a file")
    }
}

impl Sink {
    /// Open files of this process keep their place, so that what is written later comes after it.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(&self) -> io::Result<File> {
        let own = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().map(File::from);
        match self.descriptor {
            Some(Descriptor { number: 1, own: true }) => own(&io::stdout()),
            Some(Descriptor { number: 2, own: true }) => own(&io::stderr()),
            Some(_) => File::options().append(true).open(&self.path),
            None => File::options().write(true).open(&self.path),
        }
    }

    fn is_standard_output(&self) -> bool {
        matches!(self.descriptor, Some(Descriptor { number: 1, own: true }))
    }
}

/// Whether what is written to `path` goes to standard output.
pub fn is_standard_output(path: &Path) -> bool {
    matches!(Target::of(path), Ok(Target::Into(sink)) if sink.is_standard_output())
}

/// What looks like a link in `/proc/PID/fd` leads to an open file and not to a name.
fn descriptor(path: &Path) -> Option<Descriptor> {
    match path.to_str() {
        Some("/dev/stdout") => return Some(Descriptor { number: 1, own: true }),
        Some("/dev/stderr") => return Some(Descriptor { number: 2, own: true }),
        _ => {}
    }
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    let is_open_file = folder.starts_with("/proc") && folder.ends_with("fd");
    let own = folder.starts_with(format!("/proc/{}", std::process::id()));
    is_open_file.then_some(Descriptor { number, own })
}

/// `/dev` holds devices; memory as a folder is the exception.
fn is_among_devices(path: &Path) -> bool {
    let folder = fs::canonicalize(folder_of(path)).unwrap_or_else(|_| folder_of(path).into());
    let within = |top: &str| folder.starts_with(top);
    within("/dev") && !["/dev/shm", "/dev/mqueue", "/dev/hugepages"].iter().any(|f| within(f))
}

/// The folder that `path` lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_has_many_names() {
        for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(is_standard_output(Path::new(name)), "{name}");
            assert!(matches!(Target::of(Path::new(name)), Ok(Target::Into(_))), "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("1");
        std::os::unix::fs::symlink("/dev/stdout", &link).unwrap();
        assert!(is_standard_output(&link));
        assert_eq!(Target::of(Path::new("/proc/self/fd/99999")).err().unwrap().exit_code(), 2);
        for name in ["/dev/stderr", "/dev/null", "/dev/fd/2", "fd/1", "stdout"] {
            assert!(!is_standard_output(Path::new(name)), "{name}");
        }
    }
}
