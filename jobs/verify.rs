//! `atlas verify`
use std::path::PathBuf;

use atlas::{
    base::{Result, progress::Progress, thread_pool},
    operations::verify,
};
use rayon::prelude::*;
use serde_json::json;

use crate::common::{Common, say};

/// Check that shards, checkpoints, weights and predictions are complete and undamaged
///
/// Reads the files named, and in folders all files of a known kind (.h5, .safetensors). Writes
/// nothing; prints one line per file, `ok` or what is wrong and where. Exit code 65 where one is
/// damaged.
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
    let config = args.common.config()?;
    let mut files = Vec::new();
    for path in &args.paths {
        verify::collect(path, &mut files)?;
    }
    let pool = thread_pool::start(config.threads())?;
    let progress = Progress::new("verify", "files", files.len() as u64);
    let check = |file: &PathBuf| {
        let result = verify::check(file);
        progress.add(1);
        result
    };
    let results: Vec<Result<String>> = pool.install(|| files.par_iter().map(check).collect());
    drop(progress);
    let whole = results.iter().filter(|r| r.is_ok()).count();
    let (mut rows, mut failed) = (Vec::new(), None);
    for (path, result) in files.iter().zip(results) {
        let what = result.as_ref().map_or_else(ToString::to_string, Clone::clone);
        match (args.common.json, &result) {
            (true, _) => {
                let path = path.display().to_string(); // a name may be no UTF-8
                rows.push(json!({ "path": path, "ok": result.is_ok(), "what": what }));
            }
            (false, Ok(_)) => say(format!("ok {}: {what}", path.display()))?,
            (false, Err(_)) => say(format!("broken {what}"))?, // an error names its file
        }
        failed = failed.or(result.err());
    }
    if args.common.json {
        say(json!({ "ok": failed.is_none(), "files": rows }))?;
    }
    log::info!("{whole} of {} files are whole", files.len());
    failed.map_or(Ok(()), |e| Err(e.into()))
}
