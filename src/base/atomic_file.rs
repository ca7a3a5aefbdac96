//! Files that appear whole or not at all.
//!
//! What a user names as an output need not be a regular file, see [`Target`]: links are followed,
//! the owner and the mode of an existing file stay, and devices and pipes are written into.

use std::{
    fs::{self, File, Metadata},
    io::{self, BufWriter, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::base::{
    Error, Result, checksum, fault, host,
    output_target::{Target, folder_of},
};

/// A file written beside its final place under a temporary name; [`finish`](Writer::finish) makes
/// it appear, whole and on disk. Dropped before that, no file remains. What is no regular file is
/// written into.
pub struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    /// `None` where the path is written into.
    new: Option<NewFile>,
}

/// A file that is going to appear.
struct NewFile {
    temporary: Temporary,
    /// Where it appears; no link.
    target: PathBuf,
    /// The file that is there now.
    old: Option<Metadata>,
}

/// The path of a temporary file. Dropped before the file is renamed, it removes the file.
pub struct Temporary(pub PathBuf);

impl Writer {
    /// Creates the parent folders too.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let (file, new) = match Target::of(&path)? {
            Target::Into(sink) => (sink.open().map_err(Error::io("open", &path))?, None),
            Target::Replace { path: target, old } => {
                let temporary = Temporary(temporary_beside(&target, &path)?);
                // Never through a link that someone else has put there.
                let _ = fs::remove_file(&temporary.0);
                let file = File::create_new(&temporary.0);
                let file = file.map_err(Error::io("create", &temporary.0))?;
                keep_owner_and_mode(&temporary.0, old.as_ref()); // before there is content to read
                (file, Some(NewFile { temporary, target, old }))
            }
        };
        fault::kill_at("created", &path);
        Ok(Self { file: BufWriter::new(file), path, new })
    }

    /// Flushes, syncs, renames into place and syncs the folder.
    pub fn finish(self) -> Result<()> {
        let Self { file, path, new } = self;
        let written = new.as_ref().map_or(&path, |new| &new.temporary.0);
        let file = file.into_inner();
        let file = file.map_err(|e| Error::io("write", written)(e.into_error()))?;
        fault::kill_at("written", &path);
        let Some(NewFile { temporary, target, old }) = new else {
            return sync_regular(&file, &path);
        };
        sync(&file, &temporary.0)?;
        fault::kill_at("synced", &path);
        replace(&temporary.0, &target, old.is_some())?;
        fault::kill_at("renamed", &path);
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // an error where it was renamed
    }
}

/// Writes `bytes` to `path`, whole or not at all.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut writer = Writer::create(&path)?;
    writer.write_all(bytes.as_ref()).map_err(Error::io("write", &path))?;
    writer.finish()
}

/// A name in the folder of the file that `path` leads to, which no other process on any machine
/// uses: `.NAME.tmp.HOST.PID`. Creates the folder of `path`; removes the temporary files of dead
/// processes of this machine for the same path. For what is no regular file, a name in the system's
/// folder of temporary files.
pub fn temporary_name(path: &Path) -> Result<PathBuf> {
    match Target::of(path)? {
        Target::Replace { path: target, .. } => temporary_beside(&target, path),
        Target::Into(_) => temporary_in(&std::env::temp_dir(), path),
    }
}

fn temporary_beside(target: &Path, path: &Path) -> Result<PathBuf> {
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    temporary_in(folder_of(target), target)
}

fn temporary_in(folder: &Path, path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::usage(format!("{} is not a file name", path.display())))?;
    let name = match name.to_str() {
        Some(name) if name.len() <= LONGEST => name.into(),
        _ => format!("{:016x}", checksum::of(name.as_bytes())),
    };
    let prefix = format!(".{name}.tmp.{}.", host::name());
    // A folder that can be written but not listed is no hindrance.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let owner =
            entry.file_name().to_str().and_then(|n| n.strip_prefix(&prefix)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(folder.join(format!("{prefix}{}", std::process::id())))
}

/// Bytes of a name that leave room for the rest of a temporary one: file systems take 255, some 143
/// (eCryptfs).
const LONGEST: usize = 60;

/// Makes a complete, synced file appear at `path`: renames it and syncs the folder, so that the
/// name survives a crash too. What is no regular file gets the content.
pub fn publish(temporary: &Path, path: &Path) -> Result<()> {
    match Target::of(path)? {
        Target::Replace { path, old } => {
            keep_owner_and_mode(temporary, old.as_ref());
            replace(temporary, &path, old.is_some())
        }
        Target::Into(sink) => pour(temporary, sink.open().map_err(Error::io("open", path))?, path),
    }
}

/// Renames a complete, synced file to `target`, which is no link, and syncs the folder.
fn replace(temporary: &Path, target: &Path, exists: bool) -> Result<()> {
    match fs::rename(temporary, target) {
        // A file that is mounted on its own, as containers do it, cannot be renamed over; a link
        // may lead to another file system.
        Err(e) if exists && is_one_of(&e, &[libc::EBUSY, libc::EXDEV]) => {
            let to = File::options().write(true).truncate(true).open(target);
            return pour(temporary, to.map_err(Error::io("open", target))?, target);
        }
        renamed => renamed.map_err(Error::io("rename into place", target))?,
    }
    sync_folder(folder_of(target))
}

/// Copies a complete file into an open one, and removes it.
fn pour(temporary: &Path, mut to: File, path: &Path) -> Result<()> {
    let mut from = File::open(temporary).map_err(Error::io("open", temporary))?;
    io::copy(&mut from, &mut to).map_err(Error::io("write", path))?;
    let _ = fs::remove_file(temporary);
    sync_regular(&to, path)
}

/// Gives a new file the owner, the group and the permissions of the one that it will replace. Only
/// root may give files away: where the owner cannot stay, the group still can.
fn keep_owner_and_mode(new: &Path, old: Option<&Metadata>) {
    let (Some(old), Ok(made)) = (old, fs::symlink_metadata(new)) else { return };
    let mut kept = true;
    if (made.uid(), made.gid()) != (old.uid(), old.gid())
        && chown(new, Some(old.uid()), Some(old.gid())).is_err()
    {
        kept = made.uid() == old.uid();
        kept &= made.gid() == old.gid() || chown(new, None, Some(old.gid())).is_ok();
    }
    let mode = old.mode() & 0o777;
    if made.mode() & 0o777 != mode {
        kept &= fs::set_permissions(new, fs::Permissions::from_mode(mode)).is_ok();
    }
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !kept && !WARNED.swap(true, Relaxed) {
        log::warn!(
            "{}: the system refuses to give the new file the owner and the mode of the old one; \
             it belongs to you (said once, for all files)",
            new.parent().unwrap_or(new).display()
        );
    }
}

/// Syncs a file. Some network file systems cannot: then a crash of the machine may cost the newest
/// files, which is worth one warning and no failure.
///
/// # Errors
/// Where the content could not be stored.
pub fn sync(file: &File, path: &Path) -> Result<()> {
    match file.sync_all() {
        Err(e) if cannot_sync(&e) => {
            warn_unsynced(path, &e);
            Ok(())
        }
        synced => synced.map_err(Error::io("sync", path)),
    }
}

/// Syncs what was written into, if it is a file.
fn sync_regular(file: &File, path: &Path) -> Result<()> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => sync(file, path),
        _ => Ok(()),
    }
}

/// Syncs a folder, so that a new name in it survives a crash. The file itself is safe by then, so
/// only a disk that fails or is full is an error; some file systems cannot sync folders, and some
/// folders can be written but not read.
fn sync_folder(folder: &Path) -> Result<()> {
    check_synced(folder, File::open(folder).and_then(|folder| folder.sync_all()))
}

/// Syncs the file system of `folder`, for many new files at once; as with a folder, a file system
/// that cannot is worth one warning.
///
/// # Errors
/// Where a disk fails or is full.
pub fn sync_all_of(folder: &Path) -> Result<()> {
    check_synced(folder, File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?)))
}

fn check_synced(folder: &Path, synced: io::Result<()>) -> Result<()> {
    match synced {
        Err(e) if is_one_of(&e, &[libc::EIO, libc::ENOSPC, libc::EDQUOT]) => {
            Err(Error::io("sync the folder", folder)(e))
        }
        Err(e) => {
            warn_unsynced(folder, &e);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether the error says that the file system cannot sync a file.
pub fn cannot_sync(e: &io::Error) -> bool {
    is_one_of(e, &[libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP])
}

fn is_one_of(e: &io::Error, codes: &[i32]) -> bool {
    e.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn warn_unsynced(path: &Path, e: &io::Error) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Relaxed) {
        log::warn!(
            "{} cannot be synced ({e}): should this machine crash, the newest files there may be \
             lost, and the same command makes them again (said once, for all files)",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_writer_keeps_the_old_file_and_removes_the_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/a.csv");
        write(&path, "old").unwrap();
        let mut writer = Writer::create(&path).unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn temporary_files_of_dead_processes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let (ours, theirs) =
            (format!(".a.csv.tmp.{}.4294967294", host::name()), ".a.csv.tmp.other-node.4294967294");
        fs::write(dir.path().join(&ours), "half").unwrap();
        fs::write(dir.path().join(theirs), "half").unwrap();
        write(&path, "new").unwrap();
        assert!(!dir.path().join(&ours).exists(), "of a dead process of this machine");
        assert!(
            dir.path().join(theirs).exists(),
            "of a process of another machine, which may be alive"
        );
    }

    #[test]
    fn the_target_of_a_link_is_replaced_and_not_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real/a.csv"), dir.path().join("link.csv"));
        fs::create_dir(dir.path().join("real")).unwrap();
        let chain = dir.path().join("chain.csv");
        std::os::unix::fs::symlink("real/a.csv", &link).unwrap();
        std::os::unix::fs::symlink(&link, &chain).unwrap();
        for (path, text) in [(&link, "first, of a link to nothing"), (&chain, "second")] {
            write(path, text).unwrap();
            assert!(path.is_symlink());
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
        }
        assert_eq!(fs::read_dir(real.parent().unwrap()).unwrap().count(), 1);
        let turning = dir.path().join("turning");
        std::os::unix::fs::symlink("turning", &turning).unwrap();
        assert!(write(&turning, "x").is_err());
        assert!(turning.is_symlink());
    }

    #[test]
    fn mode_and_owner_of_an_existing_file_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        write(&path, "old").unwrap();
        for mode in [0o600, 0o664, 0o755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let root = rustix::process::geteuid().is_root();
            if root {
                chown(&path, Some(1234), Some(4321)).unwrap();
            }
            write(&path, "new").unwrap();
            let now = fs::metadata(&path).unwrap();
            assert_eq!(now.mode() & 0o777, mode);
            assert!(!root || (now.uid(), now.gid()) == (1234, 4321));
        }
    }

    #[test]
    fn devices_and_pipes_are_written_into() {
        let dir = tempfile::tempdir().unwrap();
        write("/dev/null", "gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        if Path::new("/dev/full").exists() {
            let e = write("/dev/full", "no room").unwrap_err();
            assert!(e.exit_code() == 1 && e.to_string().contains("/dev/full"), "{e}");
        }
        let pipe = dir.path().join("pipe.csv");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for published in [false, true] {
            let from = pipe.clone();
            let reader = std::thread::spawn(move || fs::read_to_string(from).unwrap());
            if published {
                let temporary = temporary_name(&pipe).unwrap();
                fs::write(&temporary, "into the pipe").unwrap();
                publish(&temporary, &pipe).unwrap();
                assert!(!temporary.exists());
            } else {
                write(&pipe, "into the pipe").unwrap();
            }
            assert_eq!(reader.join().unwrap(), "into the pipe");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_open_file_of_this_process_is_appended_to() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        write(format!("/proc/self/fd/{}", file.as_raw_fd()), "after\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
        assert_eq!(file.metadata().unwrap().ino(), fs::metadata(&path).unwrap().ino());
    }

    #[test]
    fn nothing_is_made_among_the_devices_and_no_folder_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for path in [Path::new("/dev/no-such-device.csv"), dir.path()] {
            assert_eq!(write(path, "x").unwrap_err().exit_code(), 2, "{}", path.display());
        }
        assert!(!Path::new("/dev/no-such-device.csv").exists() && dir.path().is_dir());
    }

    #[test]
    fn long_and_unreadable_names_are_names() {
        let dir = tempfile::tempdir().unwrap();
        let long = std::ffi::OsString::from("l".repeat(255));
        let odd = std::ffi::OsStr::from_bytes(b"caf\xe9.csv").to_os_string();
        for name in [long, odd] {
            let path = dir.path().join(name);
            write(&path, "whole").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        }
    }
}
