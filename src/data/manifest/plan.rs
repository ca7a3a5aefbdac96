//! `plan.json`: how the manifest is cut into shards and tasks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Manifest, Part};
use crate::{
    base::{Error, Result, atomic_file},
    config::Preprocess,
};

/// What `plan` fixed, so that `--array=3,7` gives the same shards as the whole array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub train_samples: usize,
    pub test_samples: usize,
    pub train_shards: usize,
    pub test_shards: usize,
    /// Number of tasks of the preprocess array.
    pub tasks: usize,
    /// Samples per shard.
    pub shard_samples: usize,
    /// [`Manifest::hash`] in hex.
    pub manifest_hash: String,
}

impl Plan {
    /// Cuts `manifest` into shards (this sets the shard numbers of its samples) and tasks.
    pub fn new(manifest: &mut Manifest, config: &Preprocess) -> Self {
        for part in [Part::Train, Part::Test] {
            for (i, sample) in manifest.samples.iter_mut().filter(|s| s.part == part).enumerate() {
                sample.shard = i / config.shard_samples;
            }
        }
        let (train_samples, test_samples) =
            (manifest.count(Part::Train), manifest.count(Part::Test));
        let (train_shards, test_shards) = (
            train_samples.div_ceil(config.shard_samples),
            test_samples.div_ceil(config.shard_samples),
        );
        Self {
            train_samples,
            test_samples,
            train_shards,
            test_shards,
            tasks: config.tasks.min(train_shards + test_shards).max(1),
            shard_samples: config.shard_samples,
            manifest_hash: format!("{:016x}", manifest.hash()),
        }
    }

    pub fn path(work: &Path) -> PathBuf {
        work.join("plan.json")
    }

    pub fn write(&self, work: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(Error::failed)?;
        text.push('\n');
        atomic_file::write(Self::path(work), text)
    }

    /// Reads `work/plan.json`, which must belong to the manifest with the hash `manifest_hash`.
    ///
    /// # Errors
    /// Data where it is missing, broken or belongs to another manifest.
    pub fn read(work: &Path, manifest_hash: u64) -> Result<Self> {
        let path = Self::path(work);
        let text = fs::read_to_string(&path)
            .map_err(|e| Error::data(&path, format!("{e}; run `atlas plan` first")))?;
        let plan: Self = serde_json::from_str(&text)
            .map_err(|e| Error::data(&path, format!("{e}; run `atlas plan` again")))?;
        if plan.manifest_hash != format!("{:016x}", manifest_hash) || plan.tasks == 0 {
            return Err(Error::data(
                &path,
                "does not belong to the manifest beside it; run `atlas plan` again",
            ));
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::manifest::tests::sample;

    #[test]
    fn each_part_is_cut_on_its_own_and_tasks_never_exceed_shards() {
        let mut manifest = Manifest {
            samples: (0..7)
                .map(|i| sample(&format!("a{i}"), Part::Train, 0))
                .chain((0..3).map(|i| sample(&format!("t{i}"), Part::Test, 0)))
                .collect(),
        };
        let plan = Plan::new(
            &mut manifest,
            &Preprocess { shard_samples: 3, tasks: 16, ..Preprocess::default() },
        );
        assert_eq!((plan.train_shards, plan.test_shards, plan.tasks), (3, 1, 4));
        assert_eq!(
            manifest.samples.iter().map(|s| s.shard).collect::<Vec<_>>(),
            [0, 0, 0, 1, 1, 1, 2, 0, 0, 0]
        );
        let dir = tempfile::tempdir().unwrap();
        plan.write(dir.path()).unwrap();
        assert_eq!(Plan::read(dir.path(), manifest.hash()).unwrap(), plan);
        manifest.samples.pop();
        let e = Plan::read(dir.path(), manifest.hash()).unwrap_err();
        assert!(e.exit_code() == 65 && e.to_string().contains("plan.json"), "{e}");
    }
}
