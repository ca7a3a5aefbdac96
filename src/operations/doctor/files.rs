//! The folders that the jobs read and write.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    check::{Check, FILE_SYSTEM_TIMEOUT, within},
    container,
};
use crate::{
    base::host,
    config::{Data, Paths},
    data::manifest::Plan,
};

/// `side`: pixels of a side of the images in the shards.
pub(super) fn checks(paths: &Paths, data: &Data, side: u32) -> Vec<Check> {
    let (work, side) = (paths.work.clone(), u64::from(side));
    let for_shards = move |folder: &Path| {
        let plan = plan(folder)?;
        let whole = (plan.train_samples + plan.test_samples) as u64 * side * side * 4;
        let there: u64 = fs::read_dir(folder.join("shards"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| Some(e.metadata().ok()?.len()))
            .sum();
        Some(whole.saturating_sub(there))
    };
    let mut checks = vec![
        answers("paths.work", work, move |key, folder| written(key, folder, for_shards(folder))),
        answers("paths.results", paths.results.clone(), |key, folder| written(key, folder, None)),
    ];
    for (key, folder) in [("data.kaggle", &data.kaggle), ("data.external", &data.external)] {
        checks.push(match folder {
            Some(folder) => answers(key, folder.clone(), read),
            None => Check::ok(key, "not set"),
        });
    }
    checks
}

/// `plan.json` of a work folder.
pub(super) fn plan(work: &Path) -> Option<Plan> {
    serde_json::from_slice(&fs::read(Plan::path(work)).ok()?).ok()
}

/// A check of a folder on a file system that may hang.
fn answers(
    key: &'static str,
    folder: PathBuf,
    check: impl FnOnce(&'static str, &Path) -> Check + Send + 'static,
) -> Check {
    let found =
        format!("{}: no answer within {} s", folder.display(), FILE_SYSTEM_TIMEOUT.as_secs());
    within(FILE_SYSTEM_TIMEOUT, move || check(key, &folder)).unwrap_or_else(|| {
        Check::fail(
            key,
            found,
            "the file system hangs: try `ls` there, take another machine, tell the administrators",
        )
    })
}

/// A folder to write to, with `wanted` bytes of space. Where it does not exist yet, its nearest
/// existing ancestor is checked, in which the jobs will create it.
fn written(key: &str, folder: &Path, wanted: Option<u64>) -> Check {
    let present = folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("/"));
    if !present.is_dir() {
        return Check::fail(
            key,
            format!("{}: {} is a file", folder.display(), present.display()),
            format!("set {key} to a folder"),
        );
    }
    let (kind, lock) = match (kind(present), try_write(present)) {
        (Ok(kind), Ok(lock)) => (kind, lock),
        (_, Err(e)) => return not_writable(key, folder, &format!("cannot write there: {e}")),
        (Err(e), _) => return not_writable(key, folder, &format!("cannot access it: {e}")),
    };
    let free = space(present).unwrap_or(0);
    let mut found = format!("{}: {kind}, writable, {} free", folder.display(), size(free));
    if let Some(wanted) = wanted.filter(|w| *w > 0) {
        found += &format!(", {} wanted for shards", size(wanted));
        if wanted > free {
            let fix = format!(
                "make room, or set {key} to a larger file system; preprocess.size = 256 takes a \
                 quarter of 512"
            );
            return Check::fail(key, found, fix);
        }
    }
    writable(key, found, &kind, free, lock)
}

fn not_writable(key: &str, folder: &Path, why: &str) -> Check {
    let bind = container::image().map_or("", |_| ", mount it from outside the container (--bind)");
    Check::fail(
        key,
        format!("{}: {why}", folder.display()),
        format!("make it writable{bind}, or set {key} to a folder where you may write"),
    )
}

/// A folder with enough space: whether it is fit for long use. `lock` is the result of locking a
/// file in it.
fn writable(key: &str, found: String, kind: &str, free: u64, lock: io::Result<()>) -> Check {
    match lock {
        Err(e) => Check::warning(
            key,
            format!("{found}, no locks: {e}"),
            "mount it with locks (Lustre: -o flock); else never train one fold twice at once",
        ),
        Ok(()) if ["tmpfs", "overlay", "ramfs"].contains(&kind) => Check::warning(
            key,
            format!("{found}; files there may not outlive the machine or the container"),
            "fine for a trial; else use a folder on a disk or a parallel file system (in a \
             container: --bind)",
        ),
        Ok(()) if free < 1 << 30 => Check::warning(
            key,
            found,
            "make room: a training keeps two checkpoints of up to half a GB",
        ),
        Ok(()) => Check::ok(key, format!("{found}, locks work")),
    }
}

/// Writes a file and locks it; the inner result is that of locking. Removes the file.
fn try_write(folder: &Path) -> io::Result<io::Result<()>> {
    let path = folder.join(format!(".atlas-doctor.{}.{}", host::name(), std::process::id()));
    let mut file = File::create_new(&path)?;
    let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
    let locked = file.try_lock().map_err(io::Error::from);
    fs::remove_file(&path)?;
    written.map(|()| locked)
}

fn read(key: &str, folder: &Path) -> Check {
    let listed = fs::read_dir(folder).and_then(|mut entries| entries.next().transpose());
    match (listed, kind(folder)) {
        (Ok(Some(_)), Ok(kind)) => {
            Check::ok(key, format!("{}: {kind}, readable", folder.display()))
        }
        (Ok(None), _) => Check::fail(
            key,
            format!("{} is empty", folder.display()),
            format!("set {key} to the folder that holds the data"),
        ),
        (Err(e), _) | (_, Err(e)) => {
            let bind = container::image().map_or("", |_| ", mounted into the container (--bind)");
            Check::fail(
                key,
                format!("{}: {e}", folder.display()),
                format!("set {key} to the folder that holds the data{bind}"),
            )
        }
    }
}

/// Names of file systems by their magic numbers, as statfs(2) gives them.
const KINDS: [(u32, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x7371_7368, "squashfs"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x9fa0, "proc"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x00c3_6400, "ceph"),
];

fn kind(path: &Path) -> io::Result<String> {
    let magic = rustix::fs::statfs(path)?.f_type as u32;
    Ok(KINDS
        .iter()
        .find(|k| k.0 == magic)
        .map_or_else(|| format!("file system {magic:#x}"), |k| k.1.into()))
}

/// Bytes that a user may still write.
pub(super) fn space(path: &Path) -> io::Result<u64> {
    let s = rustix::fs::statvfs(path)?;
    Ok(s.f_bavail.saturating_mul(s.f_frsize))
}

/// `3.2 GB`
pub(super) fn size(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..1_000_000 => format!("{:.0} kB", b / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", b / 1e6),
        1_000_000_000..1_000_000_000_000 => format!("{:.1} GB", b / 1e9),
        _ => format!("{:.1} TB", b / 1e12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_checked_and_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let check = written("paths.work", &dir.path().join("not/there"), None);
        assert_eq!(check.state, super::super::check::CheckState::Ok, "{check:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(kind(Path::new("/proc")).unwrap(), "proc");
        assert_eq!(
            written("paths.work", dir.path(), Some(1 << 60)).state,
            super::super::check::CheckState::Fail
        );
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(
            [65_536, 8_388_608, 3_200_000_000, 2 << 40].map(size),
            ["66 kB", "8 MB", "3.2 GB", "2.2 TB"]
        );
    }
}
