//! `report.html`: a run on one self-contained page, which needs neither a network connection nor
//! the files that it was made from.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    base::{Error, Result, atomic_file, checksum},
    config::Config,
    data::{
        dedup::tables::{CONFLICTS, DUPLICATES, LEAKS},
        folds::table,
    },
    inference::finished_run::{SCORES, THRESHOLDS},
    training::{fold_weights, history::HISTORY, run_folder::Run},
    views::report::{fold_epochs::FoldEpochs, scored_run::ScoredRun, sections::Page},
};

mod activation_maps;
mod bootstrap;
mod charts;
mod confusion_counts;
mod cost;
mod fold_epochs;
#[cfg(test)]
mod golden;
mod grouping;
mod near_duplicates;
mod page;
mod precision_recall;
mod reliability;
mod scored_run;
mod sections;
mod selected_samples;
mod thumbnail;

pub use bootstrap::Interval;

/// The file in the run's folder.
pub const NAME: &str = "report.html";

/// The result of [`report`].
pub struct ReportOutcome {
    pub path: PathBuf,
    /// `None` where the report existed already, made from the same files.
    pub made: Option<Headline>,
}

/// The score at the top of the report.
pub struct Headline {
    /// Macro F1, cross-fitted, 0 to 1.
    pub macro_f1: f64,
    /// Its 95 % interval.
    pub interval: Interval,
}

/// Writes `results/<run>/report.html`, unless it exists and nothing that it is made from has
/// changed. The run is compared with `others`.
///
/// # Errors
/// Usage where no fold is finished or `submit` has not run; data where a file is damaged.
pub fn report(config: &Config, run: &Run, others: &[Run]) -> Result<ReportOutcome> {
    let path = run.folder.join(NAME);
    let mut all = vec![(config.clone(), run.clone())];
    for other in others {
        all.push((Config::load(Some(&other.folder.join("config.toml")), &[])?, other.clone()));
    }
    let source = source(&all)?;
    if made_from(&path).as_ref() == Some(&source) {
        return Ok(ReportOutcome { path, made: None });
    }
    let read =
        |(config, run): &(Config, Run)| Ok((ScoredRun::read(config, run)?, epochs(config, run)?));
    let runs = all.iter().map(read).collect::<Result<Vec<_>>>()?;
    atomic_file::write(&path, page::render(&Page::of(&runs, &source)?)?)?;
    let scored = &runs[0].0;
    let made = Some(Headline { macro_f1: scored.macro_f1(), interval: scored.interval() });
    Ok(ReportOutcome { path, made })
}

fn epochs(config: &Config, run: &Run) -> Result<Vec<FoldEpochs>> {
    let keep = config.train.keep;
    let of_fold = |k| -> Result<FoldEpochs> {
        let read = FoldEpochs::read(k, run)?;
        if run.weights(k, keep).exists() {
            read.compare(&fold_weights::state_of_fold(run, k, keep)?.history, run);
        }
        Ok(read)
    };
    run.finished_folds()?.into_iter().map(of_fold).collect()
}

/// A hash of what a report is made from: this program and the files of each run, without the task
/// logs (the cost), which grow with each command.
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
                folder.join(HISTORY),
                folder.join("metrics.jsonl"),
            ]);
            let keep = config.train.keep;
            let has_weights = run.weights(fold, keep).exists();
            if has_weights {
                fold_weights::of_fold(run, fold, keep)?;
            }
            // Of large files, only names and sizes are compared.
            let logs = sizes(&folder.join("training_logs"));
            parts.push(format!("{logs:?}{has_weights:?}"));
        }
        parts.push(format!("{:?}", sizes(&work.join("shards"))));
        parts.extend(
            tables
                .iter()
                .map(|path| checksum::of_file(path).map_or("-".into(), |sum| sum.to_string())),
        );
    }
    Ok(format!("{:016x}", checksum::of_parts(parts.iter().map(String::as_bytes))))
}

/// Names and bytes of the files in a folder.
fn sizes(folder: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sizes: Vec<_> =
        entries.map(|e| (e.file_name(), e.metadata().map_or(0, |m| m.len()))).collect();
    sizes.sort();
    sizes
}

/// The hash of what a report was made from, from its first lines.
fn made_from(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(2000).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    let (_, rest) = head.split_once("<meta name=\"source\" content=\"")?;
    Some(rest.split_once('"')?.0.into())
}

/// The run `name` in the folder `results`, to be compared with another.
///
/// # Errors
/// Usage where it does not exist.
pub fn other(results: &Path, name: &str) -> Result<Run> {
    match Run::named(results, Some(name))? {
        Some(run) if run.folder.join("config.toml").exists() => Ok(run),
        _ => Err(Error::usage(format!(
            "--compare {name}: there is no such run in {}",
            results.display()
        ))),
    }
}
