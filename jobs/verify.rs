//! `atlas verify`
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use atlas::{
    base::{Error, Result, progress::Progress},
    data::shard,
    network::weights::{self, Weights},
    scoring::prediction_file::Predictions,
    training::checkpoint::Checkpoint,
};
use rayon::prelude::*;
use serde_json::json;

use crate::common::{Common, end_with_the_reader};

/// Check that shards, checkpoints, weights and predictions are whole
///
/// Reads the files named, and in folders all files of a known kind (.h5, .safetensors). Writes
/// nothing; prints one line per file, `ok` or what is wrong and where. Exit code 65 where one is
/// broken.
///
/// All are compared with their checksums except weights, which have none: they are read, and names
/// and shapes checked.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas verify work/shards")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    end_with_the_reader();
    let config = args.common.config()?;
    let mut files = Vec::new();
    for path in &args.paths {
        collect(path, &mut files)?;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads()).build()?;
    let progress = Progress::new("verify", "files", files.len() as u64);
    let look = |file: &PathBuf| {
        let result = check(file);
        progress.add(1);
        result
    };
    let results: Vec<Result<String>> = pool.install(|| files.par_iter().map(look).collect());
    drop(progress);
    let whole = results.iter().filter(|r| r.is_ok()).count();
    let (mut rows, mut failed) = (Vec::new(), None);
    for (path, result) in files.iter().zip(results) {
        if args.common.json {
            rows.push(json!({ "path": path, "ok": result.is_ok(), "what": result.as_ref().map_or_else(ToString::to_string, Clone::clone) }));
        } else {
            match &result {
                Ok(what) => println!("ok {}: {what}", path.display()),
                Err(e) => println!("broken {e}"),
            }
        }
        failed = failed.or(result.err());
    }
    if args.common.json {
        println!("{}", json!({ "ok": failed.is_none(), "files": rows }));
    }
    log::info!("{whole} of {} files are whole", files.len());
    failed.map_or(Ok(()), |e| Err(e.into()))
}

/// The file itself, or in a folder the files of a known kind, in order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.exists() {
        return Err(Error::usage(format!("{} does not exist", path.display())));
    }
    if !path.is_dir() {
        files.push(path.into());
        return Ok(());
    }
    let before = files.len();
    let mut entries: Vec<_> =
        fs::read_dir(path).map_err(Error::io("list", path))?.flatten().map(|e| e.path()).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if entry.is_dir() && !hidden {
            let _ = collect(&entry, files); // an empty folder below is no fault
        } else if !hidden && kind(&entry).is_some() {
            files.push(entry);
        }
    }
    if files.len() == before {
        return Err(Error::data(
            path,
            "there is nothing to verify in this folder; expected .h5 or .safetensors files",
        ));
    }
    Ok(())
}

fn kind(path: &Path) -> Option<&str> {
    path.extension()?.to_str().filter(|e| ["h5", "safetensors"].contains(e))
}

/// What a whole file holds.
fn check(path: &Path) -> Result<String> {
    match kind(path) {
        Some("h5") if holds_predictions(path)? => {
            Ok(format!("predictions of {} samples", Predictions::read(path)?.ids.len()))
        }
        Some("h5") => {
            let shard = shard::Reader::open(path)?;
            shard.verify()?;
            Ok(format!("{} samples of {} pixels a side", shard.len(), shard.size()))
        }
        Some("safetensors") if weights::read(path)?.1.contains_key("arch") => {
            Ok(format!("weights of {}", Weights::open(path)?.spec().arch))
        }
        Some("safetensors") => {
            let state = Checkpoint::read(path)?.state;
            Ok(format!(
                "{} after epoch {}, step {}",
                state.network.spec.arch, state.epoch, state.step
            ))
        }
        _ => Err(Error::data(
            path,
            "not a kind of file that can be verified; expected .h5 or .safetensors",
        )),
    }
}

/// Told by their place or by the name of their table, which stands in plain text at the start of
/// the file: HDF5 itself must not be asked about a shard that may be damaged, since it can loop on
/// one.
fn holds_predictions(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|f| f.take(4096).read_to_end(&mut start))
        .map_err(Error::io("read", path))?;
    let is_in_place = path.ends_with("validation.h5")
        || path.parent().is_some_and(|p| p.ends_with("predictions"));
    Ok(is_in_place || start.windows(13).any(|w| w == b"probabilities"))
}
