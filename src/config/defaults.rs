//! The value of every key that no file sets.

use super::*;

impl Default for Paths {
    fn default() -> Self {
        Self { work: "work".into(), results: "results".into() }
    }
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            competition: "human-protein-atlas-image-classification".into(),
            kaggle_url: "https://www.kaggle.com/api/v1".into(),
            images_url: "https://images.proteinatlas.org".into(),
            xml_url: "https://v18.proteinatlas.org/download/proteinatlas.xml.gz".into(),
            connections: 4,
            requests_per_second: 5.0,
            connect_timeout_seconds: 10.0,
            read_timeout_seconds: 60.0,
            attempts: 6,
            backoff_seconds: 1.0,
            max_missing_fraction: 0.05,
            tasks: 4,
        }
    }
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            size: 512,
            shard_samples: 512,
            max_bad_fraction: 0.01,
            max_pixels_side: 8192,
            tasks: 16,
        }
    }
}

impl Default for Dedup {
    fn default() -> Self {
        Self { radius: 12, min_correlation: 0.8 }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self {
            folds: 5,
            groups: Groups::Well,
            method: SplitMethod::Folds,
            holdout: 0.1,
            order: 1,
            seed: 0,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            arch: "se_resnext50_32x4d".into(),
            stem: Stem::Standard,
            head: Head::Seed,
            dropout: 0.5,
            weights: None,
        }
    }
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            resize: 512,
            crop: 448,
            rot90: 1.0,
            flip: 0.75,
            brightness_contrast: 0.5,
            brightness: 0.1,
            contrast: 0.2,
            per_channel: true,
            elastic: 0.3,
            elastic_affine: 30.0,
            elastic_alpha: 0.0,
            elastic_sigma: 50.0,
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 40,
            batch: 64,
            micro_batch: 0,
            lr: 1e-3,
            optimizer: Optimizer::Adamw,
            weight_decay: 0.02,
            decay_all: false,
            momentum: 0.9,
            beta2: 0.99,
            schedule: Schedule::OneCycle,
            pct_start: 0.3,
            div: 25.0,
            final_div: 1e4,
            momentum_max: 0.95,
            momentum_min: 0.85,
            milestones: vec![],
            gamma: 0.1,
            clip: 1.0,
            ema: 0.0,
            sampling: Sampling::Uniform,
            balance: 0.5,
            precision: Precision::Auto,
            layout: Layout::Auto,
            normalize: Normalize::Dataset,
            seed: 0,
            loss: Losses::default(),
            checkpoint_steps: 0,
            max_skipped_steps: 100,
            validate_every: 1,
            keep: Keep::Best,
            max_samples: 0,
            ranks: 1,
            sync_bn: false,
            max_minutes: 0.0,
            tensorboard: true,
        }
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            bce: 0.0,
            focal: 1.0,
            lovasz: 1.0,
            soft_f1: 0.0,
            focal_gamma: 2.0,
            focal_alpha: 0.0,
            focal_reduce: Reduce::Sum,
            lovasz_over: Over::Sample,
            soft_f1_over: Over::Class,
        }
    }
}

impl Default for Predict {
    fn default() -> Self {
        Self { tta: Tta::FiveCrop, reduce: CropReduce::Mean, batch: 0 }
    }
}

impl Default for Comm {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            wire: Wire::F32,
            timeout_seconds: 300.0,
            start_timeout_seconds: 1800.0,
        }
    }
}
