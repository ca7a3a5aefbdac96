//! The first section: the score, and what to know of the run before anything else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::advice::{Advice, advice};
use crate::{
    base::Result,
    config::{Config, Method},
    data::{
        labels::NAMES,
        manifest::{Part, Source},
    },
    scoring::metrics,
    training::run_folder::Run,
    views::report::{
        bootstrap::Interval,
        confusion_counts::ConfusionCounts,
        cost::Cost,
        fold_epochs::FoldEpochs,
        near_duplicates::NearDuplicates,
        scored_run::{ClassScores, RESAMPLES, ScoredRun},
    },
};

#[derive(Serialize)]
pub struct Glance<'a> {
    score: f64,
    /// Over the classes present, and their number.
    score_present: f64,
    classes_present: usize,
    interval: Interval,
    in_sample: f64,
    method: Method,
    map: f64,
    resamples: usize,
    groups: usize,
    samples: usize,
    best: Vec<ClassScores>,
    worst: Vec<ClassScores>,
    pairs: Vec<ConfusedPair>,
    /// Official training samples, external ones, and test samples.
    train: usize,
    external: usize,
    test: usize,
    /// Near-duplicates; `None` where `dedup` was not run.
    removed: Option<usize>,
    /// Finished folds.
    folds: usize,
    ranks: usize,
    config: &'a Config,
    /// Keys that are not at their defaults, with their values.
    changed: Vec<(String, String)>,
    toml: String,
    machine: BTreeMap<&'static str, String>,
    core_hours: f64,
    gpu_hours: f64,
    data_core_hours: f64,
    cost: Cost,
    advice: Vec<Advice>,
}

/// Two classes that are predicted instead of each other.
#[derive(Serialize)]
struct ConfusedPair {
    a: &'static str,
    b: &'static str,
    /// Samples for which `a` was missed and `b` predicted wrongly, and the other way round.
    there: u64,
    back: u64,
    both: u64,
}

impl<'a> Glance<'a> {
    pub fn of(
        scored: &'a ScoredRun,
        folds: &[FoldEpochs],
        found: Option<&NearDuplicates>,
    ) -> Result<Self> {
        let mut classes = scored.classes();
        classes.retain(|c| c.positives > 0);
        classes.sort_by(|a, b| b.f1.total_cmp(&a.f1).then(a.class.cmp(&b.class)));
        let confusion = ConfusionCounts::new(&scored.predicted, &scored.out_of_fold.truth);
        let pairs = confusion.most_confused(3).into_iter().map(|(there, back)| ConfusedPair {
            a: NAMES[there.missed],
            b: NAMES[there.predicted],
            there: there.count,
            back: back.count,
            both: there.count + back.count,
        });
        let (config, method, cost) = (&scored.config, scored.method(), scored.cost());
        let samples = &scored.work.manifest()?.samples;
        let count =
            |part, source| samples.iter().filter(|s| s.part == part && s.source == source).count();
        let ranks = folds.iter().flat_map(|f| f.steps.iter().map(|s| s.ranks)).max();
        Ok(Self {
            score: scored.macro_f1(),
            score_present: scored.macro_f1_present(),
            classes_present: metrics::classes_present(&scored.counts),
            interval: scored.interval(),
            in_sample: method.in_sample,
            method: method.method,
            map: scored.map(),
            resamples: RESAMPLES,
            groups: scored.bootstrap.groups,
            samples: scored.out_of_fold.ids.len(),
            best: classes.iter().take(3).cloned().collect(),
            worst: classes.iter().rev().take(3).cloned().collect(),
            pairs: pairs.collect(),
            train: count(Part::Train, Source::Official),
            external: count(Part::Train, Source::External),
            test: samples.iter().filter(|s| s.part == Part::Test).count(),
            removed: found.map(NearDuplicates::removed),
            folds: folds.len(),
            ranks: ranks.unwrap_or(0),
            config,
            changed: changed(config),
            toml: config.to_toml(),
            machine: machine(&scored.run),
            core_hours: Cost::core_hours(&cost.run),
            gpu_hours: Cost::gpu_hours(&cost.run),
            data_core_hours: Cost::core_hours(&cost.data),
            cost,
            advice: advice(scored, folds, found, &confusion),
        })
    }
}

/// From the run's provenance.json.
fn machine(run: &Run) -> BTreeMap<&'static str, String> {
    let provenance = run.provenance();
    let text = |key: &'static str| match &provenance[key] {
        serde_json::Value::Null => (key, "unknown".into()),
        serde_json::Value::String(text) => (key, text.clone()),
        value => (key, value.to_string()),
    };
    let keys =
        ["host", "processor", "threads", "git_commit", "atlas_version", "libtorch", "started"];
    keys.into_iter().map(text).collect()
}

/// The keys that are not at their defaults, without those of folders.
fn changed(config: &Config) -> Vec<(String, String)> {
    let defaults = Config::default().leaves();
    let own = config.leaves().into_iter().filter(|(key, value)| defaults.get(key) != Some(value));
    own.filter(|(key, _)| !key.starts_with("paths.") && !key.starts_with("data."))
        .map(|(key, value)| (key, value.to_string()))
        .collect()
}
