//! A shard in its place: opened, and compared with what the manifest lays out under its name. All
//! steps after `preprocess` read shards through this.

use std::{collections::HashSet, path::Path};

use super::{Reader, path, quarantine_path, quarantined};
use crate::{
    base::{Error, Result},
    data::manifest::{Manifest, Part, ShardPlan},
};

/// What the shards of a work folder have to be like.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    pub manifest: &'a Manifest,
    /// [`Manifest::hash`] of it.
    pub hash: u64,
    /// `preprocess.size`
    pub size: usize,
}

/// Opens the shard with the position `unit` in [`Manifest::shards`].
///
/// # Errors
/// Data, naming the file, where it is missing or broken, was made from another manifest or with
/// another `preprocess.size`, or is another shard of the same manifest.
pub fn open_planned(
    work: &Path,
    expected: Expected,
    unit: usize,
    plan: &ShardPlan,
) -> Result<Reader> {
    let shard = Reader::open(&path(work, plan.part, plan.number))?;
    let Expected { manifest, hash, size } = expected;
    if shard.manifest_hash() != hash {
        return Err(Error::data(
            shard.path(),
            "made from another manifest than the current one; run `atlas preprocess` again",
        ));
    }
    if shard.size() != size {
        let found = shard.size();
        let what = format!(
            "holds images of {found} pixels a side, but preprocess.size is {size}; add --set \
             preprocess.size={found} to use it, or run `atlas preprocess` to make it again"
        );
        return Err(Error::data(shard.path(), what));
    }
    misplaced(&shard, manifest, plan)?;
    lacking(&shard, work, manifest, unit, plan)?;
    Ok(shard)
}

/// # Errors
/// Where it holds a sample that is not in `plan`, or labels where the part has none.
fn misplaced(shard: &Reader, manifest: &Manifest, plan: &ShardPlan) -> Result<()> {
    // Samples that could not be read are not in it; the others are in the order of the manifest.
    let mut planned = manifest.samples[plan.samples.clone()].iter();
    let stranger = shard.ids().iter().find(|id| !planned.any(|s| s.id == **id));
    let what = match stranger {
        Some(id) => match manifest.samples.iter().find(|s| s.id == *id) {
            Some(s) => {
                format!("holds samples of {}-{:05}.h5, such as {id}", s.part.name(), s.shard)
            }
            None => format!("holds the sample {id}, which is not in manifest.csv"),
        },
        None if shard.labels().is_some() != (plan.part == Part::Train) => {
            let labels = if plan.part == Part::Train { "has no labels" } else { "has labels" };
            format!("{labels}, unlike the {} part", plan.part.name())
        }
        None => return Ok(()),
    };
    let what = format!(
        "{what}: another file was copied or renamed to this name; run `atlas preprocess` again, \
         which makes the right one"
    );
    Err(Error::data(shard.path(), what))
}

/// # Errors
/// Where it lacks samples of `plan` that its quarantine list, if there is one, does not name.
fn lacking(
    shard: &Reader,
    work: &Path,
    manifest: &Manifest,
    unit: usize,
    plan: &ShardPlan,
) -> Result<()> {
    let list = quarantine_path(work, unit);
    if shard.len() == plan.samples.len() || !list.exists() {
        return Ok(());
    }
    let bad = quarantined(work, unit)?;
    let held = shard.ids().iter().chain(bad.iter().map(|b| &b.id));
    let known: HashSet<&str> = held.map(String::as_str).collect();
    let planned = &manifest.samples[plan.samples.clone()];
    let Some(sample) = planned.iter().find(|s| !known.contains(s.id.as_str())) else {
        return Ok(());
    };
    let what = format!(
        "lacks samples that {} does not list, such as {}; run `atlas preprocess` again",
        list.display(),
        sample.id
    );
    Err(Error::data(shard.path(), what))
}
