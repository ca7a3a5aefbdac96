//! A run as one page: `report.html`, one file that needs nothing else, neither network nor the
//! files that it was made from.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use minijinja::{Value, context};

use crate::{
    base::{Error, Result, atomic_file},
    config::Config,
    data::{
        dedup::lists::{CONFLICTS, DUPLICATES, LEAKS},
        folds::table,
    },
    inference::finished_run::{SCORES, THRESHOLDS},
    training::{run_folder::Run, train},
    views::report::{epochs::Fold, scored::Scored},
};

mod bootstrap;
mod calibration;
mod charts;
mod compare;
mod confusion;
mod cost;
mod curve;
mod epochs;
mod glance;
#[cfg(test)]
mod golden;
mod leaks;
mod look;
mod page;
mod pictures;
mod samples;
mod scored;
mod sections;
mod thumb;

pub use bootstrap::Interval;

/// The file in the run's folder.
pub const NAME: &str = "report.html";

/// What [`report`] did.
pub struct Outcome {
    pub path: PathBuf,
    /// What it says, where it was made now; `None` where it was there already, of the same files.
    pub made: Option<Headline>,
}

/// The score that the report begins with.
pub struct Headline {
    /// Macro F1, cross-fitted, 0 to 1.
    pub macro_f1: f64,
    /// Its 95 % interval.
    pub interval: Interval,
}

/// Writes `results/<run>/report.html`, unless it is there and nothing that it is made from has
/// changed. `others` are set beside the run.
///
/// # Errors
/// Usage where no fold is finished or `submit` has not run; data where a file is not as its job
/// wrote it.
pub fn report(config: &Config, run: &Run, others: &[Run]) -> Result<Outcome> {
    let path = run.folder.join(NAME);
    let mut all = vec![(config.clone(), run.clone())];
    for other in others {
        all.push((Config::load(Some(&other.folder.join("config.toml")), &[])?, other.clone()));
    }
    let source = source(&all)?;
    if made_from(&path).as_ref() == Some(&source) {
        return Ok(Outcome { path, made: None });
    }
    let read = |(config, run): &(Config, Run)| Ok((Scored::read(config, run)?, epochs(run)?));
    let runs = all.iter().map(read).collect::<Result<Vec<_>>>()?;
    let (scored, folds) = &runs[0];
    atomic_file::write(&path, page::render(values(scored, folds, &runs, &source)?)?)?;
    Ok(Outcome {
        path,
        made: Some(Headline { macro_f1: scored.macro_f1(), interval: scored.interval() }),
    })
}

fn epochs(run: &Run) -> Result<Vec<Fold>> {
    run.finished_folds()?.into_iter().map(|k| Fold::read(k, &run.fold(k))).collect()
}

fn values(
    scored: &Scored,
    folds: &[Fold],
    runs: &[(Scored, Vec<Fold>)],
    source: &str,
) -> Result<Value> {
    let album = pictures::Album::open(scored);
    let found = leaks::read(&scored.config.paths.work, &scored.folds)?;
    let found = found.as_ref();
    let runs: Vec<(&Scored, &[Fold])> =
        runs.iter().map(|(scored, folds)| (scored, folds.as_slice())).collect();
    Ok(context! {
        name => scored.run.name(), source, version => env!("CARGO_PKG_VERSION"),
        made => jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        glance => glance::glance(scored, folds, found)?,
        compare => (runs.len() > 1).then(|| compare::compare(&runs)).transpose()?,
        learning => sections::learning(folds)?,
        classes => sections::classes(scored, folds)?,
        confusion => sections::confusion(scored),
        curves => sections::curves(scored)?,
        calibration => sections::calibration(scored)?,
        thresholds => sections::thresholds(scored),
        folds => sections::folds(scored, folds),
        duplicates => pictures::duplicates(scored, &album, found)?,
        samples => pictures::samples(scored, &album)?,
        look => pictures::look(scored, &album)?,
    })
}

/// One number for what a report says, but for the cost, whose logs grow with each command: this
/// program, and the files of each run.
fn source(runs: &[(Config, Run)]) -> Result<String> {
    let mut parts = vec![env!("CARGO_PKG_VERSION").into(), env!("ATLAS_GIT_COMMIT").into()];
    for (config, run) in runs {
        let work = &config.paths.work;
        parts.push(run.name() + &config.to_toml());
        let mut tables = vec![run.folder.join(THRESHOLDS), run.folder.join(SCORES)];
        tables.extend(
            [DUPLICATES, CONFLICTS, LEAKS, table::NAME, "manifest.csv"].map(|name| work.join(name)),
        );
        for fold in run.finished_folds()? {
            let folder = run.fold(fold);
            tables.extend([
                run.validation(fold),
                folder.join("history.csv"),
                folder.join("metrics.jsonl"),
            ]);
            // Large ones are looked at from outside.
            parts.push(format!(
                "{:?}{:?}",
                sizes(&folder.join("training_logs")),
                train::weights_path(config, run, fold).exists()
            ));
        }
        parts.push(format!("{:?}", sizes(&work.join("shards"))));
        parts.extend(tables.iter().map(|path| {
            atomic_file::checksum_file(path).map_or("-".into(), |sum| sum.to_string())
        }));
    }
    Ok(format!("{:016x}", atomic_file::checksum_parts(parts.iter().map(String::as_bytes))))
}

/// Names and bytes of the files in a folder.
fn sizes(folder: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sizes: Vec<_> =
        entries.map(|e| (e.file_name(), e.metadata().map_or(0, |m| m.len()))).collect();
    sizes.sort();
    sizes
}

/// The number that a report was made from; it stands in its first lines.
fn made_from(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(2000).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    let (_, rest) = head.split_once("<meta name=\"source\" content=\"")?;
    Some(rest.split_once('"')?.0.into())
}

/// A run that is set beside another, by its name.
///
/// # Errors
/// Usage where there is none of that name.
pub fn other(config: &Config, name: &str) -> Result<Run> {
    match Run::named(config, Some(name))? {
        Some(run) if run.folder.join("config.toml").exists() => Ok(run),
        _ => Err(Error::usage(format!(
            "--compare {name}: there is no such run in {}",
            config.paths.results.display()
        ))),
    }
}
