//! The contents of the page: one module and one template per section.

use serde::Serialize;

use crate::{
    base::Result,
    views::report::{
        fold_epochs::FoldEpochs,
        grouping::{Grouping, grouping},
        near_duplicates,
        scored_run::ScoredRun,
        thumbnail::Thumbnails,
    },
};

mod activation_maps;
mod advice;
mod calibration;
mod classes;
mod compare;
mod confusion;
mod curves;
mod duplicates;
mod folds;
mod glance;
mod learning;
mod samples;
mod thresholds;

/// Everything that `page.html` shows, by the name of the section.
#[derive(Serialize)]
pub struct Page<'a> {
    /// Of the run.
    name: String,
    /// Hash of what the page is made from.
    source: &'a str,
    version: &'static str,
    /// Date and time.
    made: String,
    glance: glance::Glance<'a>,
    /// `None` for a single run.
    compare: Option<compare::Comparison>,
    learning: learning::Learning,
    classes: classes::Classes,
    confusion: confusion::ConfusionTables,
    curves: Vec<curves::ClassCurve>,
    calibration: calibration::Calibration,
    thresholds: thresholds::ThresholdTables<'a>,
    folds: folds::FoldScores,
    /// Of wells or antibodies between folds.
    grouping: Grouping,
    /// `None` where `dedup` was not run.
    duplicates: Option<duplicates::Duplicates>,
    samples: samples::Samples,
    activation_maps: activation_maps::ActivationMaps,
}

impl<'a> Page<'a> {
    /// The page of the first of `runs`, compared with the others.
    ///
    /// # Errors
    /// Data where a file of the run or of the data is damaged.
    pub fn of(runs: &'a [(ScoredRun, Vec<FoldEpochs>)], source: &'a str) -> Result<Self> {
        let (scored, folds) = &runs[0];
        let thumbnails = Thumbnails::open(&scored.work);
        let found = near_duplicates::read(scored.work.path(), &scored.folds)?;
        let found = found.as_ref();
        Ok(Self {
            name: scored.run.name(),
            source,
            version: env!("CARGO_PKG_VERSION"),
            made: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            glance: glance::Glance::of(scored, folds, found)?,
            compare: (runs.len() > 1).then(|| compare::Comparison::of(runs)).transpose()?,
            learning: learning::Learning::of(folds)?,
            classes: classes::Classes::of(scored, folds)?,
            confusion: confusion::ConfusionTables::of(scored),
            curves: curves::curves(scored)?,
            calibration: calibration::Calibration::of(scored)?,
            thresholds: thresholds::ThresholdTables::of(scored),
            folds: folds::FoldScores::of(scored, folds),
            grouping: grouping(&scored.folds, scored.config.split.groups),
            duplicates: found
                .map(|found| duplicates::Duplicates::of(&scored.config.dedup, &thumbnails, found))
                .transpose()?,
            samples: samples::Samples::of(scored, &thumbnails)?,
            activation_maps: activation_maps::ActivationMaps::of(scored, &thumbnails)?,
        })
    }
}
