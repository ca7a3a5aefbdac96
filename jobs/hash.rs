//! `atlas hash`
use std::path::{Path, PathBuf};

use atlas::{
    base::{Error, progress::Progress, thread_pool},
    data::{
        image::{Encoded, Plane},
        phash::{ahash, composite, phash},
    },
};
use rayon::prelude::*;
use serde_json::json;

use crate::common::{Common, must_exist, say};

/// Print the perceptual hashes of images
///
/// Reads PNG, JPEG or TIFF files. Writes one line per file to standard output: phash, ahash (each
/// 64 bits in hex) and the path. The values are those of Python's imagehash; colours are converted
/// to gray as in Pillow.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas hash train/*_green.png")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Images to hash
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take the files in groups of four (red, green, blue, yellow of one sample) and hash each
    /// group as one colour image with yellow as its alpha channel, as the original Python code did;
    /// prints the path of the red file
    #[arg(long)]
    stack: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let limit = config.preprocess.max_pixels_side;
    if args.stack && !args.files.len().is_multiple_of(4) {
        return Err(Error::usage(format!(
            "--stack takes files in groups of four (red, green, blue, yellow); there are {}",
            args.files.len()
        ))
        .into());
    }
    let load = |path: &Path| {
        must_exist("FILE", path)?;
        Encoded::read(path, limit)?.luma()
    };
    let one = |files: &[PathBuf]| -> atlas::base::Result<Plane> {
        let [red, green, blue, yellow] = files else { return load(&files[0]) };
        load(yellow)?; // it does not change the hash, but an incomplete stack is an error
        let planes = [load(red)?, load(green)?, load(blue)?];
        composite(planes.each_ref())
            .ok_or_else(|| Error::data(red, "differs in size from its green or blue"))
    };
    let pool = thread_pool::start(config.threads())?;
    let hashes: Vec<_> = pool.install(|| {
        let files: Vec<_> = args.files.chunks(if args.stack { 4 } else { 1 }).collect();
        let progress = Progress::new("hash", "images", files.len() as u64);
        let hashes = |f: &[PathBuf]| {
            let hashes = one(f).map(|p| (phash(&p), ahash(&p)));
            progress.add(1);
            hashes
        };
        files.into_par_iter().map(|f| (&f[0], hashes(f))).collect()
    });
    let (done, all) = (hashes.iter().filter(|(_, h)| h.is_ok()).count(), hashes.len());
    let (mut rows, mut failed) = (Vec::new(), None::<Error>);
    for (path, result) in hashes {
        match result {
            Ok((p, a)) if args.common.json => {
                let [p, a] = [p, a].map(|hash| format!("{hash:016x}"));
                rows.push(json!({ "phash": p, "ahash": a, "path": path.display().to_string() }));
            }
            Ok((p, a)) => say(format!("{p:016x} {a:016x} {}", path.display()))?,
            Err(e) => {
                log::warn!("{e}");
                // The exit code of a damaged file takes precedence over that of a wrong path.
                failed =
                    failed.filter(|first| first.exit_code() != 2 || e.exit_code() == 2).or(Some(e));
            }
        }
    }
    if args.common.json {
        say(json!({ "hashes": rows }))?;
    }
    log::info!("{done} of {all} hashed");
    failed.map_or(Ok(()), |e| Err(e.into()))
}
