//! Ranges that the types of the keys do not express.

use super::{Augment, Config, Fetch, Losses, Preprocess, Split, Train};

/// A key (or several) whose value is out of range, and what was expected.
pub(super) struct Fault {
    pub key: String,
    pub want: &'static str,
}

impl Fault {
    /// Unless the condition `holds`.
    fn unless(holds: bool, key: &str, want: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { key: key.into(), want }) }
    }
}

/// The first key that is out of range.
pub(super) fn check(config: &Config) -> Result<(), Fault> {
    let finite = |value: &toml::Value| value.as_float().is_none_or(f64::is_finite);
    let all_finite = |value: &toml::Value| {
        finite(value) && value.as_array().is_none_or(|values| values.iter().all(finite))
    };
    if let Some((key, _)) = config.leaves().into_iter().find(|(_, value)| !all_finite(value)) {
        return Err(Fault { key, want: "a finite number" });
    }
    let (dedup, comm) = (&config.dedup, &config.comm);
    let unless = Fault::unless;
    unless(config.threads.is_none_or(|n| (1..=4096).contains(&n)), "threads", "from 1 to 4096")?;
    fetch(&config.fetch)?;
    preprocess(&config.preprocess)?;
    unless(dedup.radius <= 64, "dedup.radius", "from 0 to 64 bits")?;
    unless((-1.0..=1.0).contains(&dedup.min_correlation), "dedup.min_correlation", "from -1 to 1")?;
    split(&config.split)?;
    unless((0.0..1.0).contains(&config.model.dropout), "model.dropout", "from 0 to below 1")?;
    augment(&config.augment)?;
    train(&config.train)?;
    let seconds = 1.0..=1e6;
    let want = "from 1 to 1000000";
    unless(seconds.contains(&comm.timeout_seconds), "comm.timeout_seconds", want)?;
    unless(seconds.contains(&comm.start_timeout_seconds), "comm.start_timeout_seconds", want)?;
    losses(&config.train.loss)
}

fn is_share(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

fn fetch(f: &Fetch) -> Result<(), Fault> {
    let unless = Fault::unless;
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
    unless((1..=64).contains(&f.connections), "fetch.connections", "from 1 to 64")?;
    unless(
        (0.01..=1000.0).contains(&f.requests_per_second),
        "fetch.requests_per_second",
        "from 0.01 to 1000",
    )?;
    unless(
        [f.connect_timeout_seconds, f.read_timeout_seconds]
            .iter()
            .all(|s| (0.1..=3600.0).contains(s)),
        "fetch.connect_timeout_seconds and fetch.read_timeout_seconds",
        "from 0.1 to 3600",
    )?;
    unless((1..=100).contains(&f.attempts), "fetch.attempts", "from 1 to 100")?;
    unless((0.0..=60.0).contains(&f.backoff_seconds), "fetch.backoff_seconds", "from 0 to 60")?;
    unless(is_share(f.max_missing_fraction), "fetch.max_missing_fraction", "from 0 to 1")?;
    unless((1..=10_000).contains(&f.tasks), "fetch.tasks", "from 1 to 10000")
}

fn preprocess(p: &Preprocess) -> Result<(), Fault> {
    let unless = Fault::unless;
    unless((16..=8192).contains(&p.size), "preprocess.size", "from 16 to 8192 pixels")?;
    unless(p.shard_samples > 0, "preprocess.shard_samples", "at least 1")?;
    unless(p.tasks > 0, "preprocess.tasks", "at least 1")?;
    unless(is_share(p.max_bad_fraction), "preprocess.max_bad_fraction", "from 0 to 1")
}

fn split(s: &Split) -> Result<(), Fault> {
    let unless = Fault::unless;
    unless(s.folds >= 2, "split.folds", "at least 2")?;
    unless(s.holdout > 0.0 && s.holdout < 1.0, "split.holdout", "between 0 and 1")?;
    unless((1..=2).contains(&s.order), "split.order", "1 or 2")
}

fn augment(a: &Augment) -> Result<(), Fault> {
    let unless = Fault::unless;
    unless(a.crop >= 32 && a.crop <= a.resize, "augment.crop", "from 32 to augment.resize pixels")?;
    unless(a.resize <= 4096, "augment.resize", "at most 4096 pixels")?;
    unless(
        [a.rot90, a.flip, a.brightness_contrast, a.elastic].into_iter().all(is_share),
        "augment.rot90, augment.flip, augment.brightness_contrast and augment.elastic",
        "probabilities from 0 to 1",
    )?;
    unless(is_share(a.contrast), "augment.contrast", "from 0 to 1")?;
    unless((0.0..=10.0).contains(&a.brightness), "augment.brightness", "from 0 to 10")?;
    unless(
        (0.0..=256.0).contains(&a.elastic_affine),
        "augment.elastic_affine",
        "from 0 to 256 pixels",
    )?;
    unless(
        (0.0..=10_000.0).contains(&a.elastic_alpha),
        "augment.elastic_alpha",
        "from 0 to 10000 pixels",
    )?;
    unless(
        (0.0..=1000.0).contains(&a.elastic_sigma),
        "augment.elastic_sigma",
        "from 0 to 1000 pixels",
    )
}

fn train(t: &Train) -> Result<(), Fault> {
    let unless = Fault::unless;
    unless(t.epochs > 0, "train.epochs", "at least 1")?;
    unless(t.batch >= 2, "train.batch", "at least 2 (batch norm needs two samples)")?;
    unless(
        t.micro_batch != 1,
        "train.micro_batch",
        "0 (the whole batch) or at least 2 (batch norm needs two samples)",
    )?;
    unless(t.lr > 0.0, "train.lr", "above 0")?;
    unless(is_share(t.weight_decay), "train.weight_decay", "from 0 to 1")?;
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
    unless((0.0..=2.0).contains(&t.balance), "train.balance", "from 0 to 2")?;
    unless(t.max_samples != 1, "train.max_samples", "0 (all) or at least 2")?;
    unless(t.validate_every > 0, "train.validate_every", "at least 1")?;
    unless(t.div >= 1.0 && t.final_div >= 1.0, "train.div and train.final_div", "at least 1")?;
    unless((1..=4096).contains(&t.ranks), "train.ranks", "from 1 to 4096")?;
    unless(t.max_minutes >= 0.0, "train.max_minutes", "at least 0 (0: no limit)")
}

fn losses(l: &Losses) -> Result<(), Fault> {
    let unless = Fault::unless;
    let weights = [l.bce, l.focal, l.lovasz, l.soft_f1];
    unless(
        weights.iter().all(|&w| w >= 0.0),
        "train.loss.bce, train.loss.focal, train.loss.lovasz and train.loss.soft_f1",
        "at least 0",
    )?;
    unless(is_share(l.focal_alpha), "train.loss.focal_alpha", "from 0 to 1")?;
    unless((0.0..=10.0).contains(&l.focal_gamma), "train.loss.focal_gamma", "from 0 to 10")?;
    unless(
        weights.iter().any(|&w| w > 0.0),
        "train.loss",
        "a sum with at least one positive weight",
    )
}
