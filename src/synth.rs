//! Synthetic microscopy in the competition's layout, so that tests and the demo need no downloads.
//!
//! In: a seed and the numbers of samples ([`SynthOptions`]). Out ([`generate`]): a folder with
//! `train/`, `test/`, `train.csv`, `sample_submission.csv` and, beyond the competition's files,
//! `truth.csv` (the test set's labels), `duplicates_truth.csv` (planted near-duplicates),
//! `external/` (coloured JPEGs with their table) and `contact_sheet.png`.
//!
//! Every sample is a pure function of the seed and its number. [`plan`] draws ids and label sets,
//! these from a [`population`] with the real frequencies; [`sample`] paints one sample: its cells
//! are placed ([`scene`]), stained ([`stains`], [`patterns`]) and photographed ([`camera`]). Read
//! these two first.

pub mod camera;
pub mod cell;
pub mod copies;
pub mod draw;
mod options;
pub mod outline;
pub mod patterns;
pub mod plan;
pub mod population;
mod render;
pub mod sample;
pub mod scene;
pub mod stains;
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::{
    Error, Result, atomic_file,
    progress::Progress,
    rng::{self, Use},
};

pub use options::SynthOptions;
pub use render::render;

/// Increases whenever the same options give other images, so that an old folder is not taken for a
/// new one.
const VERSION: u32 = 2;

#[derive(PartialEq, Serialize, Deserialize)]
struct Stamp {
    version: u32,
    options: SynthOptions,
}

/// The result of [`generate`].
pub enum SynthOutcome {
    /// All files were written; `duplicates` samples are copies.
    Generated { duplicates: usize },
    /// The folder already has exactly this set.
    Present,
}

/// Generates the set in `folder`, which must be empty or have the same set, finished or not.
///
/// # Errors
/// Usage, if an option is out of range or the folder has other content; Io.
pub fn generate(folder: &Path, options: &SynthOptions) -> Result<SynthOutcome> {
    options.check()?;
    let stamp = Stamp { version: VERSION, options: options.clone() };
    let samples = plan::plan(options)?;
    if claim(folder, &stamp)? {
        return Ok(SynthOutcome::Present);
    }
    for sub in ["train", "test", "external/images"] {
        let path = folder.join(sub);
        if sub != "external/images" || options.external > 0 {
            fs::create_dir_all(&path).map_err(Error::io("create the folder", &path))?;
        }
    }
    let progress = Progress::new("synth", "samples", samples.len() as u64);
    (0..samples.len()).into_par_iter().try_for_each(|i| -> Result<()> {
        let mut rng = rng::stream(Use::Synth, options.seed, 3, i as u64);
        write::images(folder, &samples[i], &render(options, &samples, i)?, &mut rng)?;
        progress.add(1);
        Ok(())
    })?;
    drop(progress);
    write::tables(folder, &samples)?;
    write::contact_sheet(folder, options, &samples)?;
    let text = serde_json::to_string_pretty(&stamp).map_err(Error::failed)?;
    atomic_file::write(folder.join("synth.json"), text + "\n")?;
    let started = started(folder);
    fs::remove_file(&started).map_err(Error::io("remove", &started))?;
    Ok(SynthOutcome::Generated {
        duplicates: samples.iter().filter(|m| m.copy_of.is_some()).count(),
    })
}

/// A file that exists in a folder from the start of a run until all files are written.
fn started(folder: &Path) -> PathBuf {
    folder.join("synth.started.json")
}

/// True if the set is complete. Otherwise marks the folder as started.
///
/// # Errors
/// Usage, if it has other content.
fn claim(folder: &Path, stamp: &Stamp) -> Result<bool> {
    let read = |path: PathBuf| {
        fs::read_to_string(path).ok().and_then(|t| serde_json::from_str::<Stamp>(&t).ok())
    };
    let (finished, begun) = (read(folder.join("synth.json")), read(started(folder)));
    if finished.as_ref() == Some(stamp) && begun.is_none() {
        return Ok(true);
    }
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        Err(e) => return Err(Error::io("list", folder)(e)),
    };
    if !empty && begun.as_ref().or(finished.as_ref()) != Some(stamp) {
        let what = if finished.is_some() || begun.is_some() {
            "a set made with other options"
        } else {
            "other files"
        };
        return Err(Error::usage(format!(
            "{} holds {what}; remove it or give another --out",
            folder.display()
        )));
    }
    let text = serde_json::to_string(stamp).map_err(Error::failed)?;
    atomic_file::write(started(folder), text)?;
    Ok(false)
}
