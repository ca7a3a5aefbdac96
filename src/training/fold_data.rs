//! Which samples a fold trains and validates on.

use std::sync::Arc;

use crate::{
    base::{Error, Result, checksum},
    config::Split,
    data::{
        folds,
        labels::{self, Labels},
        manifest::Part,
        shard::Store,
        work_folder::WorkFolder,
    },
};

/// The samples of a fold.
pub struct FoldData {
    pub fold: usize,
    pub store: Arc<Store>,
    /// Indices into the store.
    pub train: Vec<usize>,
    pub valid: Vec<usize>,
    /// Labels of `train`.
    pub labels: Vec<Labels>,
    /// Hash of ids, images, labels and their order, by which a checkpoint names its data.
    pub hash: u64,
}

impl FoldData {
    /// With `max_samples` above 0, training uses at most so many.
    ///
    /// # Errors
    /// Data, where shards or folds are missing, damaged, do not fit each other or are too few.
    pub fn open(work: &WorkFolder, split: &Split, max_samples: usize, fold: usize) -> Result<Self> {
        let store = work.store(Part::Train)?.clone();
        let rows = work.folds(split)?;
        let path = work.path().join(folds::table::NAME);
        let (mut train, mut valid) = (Vec::new(), Vec::new());
        for row in rows {
            let missing = || {
                let what =
                    format!("sample {} is not in the shards; run `atlas split` again", row.id);
                Error::data(&path, what)
            };
            let at = store.find(&row.id).ok_or_else(missing)?;
            if row.folds.contains(&fold) { valid.push(at) } else { train.push(at) }
        }
        if max_samples > 0 {
            train.truncate(max_samples);
        }
        if train.len() < 2 || valid.is_empty() {
            let what = format!(
                "fold {fold} has {} samples to train and {} to validate on; more data, fewer \
                    split.folds or finer split.groups are needed",
                train.len(),
                valid.len()
            );
            return Err(Error::data(path, what));
        }
        let labels: Vec<Labels> = train.iter().map(|&s| store.labels(s)).collect();
        let line = |&s: &usize| {
            format!("{}:{:016x}:{}\n", store.id(s), store.checksum(s), store.labels(s))
        };
        let [of_train, of_valid] =
            [&train, &valid].map(|part| part.iter().map(line).collect::<String>());
        let size = store.size().to_le_bytes();
        let hash = checksum::of_parts([of_train.as_bytes(), of_valid.as_bytes(), &size]);
        Ok(Self { fold, store, train, valid, labels, hash })
    }

    /// One line that names the classes without a sample to train on, and one for validation.
    pub fn absent(&self) -> Vec<String> {
        let valid = self.valid.iter().map(|&s| self.store.labels(s));
        let of_train = labels::absent(self.labels.iter().copied(), "the training part");
        of_train.into_iter().chain(labels::absent(valid, "the validation part")).collect()
    }
}
