//! Files that appear whole or not at all.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::base::{Error, Result, fault, host};

/// A file written beside its final place under a temporary name; [`finish`](Writer::finish) makes
/// it appear, whole and on disk. Dropped before that, no file remains.
pub struct Writer {
    file: BufWriter<File>,
    temporary: Temporary,
    path: PathBuf,
}

/// The path of a temporary file. Dropped before the file is renamed, it removes the file.
pub struct Temporary(pub PathBuf);

impl Writer {
    /// Creates the parent folders too.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let temporary = Temporary(temporary_name(&path)?);
        let file = File::create(&temporary.0).map_err(Error::io("create", &temporary.0))?;
        fault::kill_at("created", &path);
        Ok(Self { file: BufWriter::new(file), temporary, path })
    }

    /// Flushes, syncs, renames into place and syncs the folder.
    pub fn finish(self) -> Result<()> {
        let (path, temporary) = (&self.path, &self.temporary.0);
        let file = self.file.into_inner();
        let file = file.map_err(|e| Error::io("write", temporary)(e.into_error()))?;
        fault::kill_at("written", path);
        file.sync_all().map_err(Error::io("sync", temporary))?;
        fault::kill_at("synced", path);
        publish(temporary, path)?;
        fault::kill_at("renamed", path);
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
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

/// A name in the same folder as `path` that no other process on any machine uses:
/// `.NAME.tmp.HOST.PID`. Creates the folder; removes the temporary files of
/// dead processes of this machine for the same path.
pub fn temporary_name(path: &Path) -> Result<PathBuf> {
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| Error::usage(format!("{} is not a file name", path.display())))?;
    let prefix = format!(".{name}.tmp.{}.", host::name());
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))?.flatten() {
        let owner =
            entry.file_name().to_str().and_then(|n| n.strip_prefix(&prefix)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(folder.join(format!("{prefix}{}", std::process::id())))
}

/// Renames a complete, synced file into place and syncs the folder, so that the name survives a
/// crash too.
pub fn publish(temporary: &Path, path: &Path) -> Result<()> {
    fs::rename(temporary, path).map_err(Error::io("rename into place", path))?;
    let folder = folder_of(path);
    File::open(folder).and_then(|d| d.sync_all()).map_err(Error::io("sync the folder", folder))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
}
