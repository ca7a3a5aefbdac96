//! `atlas dedup`
use std::path::{Path, PathBuf};

use atlas::{
    base::{Result, pipeline_step::Step, task_log::TaskLog, thread_pool},
    config::{Config, Dedup},
    data::{
        dedup::{
            hash_csv,
            job::{self, DedupSummary},
            search, tables,
        },
        work_folder::WorkFolder,
    },
};
use serde_json::json;

use crate::common::{
    Common, Summary, Tasks, must_exist, must_not_replace, planned, recorded, stop_on_signals,
};

/// Find near-duplicates, keep one of each, and list label conflicts and matches with the test set
///
/// Reads the manifest and the shards in paths.work. Candidates are pairs whose red, green and blue
/// hashes each lie within dedup.radius bits; they are confirmed on 64 x 64 thumbnails
/// (dedup.min_correlation) and grouped transitively. Of each group one sample is kept: official
/// before external, then the one with more labels, then the first.
///
/// Writes duplicates.csv (groups of two and more), conflicts.csv (groups whose labels differ) and
/// leaks.csv (training samples that are also in the test set; they are reported, not removed).
/// Where these were written before from the same shards with the same settings, it does nothing.
///
/// As an array job: task i of N finds its share of the pairs and writes it to dedup/pairs-*.json;
/// `--merge` then decides on all of them and writes the tables, the same as without an array.
///
/// With --hashes and --out it needs no images: it turns a table id,red,green,blue,yellow in hex
/// into a table id,group, by hashes alone.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  atlas dedup --config configs/atlas.toml\n  \
    atlas dedup --hashes hashes.csv --out groups.csv --set dedup.radius=4")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tasks: Tasks,
    /// After all tasks of an array: decide on the pairs that they found
    #[arg(long, conflicts_with_all = ["task", "hashes"])]
    merge: bool,
    /// A bare table id,red,green,blue,yellow in hex, instead of shards
    #[arg(long, value_name = "FILE", requires = "out")]
    hashes: Option<PathBuf>,
    /// Where the bare table's groups go, as id,group; `-`: to standard output
    #[arg(long, value_name = "FILE", requires = "hashes")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let work = &WorkFolder::of(&config);
    let (keys, threads) = (&config.dedup, config.threads());
    let Summary { text, json } = match (&args.hashes, &args.out) {
        (Some(hashes), Some(out)) => {
            let out = args.common.output("--out", out)?;
            must_not_replace("--out", &out, hashes)?;
            let made = group_table(hashes, &out, keys.radius, threads)?;
            return Ok(args.common.print_beside(&out, made.text, made.json)?);
        }
        _ if args.merge => decide(work, threads, || {
            job::merge(work, keys, args.tasks.tasks.map_or_else(|| planned(work), Ok)?)
        })?,
        _ => match args.tasks.resolve(|| planned(work))? {
            Some(share) => search_share(work, keys, threads, share)?,
            None => dedup(&config, work)?,
        },
    };
    args.common.print(text, json)?;
    Ok(())
}

/// Searches all pairs and decides on them.
pub fn dedup(config: &Config, work: &WorkFolder) -> anyhow::Result<Summary> {
    decide(work, config.threads(), || job::run(work, &config.dedup))
}

/// Decides on pairs with `job`.
fn decide(
    work: &WorkFolder,
    threads: usize,
    job: impl FnOnce() -> Result<(DedupSummary, bool)> + Send,
) -> anyhow::Result<Summary> {
    let (found, was_done) = recorded(&TaskLog::of(work.path(), Step::Merge, 0), || {
        Ok(thread_pool::start(threads)?.install(job)?)
    })?;
    let text = format!(
        "{} of {} training samples are removed; one sample of each of {} groups of \
         near-duplicates is kept ({} candidate pairs)\n\
         {} groups have different labels; {} matches with the {} test samples\n\
         {} {}: {}, {}, {}\nnext: `atlas split`",
        found.removed,
        found.train,
        found.groups,
        found.candidates,
        found.conflicts,
        found.leaks,
        found.test,
        if was_done { "already in" } else { "wrote to" },
        work.path().display(),
        tables::DUPLICATES,
        tables::CONFLICTS,
        tables::LEAKS,
    );
    let mut json = serde_json::to_value(&found)?;
    json["done_before"] = was_done.into();
    Ok(Summary { text, json })
}

/// One task's share of the search.
fn search_share(
    work: &WorkFolder,
    keys: &Dedup,
    threads: usize,
    (task, tasks): (usize, usize),
) -> anyhow::Result<Summary> {
    let stop = stop_on_signals()?;
    let (parts, made) = recorded(&TaskLog::of(work.path(), Step::Dedup, task), || {
        Ok(thread_pool::start(threads)?.install(|| job::run_task(work, keys, task, tasks, stop))?)
    })?;
    let text = format!(
        "{parts} parts of the search, {made} of them made now, in {}\nnext: the other tasks, then \
         `atlas dedup --merge`",
        work.path().join("dedup").display()
    );
    Ok(Summary { text, json: json!({ "parts": parts, "made": made }) })
}

/// `--hashes`: groups by hashes alone.
fn group_table(hashes: &Path, out: &Path, radius: u32, threads: usize) -> anyhow::Result<Summary> {
    must_exist("--hashes", hashes)?;
    let (ids, hashes) = hash_csv::read(hashes)?;
    let first = thread_pool::start(threads)?.install(|| search::groups(&hashes, radius));
    hash_csv::write(out, &ids, &first)?;
    let duplicates = first.iter().enumerate().filter(|(i, first)| i != *first).count();
    let groups = ids.len() - duplicates;
    let text = format!(
        "{} samples, {groups} groups (radius {radius}), {duplicates} could be removed\nwrote {}",
        ids.len(),
        out.display()
    );
    let json = json!({
        "samples": ids.len(), "groups": groups, "duplicates": duplicates,
        "out": out.display().to_string(),
    });
    Ok(Summary { text, json })
}
