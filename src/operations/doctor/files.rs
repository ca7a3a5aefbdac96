//! The folders that the jobs read and write.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    check::{Check, FILE_SYSTEM_TIMEOUT, within},
    container,
};
use crate::{
    base::{atomic_file, host},
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
    let (kind, probe) = match (kind(present), Probe::of(present)) {
        (Ok(kind), Ok(probe)) => (kind, probe),
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
    writable(key, found, &kind, free, &probe)
}

fn not_writable(key: &str, folder: &Path, why: &str) -> Check {
    let bind = container::image().map_or("", |_| ", mount it from outside the container (--bind)");
    Check::fail(
        key,
        format!("{}: {why}", folder.display()),
        format!("make it writable{bind}, or set {key} to a folder where you may write"),
    )
}

/// A folder with enough space: whether it is fit for long use.
fn writable(key: &str, found: String, kind: &str, free: u64, probe: &Probe) -> Check {
    let mut lacks = probe.lacks();
    if ["tmpfs", "overlay", "ramfs"].contains(&kind) {
        lacks.push((
            "files there may not outlive the machine or the container".into(),
            "fine for a trial; else use a folder on a disk or a parallel file system (in a \
             container: --bind)",
        ));
    }
    if free < 1 << 30 {
        lacks.push((
            "little space".into(),
            "make room: a training keeps two checkpoints of up to half a GB",
        ));
    }
    if lacks.is_empty() {
        return Check::ok(key, format!("{found}, locks work, links and syncing too"));
    }
    let (what, fixes): (Vec<String>, Vec<&str>) = lacks.into_iter().unzip();
    Check::warning(key, format!("{found}; {}", what.join("; ")), fixes.join("; "))
}

/// What the file system of a folder can do, tried in a folder of its own there, which is removed.
#[derive(Debug)]
struct Probe {
    lock: io::Result<()>,
    /// Whether a lock kept a second holder away.
    lock_holds: bool,
    link: io::Result<()>,
    folder_sync: io::Result<()>,
    /// Whether names that differ in case only are two files.
    case_counts: bool,
    /// Seconds by which the time of a new file differs from this machine's clock.
    clock: f64,
}

/// More than this many seconds between two clocks are said.
const CLOCKS_AGREE: f64 = 5.0;

impl Probe {
    /// # Errors
    /// Where a file cannot be made, written, synced, renamed or removed there.
    fn of(folder: &Path) -> io::Result<Self> {
        let own = folder.join(format!(".atlas-doctor.{}.{}", host::name(), std::process::id()));
        fs::create_dir(&own)?;
        let probe = Self::within(&own);
        fs::remove_dir_all(&own)?;
        probe
    }

    fn within(folder: &Path) -> io::Result<Self> {
        let (path, other) = (folder.join("a"), folder.join("b"));
        let mut file = File::create_new(&path)?;
        file.write_all(&[0; 4096])?;
        match file.sync_all() {
            Err(e) if !atomic_file::cannot_sync(&e) => return Err(e),
            _ => {} // where files cannot be synced, folders cannot either, which is said
        }
        let lock = file.try_lock().map_err(io::Error::from);
        let second = File::options().append(true).open(&path)?;
        let lock_holds = lock.is_ok() && second.try_lock().is_err();
        let modified = file.metadata()?.modified()?;
        let clock = match SystemTime::now().duration_since(modified) {
            Ok(behind) => behind.as_secs_f64(),
            Err(ahead) => -ahead.duration().as_secs_f64(),
        };
        File::create_new(&other)?;
        fs::rename(&path, &other)?; // over a file, as every output appears
        Ok(Self {
            lock,
            lock_holds,
            link: symlink("b", folder.join("link")),
            folder_sync: File::open(folder).and_then(|folder| folder.sync_all()),
            case_counts: !folder.join("B").exists(),
            clock,
        })
    }

    /// What is missing, each with what to do about it.
    fn lacks(&self) -> Vec<(String, &'static str)> {
        let mut lacks = Vec::new();
        match &self.lock {
            Err(e) => lacks.push((
                format!("no locks: {e}"),
                "mount it with locks (Lustre: -o flock); else never train one fold twice at once",
            )),
            Ok(()) if !self.lock_holds => lacks
                .push(("its locks have no effect".into(), "never train one fold twice at once")),
            Ok(()) => {}
        }
        if let Err(e) = &self.link {
            lacks.push((
                format!("no symbolic links: {e}"),
                "name runs by --run: results/latest is not made there",
            ));
        }
        if let Err(e) = &self.folder_sync {
            lacks.push((
                format!("folders cannot be synced: {e}"),
                "should a machine crash, run the same command again: it makes what is missing",
            ));
        }
        if !self.case_counts {
            lacks.push((
                "names that differ in case only are one file".into(),
                "give samples and runs names that differ in more than case",
            ));
        }
        if self.clock.abs() > CLOCKS_AGREE {
            lacks.push((
                format!("times of its files differ by {:.0} s from the clock", self.clock),
                "have the clocks synchronised (NTP); `status` may show finished steps as stale",
            ));
        }
        lacks
    }
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
    fn what_a_file_system_lacks_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let whole = Probe::of(dir.path()).unwrap();
        assert!(whole.lacks().is_empty(), "{whole:?}");
        let refused = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
        let probe = |lock, link, folder_sync| Probe {
            lock,
            lock_holds: true,
            link,
            folder_sync,
            case_counts: true,
            clock: 0.0,
        };
        for (lacking, said) in [
            (probe(refused(), Ok(()), Ok(())), "no locks"),
            (probe(Ok(()), refused(), Ok(())), "links"),
            (probe(Ok(()), Ok(()), refused()), "synced"),
            (Probe { lock_holds: false, ..probe(Ok(()), Ok(()), Ok(())) }, "no effect"),
            (Probe { case_counts: false, ..probe(Ok(()), Ok(()), Ok(())) }, "case"),
            (Probe { clock: -3600.0, ..probe(Ok(()), Ok(()), Ok(())) }, "-3600 s"),
        ] {
            let check = writable("paths.work", "there".into(), "ext4", 1 << 40, &lacking);
            assert_eq!(check.state, super::super::check::CheckState::Warning);
            assert!(check.found.contains(said) && check.fix.is_some(), "{check:?}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(
            [65_536, 8_388_608, 3_200_000_000, 2 << 40].map(size),
            ["66 kB", "8 MB", "3.2 GB", "2.2 TB"]
        );
    }
}
