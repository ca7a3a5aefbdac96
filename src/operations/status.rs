//! How far a pipeline is: which tasks of which jobs are done, running, failed or missing, told from
//! the files that they leave. What a scheduler knows beyond that is the program's affair.

use std::{collections::BTreeSet, fs, path::Path, time::SystemTime};

use crate::{
    base::{
        Result,
        task_log::{Attempt, Log},
    },
    config::Config,
    data::{
        dedup::job,
        folds::table,
        manifest::{Manifest, Part},
        shard::{self, Reader},
        work_folder::WorkFolder,
    },
    distributed::Heartbeat,
    inference::{finished_run, predict, submit},
    training::{
        run_folder::Run,
        train::{self, FoldStatus},
    },
};

/// The steps that a pipeline may begin with.
const FETCHING: [&str; 2] = ["fetch_kaggle", "fetch_external"];
/// The steps after them in order, by the names of their task logs.
const STEPS: [&str; 8] =
    ["plan", "preprocess", "dedup", "merge", "split", "train", "predict", "submit"];

/// One task of a step.
#[derive(Clone, Debug)]
pub struct Task {
    pub done: bool,
    /// What it left is of other data or settings than those at hand.
    pub stale: bool,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// Of a training under way.
    pub heartbeat: Option<Heartbeat>,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: &'static str,
    pub tasks: Vec<Task>,
}

/// Every step of `run` (of none: nothing is trained yet). The download is part of it where
/// `pipeline.sh --fetch` began the run.
///
/// What cannot be read is not done: that is what this tells.
pub fn steps(config: &Config, work: &WorkFolder, run: Option<&Run>) -> Vec<Step> {
    let planned = work.plan().and_then(|plan| Ok((plan, work.manifest()?))).ok();
    let tasks = planned.map_or(config.preprocess.tasks, |(plan, _)| plan.tasks);
    // (done, stale) by step and task
    let mut standings: [Vec<(bool, bool)>; 8] = Default::default();
    standings[0] = vec![(planned.is_some(), false)];
    standings[1] = vec![(false, false); tasks];
    if let Some((_, manifest)) = planned {
        standings[1] = preprocessed(config, manifest, tasks);
    }
    let packed = planned.is_some() && standings[1].iter().all(|s| s.0);
    let dedup = packed.then(|| job::status(work, &config.dedup, tasks).ok()).flatten();
    let merged = dedup.as_ref().is_some_and(|dedup| dedup.is_merged);
    let parts = dedup.map_or(vec![false; tasks], |dedup| dedup.tasks);
    standings[2] = parts.into_iter().map(|done| (done, false)).collect();
    standings[3] = vec![(merged, !merged && job::exists(work))];
    let split = packed && merged && work.folds(&config.split).is_ok();
    standings[4] = vec![(split, !split && work.path().join(table::NAME).exists())];
    standings[5] = match run {
        Some(run) if split && run.folder.exists() => (0..config.split.folds)
            .map(|k| {
                train::fold_status(config, work, run, k)
                    .map_or((false, true), |s| (s == FoldStatus::Done, s == FoldStatus::Stale))
            })
            .collect(),
        _ => vec![(false, false); config.split.folds],
    };
    let nothing = || [vec![(false, false); tasks], vec![(false, false)]];
    let trained = split && standings[5].iter().all(|s| s.0);
    [standings[6], standings[7]] = match run {
        Some(run) if trained => answered(config, work, run, tasks).unwrap_or_else(|_| nothing()),
        _ => nothing(),
    };
    let step = |(name, standings): (&'static str, Vec<(bool, bool)>)| {
        let task = |(i, (done, stale)): (usize, (bool, bool))| {
            let log = Log::of(work.path(), name, i);
            let (attempts, heartbeat) = match (name, run) {
                ("train" | "predict" | "submit", None) => (Vec::new(), None),
                ("train", Some(run)) => {
                    (log.in_run(&run.name()).read(), Heartbeat::read(&run.heartbeat(i)))
                }
                ("predict" | "submit", Some(run)) => (log.in_run(&run.name()).read(), None),
                _ => (log.read(), None),
            };
            Task { done, stale, attempts, heartbeat }
        };
        Step { name, tasks: standings.into_iter().enumerate().map(task).collect() }
    };
    let download =
        run.filter(|run| work.path().join("pipeline").join(run.name()).join("fetch").exists());
    let fetching = FETCHING.into_iter().filter(|_| download.is_some()).map(|name| {
        let task = |i| {
            let attempts = Log::of(work.path(), name, i).read();
            let done = attempts.last().and_then(|a| a.ended.as_ref()).is_some_and(|e| e.code == 0);
            Task { done, stale: false, attempts, heartbeat: None }
        };
        Step { name, tasks: (0..config.fetch.tasks).map(task).collect() }
    });
    fetching.chain(STEPS.into_iter().zip(standings).map(step)).collect()
}

/// By task, whether its shards are there, and whether some are of another manifest or size.
fn preprocessed(config: &Config, manifest: &Manifest, tasks: usize) -> Vec<(bool, bool)> {
    let (hash, mut of) = (manifest.hash(), vec![(true, false); tasks]);
    for (unit, plan) in manifest.shards().into_iter().enumerate() {
        let (done, stale) = &mut of[unit % tasks];
        match Reader::open(&shard::path(&config.paths.work, plan.part, plan.number)) {
            Ok(r) if r.manifest_hash() == hash && (r.size() == config.preprocess.size as usize) => {
            }
            Ok(_) => (*done, *stale) = (false, true),
            Err(_) => *done = false,
        }
    }
    of
}

/// Predictions by task, and the submissions.
fn answered(
    config: &Config,
    work: &WorkFolder,
    run: &Run,
    tasks: usize,
) -> Result<[Vec<(bool, bool)>; 2]> {
    let files = predict::files(config, run, work.store(Part::Test)?)?;
    let fresh: Vec<bool> = files.iter().map(predict::ShardPredictions::is_fresh).collect();
    let task = |task: usize| {
        let mine = || (task..files.len()).step_by(tasks);
        let done = mine().all(|i| fresh[i]);
        (done, !done && mine().any(|i| !fresh[i] && files[i].path.exists()))
    };
    let predicted: Vec<_> = (0..tasks).map(task).collect();
    let made = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let inputs = (0..config.split.folds)
        .map(|k| run.validation(k))
        .chain(files.iter().map(|f| f.path.clone()));
    let newest: Option<SystemTime> = inputs.filter_map(|p| made(&p)).max();
    let last =
        run.folder.join(if files.is_empty() { finished_run::SCORES } else { submit::FITTED });
    let there = made(&last);
    let done = fresh.iter().all(|f| *f) && there.is_some() && there >= newest;
    Ok([predicted, vec![(done, there.is_some() && !done)]])
}

/// Numbers as sbatch's `--array` takes them: `0-3,7`.
pub fn as_array(numbers: impl IntoIterator<Item = usize>) -> String {
    let numbers: BTreeSet<usize> = numbers.into_iter().collect();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let text = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ranges() {
        assert_eq!(as_array([]), "");
        assert_eq!(as_array([3]), "3");
        assert_eq!(as_array([7, 0, 1, 2, 4, 5, 9]), "0-2,4-5,7,9");
    }
}
