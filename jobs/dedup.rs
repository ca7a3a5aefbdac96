//! `atlas dedup`
use std::path::PathBuf;

use atlas::{
    base::{Error, task_log::Log},
    data::{
        dedup::{hash_csv, job, search, tables},
        work_folder::WorkFolder,
    },
};

use crate::common::{Common, Tasks, must_exist, planned, recorded, stop_on_signals};

/// Find near-duplicates, keep one of each, and list label conflicts and matches with the test set
///
/// Reads the manifest and the shards in paths.work. Candidates are pairs whose red, green and blue
/// hashes each lie within dedup.radius bits; they are confirmed on 64 x 64 thumbnails
/// (dedup.min_correlation) and grouped transitively. Of each group one stays: official before
/// external, then the one with more labels, then the first.
///
/// Writes duplicates.csv (groups of two and more), conflicts.csv (groups whose labels differ) and
/// leaks.csv (training samples that are also in the test set; they are reported, not removed). Done
/// before from the same shards with the same settings, it does nothing.
///
/// As an array job: task i of N finds its share of the pairs and leaves it in dedup/pairs-*.json;
/// `--merge` then decides on all of them and writes the tables, the same as without an array.
///
/// With --hashes and --out it needs no pictures: a table id,red,green,blue,yellow in hex becomes a
/// table id,group, by hashes alone.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  atlas dedup --config configs/atlas.toml\n  \
    atlas dedup --hashes hashes.csv --out groups.csv --set dedup.radius=4")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tasks: Tasks,
    /// After all tasks of an array: decide on what they found
    #[arg(long, conflicts_with_all = ["task", "hashes"])]
    merge: bool,
    /// A bare table id,red,green,blue,yellow in hex, instead of shards
    #[arg(long, value_name = "FILE", requires = "out")]
    hashes: Option<PathBuf>,
    /// Where the bare table's groups go, as id,group
    #[arg(long, value_name = "FILE", requires = "hashes")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads())
        .build()
        .map_err(Error::failed)?;
    if let (Some(hashes), Some(out)) = (&args.hashes, &args.out) {
        must_exist("--hashes", hashes)?;
        let (ids, hashes) = hash_csv::read(hashes)?;
        let first = threads.install(|| search::groups(&hashes, config.dedup.radius));
        hash_csv::write(out, &ids, &first)?;
        let removed = first.iter().enumerate().filter(|(i, first)| i != *first).count();
        let text = format!(
            "{} samples, {} groups (radius {}), {removed} could go\nwrote {}",
            ids.len(),
            ids.len() - removed,
            config.dedup.radius,
            out.display()
        );
        let json = serde_json::json!({ "samples": ids.len(), "groups": ids.len() - removed, "duplicates": removed, "out": out });
        args.common.print(text, json);
        return Ok(());
    }
    let work = &WorkFolder::open(&config.paths.work);
    if !args.merge
        && let Some((task, tasks)) = args.tasks.resolve(|| planned(work))?
    {
        let stop = stop_on_signals()?;
        let search =
            || Ok(threads.install(|| job::run_task(work, &config.dedup, task, tasks, stop))?);
        let (parts, made) = recorded(&Log::of(work.path(), "dedup", task), search)?;
        let text = format!(
            "{parts} parts of the search, {made} of them made now, in {}\nnext: the other tasks, \
                then atlas dedup --merge",
            work.path().join("dedup").display()
        );
        args.common.print(text, serde_json::json!({ "parts": parts, "made": made }));
        return Ok(());
    }
    let decide = || {
        Ok(threads.install(|| match args.merge {
            true => {
                job::merge(work, &config.dedup, args.tasks.tasks.map_or_else(|| planned(work), Ok)?)
            }
            false => job::run(work, &config.dedup),
        })?)
    };
    let (found, before) = recorded(&Log::of(work.path(), "merge", 0), decide)?;
    let text = format!(
        "{} of {} training samples go, {} groups of near-duplicates have one left each ({} candidate pairs)\n\
         {} groups have different labels; {} matches with the {} test samples\n\
         {} {}: {}, {}, {}; next: atlas split",
        found.removed,
        found.train,
        found.groups,
        found.candidates,
        found.conflicts,
        found.leaks,
        found.test,
        if before { "already in" } else { "wrote to" },
        work.path().display(),
        tables::DUPLICATES,
        tables::CONFLICTS,
        tables::LEAKS,
    );
    let mut json = serde_json::to_value(&found)?;
    json["done_before"] = before.into();
    args.common.print(text, json);
    Ok(())
}
