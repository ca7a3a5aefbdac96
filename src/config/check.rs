//! Ranges that types cannot say.

use super::Config;

/// A key (or several) whose value is out of range, and what was expected.
pub(super) struct Fault {
    pub key: String,
    pub want: &'static str,
}

impl Config {
    /// The first key that is out of range.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let finite = |value: &toml::Value| value.as_float().is_none_or(f64::is_finite);
        let all_finite = |value: &toml::Value| {
            finite(value) && value.as_array().is_none_or(|values| values.iter().all(finite))
        };
        if let Some((key, _)) = self.leaves().into_iter().find(|(_, value)| !all_finite(value)) {
            return Err(Fault { key, want: "a finite number" });
        }
        let fail = |key: &str, want| Err(Fault { key: key.into(), want });
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let url = |text: &str| {
            text.split_once("://")
                .is_some_and(|(s, rest)| ["http", "https"].contains(&s) && !rest.is_empty())
        };
        let f = &self.fetch;
        let (p, a, t, l) = (&self.preprocess, &self.augment, &self.train, &self.train.loss);
        match () {
            () if self.threads.is_some_and(|n| !(1..=4096).contains(&n)) => {
                fail("threads", "from 1 to 4096")
            }
            () if f.competition.is_empty()
                || !f.competition.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
            {
                fail(
                    "fetch.competition",
                    "the name in the competition's address, of letters, digits and -",
                )
            }
            () if ![&f.kaggle_url, &f.images_url, &f.xml_url].into_iter().all(|u| url(u)) => fail(
                "fetch.kaggle_url, fetch.images_url and fetch.xml_url",
                "an address that begins with https:// (or http://)",
            ),
            () if !(1..=64).contains(&f.connections) => fail("fetch.connections", "from 1 to 64"),
            () if !(0.01..=1000.0).contains(&f.requests_per_second) => {
                fail("fetch.requests_per_second", "from 0.01 to 1000")
            }
            () if ![f.connect_timeout_seconds, f.read_timeout_seconds]
                .iter()
                .all(|s| (0.1..=3600.0).contains(s)) =>
            {
                fail(
                    "fetch.connect_timeout_seconds and fetch.read_timeout_seconds",
                    "from 0.1 to 3600",
                )
            }
            () if !(1..=100).contains(&f.attempts) => fail("fetch.attempts", "from 1 to 100"),
            () if !(0.0..=60.0).contains(&f.backoff_seconds) => {
                fail("fetch.backoff_seconds", "from 0 to 60")
            }
            () if !share(f.max_missing_fraction) => {
                fail("fetch.max_missing_fraction", "from 0 to 1")
            }
            () if !(1..=10_000).contains(&f.tasks) => fail("fetch.tasks", "from 1 to 10000"),
            () if !(16..=8192).contains(&p.size) => {
                fail("preprocess.size", "from 16 to 8192 pixels")
            }
            () if p.shard_samples == 0 => fail("preprocess.shard_samples", "at least 1"),
            () if p.tasks == 0 => fail("preprocess.tasks", "at least 1"),
            () if !share(p.max_bad_fraction) => fail("preprocess.max_bad_fraction", "from 0 to 1"),
            () if self.dedup.radius > 64 => fail("dedup.radius", "from 0 to 64 bits"),
            () if !(-1.0..=1.0).contains(&self.dedup.min_correlation) => {
                fail("dedup.min_correlation", "from -1 to 1")
            }
            () if self.split.folds < 2 => fail("split.folds", "at least 2"),
            () if !(self.split.holdout > 0.0 && self.split.holdout < 1.0) => {
                fail("split.holdout", "between 0 and 1")
            }
            () if !(1..=2).contains(&self.split.order) => fail("split.order", "1 or 2"),
            () if !(0.0..1.0).contains(&self.model.dropout) => {
                fail("model.dropout", "from 0 to below 1")
            }
            () if a.crop < 32 || a.crop > a.resize => {
                fail("augment.crop", "from 32 to augment.resize pixels")
            }
            () if a.resize > 4096 => fail("augment.resize", "at most 4096 pixels"),
            () if ![a.rot90, a.flip, a.brightness_contrast, a.elastic].into_iter().all(share) => {
                fail(
                    "augment.rot90, augment.flip, augment.brightness_contrast and augment.elastic",
                    "probabilities from 0 to 1",
                )
            }
            () if !(0.0..=1.0).contains(&a.contrast) => fail("augment.contrast", "from 0 to 1"),
            () if !(0.0..=10.0).contains(&a.brightness) => {
                fail("augment.brightness", "from 0 to 10")
            }
            () if !(0.0..=256.0).contains(&a.elastic_affine) => {
                fail("augment.elastic_affine", "from 0 to 256 pixels")
            }
            () if !(0.0..=10_000.0).contains(&a.elastic_alpha) => {
                fail("augment.elastic_alpha", "from 0 to 10000 pixels")
            }
            () if !(0.0..=1000.0).contains(&a.elastic_sigma) => {
                fail("augment.elastic_sigma", "from 0 to 1000 pixels")
            }
            () if t.epochs == 0 => fail("train.epochs", "at least 1"),
            () if t.batch < 2 => fail("train.batch", "at least 2 (batch norm needs two samples)"),
            () if t.micro_batch == 1 => fail(
                "train.micro_batch",
                "0 (the whole batch) or at least 2 (batch norm needs two samples)",
            ),
            () if !(t.lr > 0.0 && t.lr.is_finite()) => fail("train.lr", "above 0"),
            () if !(0.0..=1.0).contains(&t.weight_decay) => {
                fail("train.weight_decay", "from 0 to 1")
            }
            () if ![t.momentum, t.beta2, t.momentum_max, t.momentum_min, t.ema]
                .into_iter()
                .all(|x| (0.0..1.0).contains(&x)) =>
            {
                fail(
                    "train.momentum, train.beta2, train.momentum_max, train.momentum_min and \
                        train.ema",
                    "from 0 to below 1",
                )
            }
            () if !(t.pct_start > 0.0 && t.pct_start < 1.0) => {
                fail("train.pct_start", "between 0 and 1")
            }
            () if t.milestones.iter().any(|&m| m < 0.0) => {
                fail("train.milestones", "epochs from 0 on")
            }
            () if !(t.gamma > 0.0 && t.gamma <= 1.0) => {
                fail("train.gamma", "above 0 and at most 1")
            }
            () if t.clip < 0.0 => fail("train.clip", "at least 0 (0: no clipping)"),
            () if !(0.0..=2.0).contains(&t.balance) => fail("train.balance", "from 0 to 2"),
            () if t.max_samples == 1 => fail("train.max_samples", "0 (all) or at least 2"),
            () if t.validate_every == 0 => fail("train.validate_every", "at least 1"),
            () if t.div < 1.0 || t.final_div < 1.0 => {
                fail("train.div and train.final_div", "at least 1")
            }
            () if !(1..=4096).contains(&t.ranks) => fail("train.ranks", "from 1 to 4096"),
            () if t.max_minutes < 0.0 => fail("train.max_minutes", "at least 0 (0: no limit)"),
            () if !(1.0..=1e6).contains(&self.comm.timeout_seconds) => {
                fail("comm.timeout_seconds", "from 1 to 1000000")
            }
            () if !(1.0..=1e6).contains(&self.comm.start_timeout_seconds) => {
                fail("comm.start_timeout_seconds", "from 1 to 1000000")
            }
            () if [l.bce, l.focal, l.lovasz, l.soft_f1].iter().any(|&w| w < 0.0) => fail(
                "train.loss.bce, train.loss.focal, train.loss.lovasz and train.loss.soft_f1",
                "at least 0",
            ),
            () if !(0.0..=1.0).contains(&l.focal_alpha) => {
                fail("train.loss.focal_alpha", "from 0 to 1")
            }
            () if !(0.0..=10.0).contains(&l.focal_gamma) => {
                fail("train.loss.focal_gamma", "from 0 to 10")
            }
            () if [l.bce, l.focal, l.lovasz, l.soft_f1].iter().all(|&w| w <= 0.0) => {
                fail("train.loss", "a sum with at least one positive weight")
            }
            () => Ok(()),
        }
    }
}
