//! The disturbances.

use std::{
    fmt::{self, Display},
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Output},
    thread,
    time::Duration,
};

use rand::{Rng, RngExt, seq::IndexedRandom};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    paths,
    site::{Site, said},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kill,
    Stop,
    FullDisk,
    Deleted,
    Damaged,
    TwoAtOnce,
}

impl Kind {
    /// Full disks need a file system of their own.
    pub fn possible(is_mounted: bool) -> &'static [Kind] {
        use Kind::{Damaged, Deleted, FullDisk, Kill, Stop, TwoAtOnce};
        let all = &[Kill, Stop, Deleted, Damaged, TwoAtOnce, FullDisk];
        if is_mounted { all } else { &all[..all.len() - 1] }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Kill => "kills",
            Kind::Stop => "stops",
            Kind::FullDisk => "full disks",
            Kind::Deleted => "deleted files",
            Kind::Damaged => "damaged files",
            Kind::TwoAtOnce => "pairs of programs",
        })
    }
}

/// Disturbs a run, which takes the time `whole` undisturbed, and says what was done. What an
/// earlier disturbance damaged may be refused (2, 65).
///
/// # Errors
/// What the program did wrong at once.
pub fn disturb(
    site: &Site,
    kind: Kind,
    whole: Duration,
    random: &mut impl Rng,
) -> Result<String, String> {
    let after = whole.mul_f64(random.random_range(0.0..1.0));
    match kind {
        Kind::Kill => {
            let out = signalled(site.start(), after, Signal::KILL);
            must_end(&out, &[0, 2, 65], Some(Signal::KILL))?;
            Ok(format!("killed after {:.1} s", after.as_secs_f64()))
        }
        Kind::Stop => {
            let signals = [Signal::TERM, Signal::INT, Signal::USR2];
            let signal = *signals.choose(random).expect("signals");
            let out = signalled(site.start(), after, signal);
            // The signal itself ends a program that has not begun to handle it.
            let has_begun = after > Duration::from_secs(1);
            must_end(&out, &[0, 2, 65, 75], Some(signal).filter(|_| !has_begun))?;
            Ok(format!("stopped ({}) after {:.1} s", signal.as_raw(), after.as_secs_f64()))
        }
        Kind::FullDisk => {
            let room = random.random_range(0..12 << 20);
            let used: u64 = paths(&site.folder)
                .iter()
                .map(|path| fs::metadata(path).map_or(0, |m| m.len().next_multiple_of(4096)))
                .sum();
            site.resize(used + room);
            let out = site.run();
            site.resize(1 << 30);
            must_end(&out, &[0, 1, 2, 65], None)?;
            let is_named = out.status.success() || said(&out).contains("No space left");
            if !is_named && out.status.code() == Some(1) {
                return Err(format!("a full disk is not named: {}", said(&out)));
            }
            Ok(format!("a disk with {} KiB", room >> 10))
        }
        Kind::Deleted => {
            let files = results(site);
            let Some(path) = files.choose(random) else { return Ok("nothing to delete".into()) };
            fs::remove_file(path).unwrap();
            Ok(format!("{} deleted", path.strip_prefix(&site.folder).unwrap().display()))
        }
        Kind::Damaged => damage(site, random),
        Kind::TwoAtOnce => {
            let first = site.start();
            thread::sleep(after.mul_f64(0.5));
            let second = site.run();
            let first = first.wait_with_output().unwrap();
            // One of them may be refused the fold that the other trains, too.
            [first, second].iter().try_for_each(|out| must_end(out, &[0, 2, 65], None))?;
            Ok(format!("a second program after {:.1} s", after.as_secs_f64() / 2.0))
        }
    }
}

/// The files but for the records of what happened, which no later run can make again.
fn results(site: &Site) -> Vec<PathBuf> {
    let records = ["/training_logs/", "/tensorboard/", "/tasks/", "metrics.jsonl", "provenance"];
    let mut files = paths(&site.folder);
    files.retain(|path| !records.iter().any(|part| path.to_string_lossy().contains(part)));
    files
}

/// Sends `signal` after some time, and waits.
fn signalled(child: Child, after: Duration, signal: Signal) -> Output {
    thread::sleep(after);
    let id = Pid::from_raw(child.id() as i32).expect("a process id is not 0");
    let _ = kill_process(id, signal); // it may have ended
    child.wait_with_output().unwrap()
}

/// With one of `codes`, or by `signal`.
fn must_end(out: &Output, codes: &[i32], signal: Option<Signal>) -> Result<(), String> {
    let by_code = out.status.code().is_some_and(|code| codes.contains(&code));
    let by_signal = signal.is_some_and(|s| out.status.signal() == Some(s.as_raw()));
    if by_code || by_signal { Ok(()) } else { Err(said(out)) }
}

/// A file cut, a sector of it zeroed, or a byte changed. Only files with checksums can tell a
/// changed byte; text is cut or zeroed.
fn damage(site: &Site, random: &mut impl Rng) -> Result<String, String> {
    let files = results(site);
    let Some(path) = files.choose(random) else { return Ok("nothing to damage".into()) };
    let mut bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return Ok("nothing to damage".into());
    }
    let at = random.random_range(0..bytes.len());
    let has_checksum = path.extension().is_some_and(|e| e == "h5" || e == "safetensors");
    let what = match random.random_range(0..if has_checksum { 3 } else { 2 }) {
        0 => {
            bytes.truncate(at);
            "cut"
        }
        1 => {
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
            "zeroed"
        }
        _ => {
            bytes[at] ^= 1 << random.random_range(0..8);
            "changed"
        }
    };
    fs::write(path, bytes).unwrap();
    Ok(format!("{} {what} at {at}", path.strip_prefix(&site.folder).unwrap().display()))
}
