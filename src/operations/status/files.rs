//! Which results are there and up to date.

use std::{fs, path::Path, time::SystemTime};

use crate::{
    base::{Result, pipeline_step::Step},
    config::Config,
    data::{dedup::job, folds::table, manifest::Part, shard, work_folder::WorkFolder},
    inference::{finished_run, predict, submit},
    training::{
        fold_status::{FoldStatus, fold_status},
        run_folder::Run,
    },
};

/// The files of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// Some are missing.
    Missing,
    /// Made from other data or with other settings than the present ones.
    Stale,
    Done,
}
use FileState::{Done, Missing, Stale};

/// The state of a single file or table that can only be missing, stale or done.
fn state(is_done: bool, exists: bool) -> FileState {
    match (is_done, exists) {
        (true, _) => Done,
        (false, true) => Stale,
        (false, false) => Missing,
    }
}

fn all_done(states: &[FileState]) -> bool {
    states.iter().all(|state| *state == Done)
}

/// By step from `plan` to `submit`, the state of each task's files. A step counts as missing where
/// the steps before it are not done.
pub(super) fn file_states(
    config: &Config,
    work: &WorkFolder,
    run: Option<&Run>,
) -> Vec<(Step, Vec<FileState>)> {
    let planned = work.plan().ok();
    let tasks = planned.map_or(config.preprocess.tasks, |plan| plan.tasks);
    let missing = || vec![Missing; tasks];
    let preprocessed = planned.and_then(|_| shards(work, tasks).ok()).unwrap_or_else(missing);
    let is_packed = planned.is_some() && all_done(&preprocessed);
    let dedup = is_packed.then(|| job::status(work, &config.dedup, tasks).ok()).flatten();
    let is_merged = dedup.as_ref().is_some_and(|dedup| dedup.is_merged);
    let searched = dedup.map_or_else(missing, |dedup| {
        dedup.tasks.into_iter().map(|is_done| state(is_done, false)).collect()
    });
    let is_split = is_packed && is_merged && work.folds(&config.split).is_ok();
    let trained = match run {
        Some(run) if is_split && run.folder.exists() => folds(config, work, run),
        _ => vec![Missing; config.split.folds],
    };
    let (predicted, submitted) = match run {
        Some(run) if is_split && all_done(&trained) => {
            predicted_and_submitted(config, work, run, tasks).ok()
        }
        _ => None,
    }
    .unwrap_or_else(|| (missing(), Missing));
    vec![
        (Step::Plan, vec![state(planned.is_some(), false)]),
        (Step::Preprocess, preprocessed),
        (Step::Dedup, searched),
        (Step::Merge, vec![state(is_merged, job::exists(work))]),
        (Step::Split, vec![state(is_split, work.path().join(table::NAME).exists())]),
        (Step::Train, trained),
        (Step::Predict, predicted),
        (Step::Submit, vec![submitted]),
    ]
}

/// The shards of each preprocessing task; one that is there but not as it should be, such as of
/// another manifest or size, makes it stale.
fn shards(work: &WorkFolder, tasks: usize) -> Result<Vec<FileState>> {
    let expected = work.expected()?;
    let mut states = vec![Done; tasks];
    for (unit, plan) in expected.manifest.shards().into_iter().enumerate() {
        let state = &mut states[unit % tasks];
        if shard::open_planned(work.path(), expected, unit, &plan).is_err() {
            match shard::path(work.path(), plan.part, plan.number).exists() {
                true => *state = Stale,
                false if *state == Done => *state = Missing,
                false => {}
            }
        }
    }
    Ok(states)
}

/// The training of each fold.
fn folds(config: &Config, work: &WorkFolder, run: &Run) -> Vec<FileState> {
    let fold = |k| match fold_status(config, work, run, k) {
        Ok(FoldStatus::Done) => Done,
        Ok(FoldStatus::ToDo) => Missing,
        Ok(FoldStatus::Stale) | Err(_) => Stale,
    };
    (0..config.split.folds).map(fold).collect()
}

/// The predictions of each task, and the submissions.
fn predicted_and_submitted(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    tasks: usize,
) -> Result<(Vec<FileState>, FileState)> {
    let files = predict::files(config, run, work.store(Part::Test)?)?;
    let fresh: Vec<bool> = files.iter().map(predict::ShardPredictions::is_fresh).collect();
    let task = |task: usize| {
        let mut stale_or_missing = (task..files.len()).step_by(tasks).filter(|&i| !fresh[i]);
        match stale_or_missing.clone().next() {
            None => Done,
            Some(_) => state(false, stale_or_missing.any(|i| files[i].path.exists())),
        }
    };
    let predicted: Vec<_> = (0..tasks).map(task).collect();
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let inputs = (0..config.split.folds)
        .map(|k| run.validation(k))
        .chain(files.iter().map(|f| f.path.clone()));
    let newest: Option<SystemTime> = inputs.filter_map(|p| modified(&p)).max();
    let last = if files.is_empty() { finished_run::SCORES } else { submit::FITTED };
    let written = modified(&run.folder.join(last));
    let is_done = fresh.iter().all(|f| *f) && written.is_some() && written >= newest;
    Ok((predicted, state(is_done, written.is_some())))
}
