//! Ranges that types cannot say.

use super::Config;

/// A key whose value is out of range, and what was expected.
pub(super) struct Fault {
    pub key: &'static str,
    pub want: &'static str,
}

impl Config {
    /// The first key that is out of range.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let fail = |key, want| Err(Fault { key, want });
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let (p, a, t) = (&self.preprocess, &self.augment, &self.train);
        match () {
            () if self.threads == Some(0) => fail("threads", "at least 1"),
            () if !(16..=8192).contains(&p.size) => fail("preprocess.size", "from 16 to 8192 pixels"),
            () if p.shard_samples == 0 => fail("preprocess.shard_samples", "at least 1"),
            () if p.tasks == 0 => fail("preprocess.tasks", "at least 1"),
            () if !share(p.max_bad_fraction) => fail("preprocess.max_bad_fraction", "from 0 to 1"),
            () if self.dedup.radius > 64 => fail("dedup.radius", "from 0 to 64 bits"),
            () if self.split.folds < 2 => fail("split.folds", "at least 2"),
            () if !(self.split.holdout > 0.0 && self.split.holdout < 1.0) => fail("split.holdout", "between 0 and 1"),
            () if !(1..=2).contains(&self.split.order) => fail("split.order", "1 or 2"),
            () if !(0.0..1.0).contains(&self.model.dropout) => fail("model.dropout", "from 0 to below 1"),
            () if a.crop < 32 || a.crop > a.resize => fail("augment.crop", "from 32 to augment.resize pixels"),
            () if a.resize > 4096 => fail("augment.resize", "at most 4096 pixels"),
            () if ![a.rot90, a.flip, a.brightness_contrast, a.elastic].into_iter().all(share) => {
                fail("augment.rot90, augment.flip, augment.brightness_contrast and augment.elastic", "probabilities from 0 to 1")
            }
            () if !(0.0..=1.0).contains(&a.contrast) => fail("augment.contrast", "from 0 to 1"),
            () if t.epochs == 0 => fail("train.epochs", "at least 1"),
            () if t.batch < 2 => fail("train.batch", "at least 2 (batch norm needs two samples)"),
            () if t.micro_batch == 1 => fail("train.micro_batch", "0 (the whole batch) or at least 2 (batch norm needs two samples)"),
            () if !(t.lr > 0.0 && t.lr.is_finite()) => fail("train.lr", "above 0"),
            () if !(0.0..=1.0).contains(&t.weight_decay) => fail("train.weight_decay", "from 0 to 1"),
            () if ![t.momentum, t.beta2, t.momentum_max, t.momentum_min, t.ema].into_iter().all(|x| (0.0..1.0).contains(&x)) => {
                fail("train.momentum, train.beta2, train.momentum_max, train.momentum_min and train.ema", "from 0 to below 1")
            }
            () if !(t.pct_start > 0.0 && t.pct_start < 1.0) => fail("train.pct_start", "between 0 and 1"),
            () if t.validate_every == 0 => fail("train.validate_every", "at least 1"),
            () if t.div < 1.0 || t.final_div < 1.0 => fail("train.div and train.final_div", "at least 1"),
            () if self.predict.batch == 0 => fail("predict.batch", "at least 1"),
            () if [t.loss.bce, t.loss.focal, t.loss.lovasz, t.loss.soft_f1].iter().all(|&w| w <= 0.0) => {
                fail("train.loss", "a sum with at least one positive weight")
            }
            () => Ok(()),
        }
    }
}
