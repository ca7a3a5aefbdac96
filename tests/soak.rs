//! `make soak MINUTES=n`: disturbs the whole pipeline on a tiny data set at random and checks that
//! nothing is lost: after every disturbance the same command ends in the files of an undisturbed
//! run.
//!
//! Arguments: the minutes, and a seed (default: the time; printed, so that a round can be
//! repeated).
//! Exit status 1 after a finding; its folder is kept.
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_xoshiro::Xoshiro256PlusPlus;

#[path = "soak/disturb.rs"]
mod disturb;
#[path = "soak/site.rs"]
mod site;
#[path = "pipeline/small.rs"]
mod small;

use disturb::Kind;
use site::Site;

fn main() -> ExitCode {
    let mut args = env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let minutes = args.next().unwrap_or(1);
    let seed = args.next().unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    });
    println!("soak: {minutes} minutes, seed {seed}");
    let site = Site::new();
    let begun = Instant::now();
    site.finish().expect("an undisturbed run succeeds");
    let whole = begun.elapsed();
    let calm = site.outcome();
    println!(
        "an undisturbed run takes {:.0} s and leaves {} files",
        whole.as_secs_f64(),
        calm.len()
    );

    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut tally: BTreeMap<Kind, usize> = BTreeMap::new();
    let (mut rounds, end) = (0, Instant::now() + Duration::from_secs(60 * minutes));
    while Instant::now() < end {
        rounds += 1;
        if random.random_bool(0.5) {
            site.clear(); // else the files of the round before are disturbed
        }
        let mut story = Vec::new();
        for _ in 0..random.random_range(1..=4) {
            let kind = *Kind::possible(site.is_mounted).choose(&mut random).expect("kinds");
            match disturb::disturb(&site, kind, whole, &mut random) {
                Ok(done) => story.push(done),
                Err(finding) => return found(site, &story, &finding),
            }
            *tally.entry(kind).or_default() += 1;
        }
        let named = match site.finish() {
            Ok(named) => named,
            Err(finding) => return found(site, &story, &finding),
        };
        if let Some(finding) = difference(&calm, &site.outcome()) {
            return found(site, &story, &finding);
        }
        println!("round {rounds}: {}{}", story.join(", "), refused(&named));
    }
    let kinds: Vec<String> = tally.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    println!("soak: {rounds} rounds, {}: nothing lost", kinds.join(", "));
    ExitCode::SUCCESS
}

fn refused(named: &[PathBuf]) -> String {
    let names: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
    if names.is_empty() { String::new() } else { format!("; refused: {}", names.join(", ")) }
}

fn found(site: Site, story: &[String], finding: &str) -> ExitCode {
    println!("FOUND after {}: {finding}", story.join(", "));
    println!("the files are kept in {}", site.keep().display());
    ExitCode::FAILURE
}

/// How the files of a run differ from those of an undisturbed one.
fn difference(calm: &BTreeMap<String, Vec<u8>>, run: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let missing = calm.keys().find(|name| !run.contains_key(*name));
    let added = run.keys().find(|name| !calm.contains_key(*name));
    let changed = calm.iter().find(|(name, bytes)| run.get(*name).is_some_and(|b| b != *bytes));
    missing
        .map(|name| format!("{name} is missing"))
        .or_else(|| added.map(|name| format!("{name} is left over")))
        .or_else(|| changed.map(|(name, _)| format!("{name} differs")))
}

/// All regular files below a folder, by their relative path.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => all.push(entry.path()),
                _ => {}
            }
        }
    }
    all.sort();
    all
}
