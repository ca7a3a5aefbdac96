//! What `atlas run` decides: which run to continue, the number of each step, the time that remains,
//! and how to start a training on several ranks ([`launch`]).

pub mod launch;

use std::{fmt::Display, time::Instant};

use crate::{
    base::{Error, Result, progress::duration, stop_request::Stop},
    config::Config,
    data::work_folder::WorkFolder,
    training::{
        fold_status::{FoldStatus, fold_statuses},
        run_choice,
        run_folder::Run,
        train,
    },
};

/// Reports errors in the training's keys before hours of preprocessing. `named` is the run that the
/// command line names.
///
/// # Errors
/// Usage, where the run is of another configuration, or [`train::check`] refuses the keys.
pub fn check(config: &Config, named: Option<&Run>) -> Result<()> {
    match named {
        Some(run) if run.folder.exists() => run.must_be_of(config),
        None if run_choice::newest_of_any_samples(config).is_some() => Ok(()),
        _ => train::check(&config.model),
    }
}

/// The run to continue, with the status of its folds: the one named, else the newest one of this
/// configuration and these samples, unless the data changed since; else a new one.
pub fn choose_run(
    config: &Config,
    work: &WorkFolder,
    named: Option<Run>,
) -> Result<(Run, Vec<FoldStatus>)> {
    let new = || (Run::new(&config.paths.results), vec![FoldStatus::ToDo; config.split.folds]);
    let changed = |run: &Run| {
        log::info!("the data changed since the run {}; a new run starts", run.name());
    };
    let is_named = named.is_some();
    let Some(run) = named.or_else(|| run_choice::newest(config, work)) else {
        run_choice::newest_of_any_samples(config).iter().for_each(changed);
        return Ok(new());
    };
    if run.folder.exists() {
        run.begin(config, work)?; // writes its configuration again where that was lost
    }
    let statuses = fold_statuses(config, work, &run)?;
    if !is_named && statuses.contains(&FoldStatus::Stale) {
        changed(&run);
        return Ok(new());
    }
    Ok((run, statuses))
}

/// Numbers the steps of `atlas run` in the log.
pub struct Steps<'a> {
    begun: usize,
    folds: usize,
    stop: &'a Stop,
    /// When the first training began, and how many have ended since.
    training: Option<(Instant, usize)>,
}

impl<'a> Steps<'a> {
    pub fn new(folds: usize, stop: &'a Stop) -> Self {
        Self { begun: 0, folds, stop, training: None }
    }

    /// Announces the next step.
    ///
    /// # Errors
    /// [`Error::Stopped`] after `stop`.
    pub fn begin(&mut self, what: impl Display) -> Result<()> {
        self.begun += 1;
        // Besides the trainings: plan, preprocess, dedup, split, predict, submit, report.
        log::info!("step {} of {}: {what}", self.begun, self.folds + 7);
        if self.stop.asked() {
            return Err(Error::Stopped(
                "stopped between two steps; run the same command again to go on".into(),
            ));
        }
        Ok(())
    }

    /// Announces the training of `fold`, with the time that the remaining folds will take once one
    /// has been trained.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_fold(&mut self, fold: usize) -> Result<()> {
        let (since, trained) = *self.training.get_or_insert_with(|| (Instant::now(), 0));
        let mut what = format!("train fold {fold}");
        if trained > 0 {
            let each = since.elapsed().as_secs_f64() / trained as f64;
            let rest = duration(each * (self.folds - fold) as f64);
            what += &format!(", about {rest} of training left");
        }
        self.begin(what)
    }

    /// A fold was trained now, and not before.
    pub fn end_fold(&mut self) {
        self.training.iter_mut().for_each(|(_, trained)| *trained += 1);
    }
}
