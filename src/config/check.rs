//! Ranges that the types of the keys do not express.

use std::{fmt::Display, ops::RangeInclusive, path::Component};

use super::{Augment, Config, Fetch, Losses, Preprocess, Split, Train};
use crate::base::Error;

/// A key (or several) whose value is out of range, and what was expected.
pub(super) struct Fault {
    pub key: String,
    pub want: String,
}

impl Fault {
    /// The error; `source` is the file or the option with the key.
    pub fn of(self, source: &str) -> Error {
        Error::usage(format!("{source}{} must be {}", self.key, self.want))
    }
}

/// The first key that is out of range.
pub(super) fn check(config: &Config) -> Result<(), Fault> {
    let finite = |value: &toml::Value| value.as_float().is_none_or(f64::is_finite);
    let all_finite = |value: &toml::Value| {
        finite(value) && value.as_array().is_none_or(|values| values.iter().all(finite))
    };
    if let Some((key, _)) = config.leaves().into_iter().find(|(_, value)| !all_finite(value)) {
        return Err(Fault { key, want: "a finite number".into() });
    }
    paths(config)?;
    let (dedup, comm) = (&config.dedup, &config.comm);
    within(config.threads.unwrap_or(1), 1..=4096, "threads")?;
    fetch(&config.fetch)?;
    preprocess(&config.preprocess)?;
    unless(dedup.radius <= 64, "dedup.radius", "from 0 to 64 bits")?;
    within(dedup.min_correlation, -1.0..=1.0, "dedup.min_correlation")?;
    split(&config.split)?;
    unless((0.0..1.0).contains(&config.model.dropout), "model.dropout", "from 0 to below 1")?;
    augment(&config.augment)?;
    train(&config.train)?;
    within(comm.timeout_seconds, 1.0..=1e6, "comm.timeout_seconds")?;
    within(comm.start_timeout_seconds, 1.0..=1e6, "comm.start_timeout_seconds")?;
    losses(&config.train.loss)
}

/// A fault where a path is empty, which would be the folder at hand, or has the name of a variable,
/// which only a shell replaces: a folder of that name would be made.
pub(super) fn paths(config: &Config) -> Result<(), Fault> {
    let (paths, data) = (&config.paths, &config.data);
    for (key, path) in [
        ("paths.work", Some(&paths.work)),
        ("paths.results", Some(&paths.results)),
        ("data.kaggle", data.kaggle.as_ref()),
        ("data.external", data.external.as_ref()),
        ("model.weights", config.model.weights.as_ref()),
    ] {
        let Some(path) = path else { continue };
        let is_variable = |name: Component| name.as_os_str().as_encoded_bytes().starts_with(b"$");
        let want = format!(
            "a path, not empty and without variables, which only a shell replaces; it is `{}`",
            path.display()
        );
        unless(!path.as_os_str().is_empty() && !path.components().any(is_variable), key, &want)?;
    }
    Ok(())
}

/// A fault unless the condition `holds`.
fn unless(holds: bool, key: &str, want: &str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault { key: key.into(), want: want.into() }) }
}

/// A fault unless `value` lies in `range`.
fn within<T: PartialOrd + Display>(
    value: T,
    range: RangeInclusive<T>,
    key: &str,
) -> Result<(), Fault> {
    let want = format!("from {} to {}", range.start(), range.end());
    unless(range.contains(&value), key, &want)
}

fn is_share(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

fn fetch(f: &Fetch) -> Result<(), Fault> {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_url = |text: &String| {
        text.split_once("://")
            .is_some_and(|(s, rest)| ["http", "https"].contains(&s) && !rest.is_empty())
    };
    unless(
        is_name(&f.competition),
        "fetch.competition",
        "the name in the competition's address, of letters, digits and -",
    )?;
    unless(
        [&f.kaggle_url, &f.images_url, &f.xml_url].into_iter().all(is_url),
        "fetch.kaggle_url, fetch.images_url and fetch.xml_url",
        "an address that begins with https:// (or http://)",
    )?;
    within(f.connections, 1..=64, "fetch.connections")?;
    within(f.requests_per_second, 0.01..=1000.0, "fetch.requests_per_second")?;
    within(f.connect_timeout_seconds, 0.1..=3600.0, "fetch.connect_timeout_seconds")?;
    within(f.read_timeout_seconds, 0.1..=3600.0, "fetch.read_timeout_seconds")?;
    within(f.attempts, 1..=100, "fetch.attempts")?;
    within(f.backoff_seconds, 0.0..=60.0, "fetch.backoff_seconds")?;
    within(f.max_missing_fraction, 0.0..=1.0, "fetch.max_missing_fraction")?;
    within(f.tasks, 1..=10_000, "fetch.tasks")
}

fn preprocess(p: &Preprocess) -> Result<(), Fault> {
    within(p.size, Preprocess::SIZES, "preprocess.size")?;
    unless(p.shard_samples > 0, "preprocess.shard_samples", "at least 1")?;
    unless(p.tasks > 0, "preprocess.tasks", "at least 1")?;
    within(p.max_bad_fraction, 0.0..=1.0, "preprocess.max_bad_fraction")
}

fn split(s: &Split) -> Result<(), Fault> {
    unless(s.folds >= 2, "split.folds", "at least 2")?;
    unless(s.holdout > 0.0 && s.holdout < 1.0, "split.holdout", "between 0 and 1")?;
    unless((1..=2).contains(&s.order), "split.order", "1 or 2")
}

fn augment(a: &Augment) -> Result<(), Fault> {
    unless(a.crop >= 32 && a.crop <= a.resize, "augment.crop", "from 32 to augment.resize pixels")?;
    unless(a.resize <= 4096, "augment.resize", "at most 4096 pixels")?;
    unless(
        [a.rot90, a.flip, a.brightness_contrast, a.elastic].into_iter().all(is_share),
        "augment.rot90, augment.flip, augment.brightness_contrast and augment.elastic",
        "probabilities from 0 to 1",
    )?;
    within(a.contrast, 0.0..=1.0, "augment.contrast")?;
    within(a.brightness, 0.0..=10.0, "augment.brightness")?;
    for (value, most, key) in [
        (a.elastic_affine, 256.0, "augment.elastic_affine"),
        (a.elastic_alpha, 10_000.0, "augment.elastic_alpha"),
        (a.elastic_sigma, 1000.0, "augment.elastic_sigma"),
    ] {
        unless((0.0..=most).contains(&value), key, &format!("from 0 to {most} pixels"))?;
    }
    Ok(())
}

fn train(t: &Train) -> Result<(), Fault> {
    unless(t.epochs > 0, "train.epochs", "at least 1")?;
    unless(t.batch >= 2, "train.batch", "at least 2 (batch norm needs two samples)")?;
    unless(
        t.micro_batch != 1,
        "train.micro_batch",
        "0 (the whole batch) or at least 2 (batch norm needs two samples)",
    )?;
    unless(t.lr > 0.0, "train.lr", "above 0")?;
    within(t.weight_decay, 0.0..=1.0, "train.weight_decay")?;
    unless(
        [t.momentum, t.beta2, t.momentum_max, t.momentum_min, t.ema]
            .into_iter()
            .all(|x| (0.0..1.0).contains(&x)),
        "train.momentum, train.beta2, train.momentum_max, train.momentum_min and train.ema",
        "from 0 to below 1",
    )?;
    unless(t.pct_start > 0.0 && t.pct_start < 1.0, "train.pct_start", "between 0 and 1")?;
    unless(t.milestones.iter().all(|&m| m >= 0.0), "train.milestones", "epochs from 0 on")?;
    unless(t.gamma > 0.0 && t.gamma <= 1.0, "train.gamma", "above 0 and at most 1")?;
    unless(t.clip >= 0.0, "train.clip", "at least 0 (0: no clipping)")?;
    within(t.balance, 0.0..=2.0, "train.balance")?;
    unless(t.max_samples != 1, "train.max_samples", "0 (all) or at least 2")?;
    unless(t.validate_every > 0, "train.validate_every", "at least 1")?;
    unless(t.div >= 1.0 && t.final_div >= 1.0, "train.div and train.final_div", "at least 1")?;
    within(t.ranks, 1..=4096, "train.ranks")?;
    unless(t.max_minutes >= 0.0, "train.max_minutes", "at least 0 (0: no limit)")
}

fn losses(l: &Losses) -> Result<(), Fault> {
    let weights = [l.bce, l.focal, l.lovasz, l.soft_f1];
    unless(
        weights.iter().all(|&w| w >= 0.0),
        "train.loss.bce, train.loss.focal, train.loss.lovasz and train.loss.soft_f1",
        "at least 0",
    )?;
    within(l.focal_alpha, 0.0..=1.0, "train.loss.focal_alpha")?;
    within(l.focal_gamma, 0.0..=10.0, "train.loss.focal_gamma")?;
    unless(
        weights.iter().any(|&w| w > 0.0),
        "train.loss",
        "a sum with at least one positive weight",
    )
}
