//! Which samples a fold trains and validates on.

use std::sync::Arc;

use crate::{
    artefact,
    config::Config,
    error::{Error, Result},
    folds,
    labels::Labels,
    manifest::Part,
    shard::Store,
};

pub struct FoldData {
    pub store: Arc<Store>,
    /// Positions in the store.
    pub train: Vec<usize>,
    pub valid: Vec<usize>,
    /// Labels of `train`.
    pub labels: Vec<Labels>,
    /// Of ids, labels and parts: whether a checkpoint is about the same data.
    pub hash: u64,
}

impl FoldData {
    pub fn open(config: &Config, fold: usize) -> Result<Self> {
        let store = Arc::new(Store::open(&config.paths.work, Part::Train)?);
        let rows = folds::read(&config.paths.work)?;
        let folds = config.split.folds;
        if fold >= folds {
            return Err(Error::usage(format!("--fold {fold}: split.folds = {folds}, so a fold is 0 to {}", folds - 1)));
        }
        let (mut train, mut valid, mut unreadable) = (Vec::new(), Vec::new(), 0);
        for row in rows {
            if let Some(beyond) = row.folds.iter().find(|&&f| f >= folds) {
                let what = format!("sample {} is of fold {beyond}, but split.folds = {folds}; run `atlas split` again", row.id);
                return Err(Error::data(config.paths.work.join(folds::table::NAME), what));
            }
            match store.find(&row.id) {
                None => unreadable += 1,
                Some(at) if row.folds.contains(&fold) => valid.push(at),
                Some(at) => train.push(at),
            }
        }
        if unreadable > 0 {
            log::info!("{unreadable} samples of folds.csv are not in the shards (see quarantine-*.csv) and are left out");
        }
        if config.train.max_samples > 0 {
            train.truncate(config.train.max_samples);
        }
        if train.len() < 2 || valid.is_empty() {
            let path = config.paths.work.join("folds.csv");
            return Err(Error::data(
                path,
                format!(
                    "fold {fold} has {} samples to train and {} to validate on; run `atlas split` with the data at hand",
                    train.len(),
                    valid.len()
                ),
            ));
        }
        let labels: Vec<Labels> = train.iter().map(|&s| store.labels(s)).collect();
        let describe = |part: &[usize]| part.iter().map(|&s| format!("{}:{}\n", store.id(s), store.labels(s))).collect::<String>();
        let hash = artefact::checksum_parts([describe(&train).as_bytes(), describe(&valid).as_bytes(), &store.size().to_le_bytes()]);
        Ok(Self { store, train, valid, labels, hash })
    }
}
