//! What is in `paths.work`, opened once per job and passed down: the manifest, the plan, the
//! shards and the folds.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use once_cell::sync::OnceCell;

use crate::{
    base::Result,
    config::{Config, Split},
    data::{
        folds::{FoldRow, table::FoldTable},
        manifest::{Manifest, Part, Plan},
        shard::{Expected, Store},
    },
};

/// A work folder. Each thing in it is read on first use and at most once; a read that fails is
/// tried again by the next caller. Shared by threads.
#[derive(Debug, Default)]
pub struct WorkFolder {
    path: PathBuf,
    /// `preprocess.size`, which its shards must have.
    size: usize,
    manifest: OnceCell<Manifest>,
    manifest_hash: OnceCell<u64>,
    plan: OnceCell<Plan>,
    train: OnceCell<Arc<Store>>,
    test: OnceCell<Arc<Store>>,
    folds: OnceCell<FoldTable>,
}

impl WorkFolder {
    /// `paths.work` of a configuration. Reads nothing yet.
    pub fn of(config: &Config) -> Self {
        Self::open(&config.paths.work, config.preprocess.size)
    }

    /// With shards of `size` pixels a side. Reads nothing yet.
    pub fn open(path: &Path, size: u32) -> Self {
        Self { path: path.into(), size: size as usize, ..Self::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// Those of [`Manifest::read`].
    pub fn manifest(&self) -> Result<&Manifest> {
        self.manifest.get_or_try_init(|| Manifest::read(&self.path))
    }

    /// [`Manifest::hash`] of the manifest.
    pub fn manifest_hash(&self) -> Result<u64> {
        self.manifest_hash.get_or_try_init(|| Ok(self.manifest()?.hash())).copied()
    }

    /// # Errors
    /// Those of [`Plan::read`].
    pub fn plan(&self) -> Result<&Plan> {
        self.plan.get_or_try_init(|| Plan::read(&self.path, self.manifest_hash()?))
    }

    /// What its shards have to be like.
    ///
    /// # Errors
    /// Those of [`Manifest::read`].
    pub fn expected(&self) -> Result<Expected<'_>> {
        let (manifest, hash) = (self.manifest()?, self.manifest_hash()?);
        Ok(Expected { manifest, hash, size: self.size })
    }

    /// The shards of a part.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn store(&self, part: Part) -> Result<&Arc<Store>> {
        let cell = if part == Part::Train { &self.train } else { &self.test };
        cell.get_or_try_init(|| Ok(Arc::new(Store::open(&self.path, part, self.expected()?)?)))
    }

    /// The rows of `folds.csv`, which must have been made with the settings `split` from the shards
    /// and duplicates in this folder.
    ///
    /// # Errors
    /// [`Error::Data`](crate::base::Error::Data) where the table is missing, broken or outdated.
    pub fn folds(&self, split: &Split) -> Result<&[FoldRow]> {
        let table =
            self.folds.get_or_try_init(|| FoldTable::read(&self.path, self.store(Part::Train)?))?;
        table.rows(split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let work = WorkFolder::open(dir.path(), 8);
        assert!(work.manifest().is_err(), "not there yet");
        Manifest::default().write(dir.path()).unwrap();
        let first: *const Manifest = work.manifest().unwrap();
        std::fs::remove_file(Manifest::path(dir.path())).unwrap();
        assert!(std::ptr::eq(first, work.manifest().unwrap()));
        // What depends on the manifest does not read it again either.
        assert!(work.store(Part::Test).unwrap().is_empty());
    }
}
