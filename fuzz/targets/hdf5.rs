//! Shards and predictions. A damaged one must be refused, or read as exactly what was written.

use std::{collections::BTreeSet, fmt::Debug, sync::LazyLock};

use atlas::{
    base::Result,
    data::shard::Reader,
    operations::verify,
    scoring::{metrics::matrix::read_predictions, prediction_file::Predictions},
};

use crate::{corpus, repair, scratch};

/// What the intact files of a corpus hold.
fn intact<T: Ord>(name: &str, read: fn(&[u8]) -> Result<T>) -> BTreeSet<T> {
    let whole: BTreeSet<T> = corpus::files(name).iter().filter_map(|b| read(b).ok()).collect();
    assert!(!whole.is_empty(), "no intact file in the corpus of {name}");
    whole
}

/// Panics where a file was accepted with a content that was never written.
pub fn must_be_intact<T: Ord + Debug>(read: Result<T>, intact: &BTreeSet<T>) {
    if let Ok(content) = read {
        assert!(intact.contains(&content), "accepted although it is damaged");
    }
}

/// Everything in a shard, images included.
fn shard_content(bytes: &[u8]) -> Result<String> {
    let shard = Reader::open(&scratch::file("shards/train-00000.h5", bytes))?;
    shard.verify()?;
    let mut image = vec![0; shard.size() * shard.size() * 4];
    let mut content = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {}",
        shard.ids(),
        shard.labels(),
        shard.phash(),
        shard.checksums(),
        shard.mean(),
        shard.std(),
        shard.manifest_hash(),
    );
    for i in 0..shard.len() {
        shard.read(i, &mut image)?;
        content += &format!("{:x}", atlas::base::checksum::of(&image));
    }
    Ok(content)
}

pub fn shard(bytes: &[u8]) {
    static INTACT: LazyLock<BTreeSet<String>> = LazyLock::new(|| intact("shard", shard_content));
    let intact = &*INTACT;
    must_be_intact(shard_content(bytes), intact);
}

/// A shard that someone sealed anew.
pub fn shard_resealed(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    repair::seal(&mut bytes);
    let _ = shard_content(&bytes);
}

fn prediction_content(bytes: &[u8]) -> Result<String> {
    let path = scratch::file("predictions/test-00000.h5", bytes);
    let Predictions { ids, probabilities } = Predictions::read(&path)?;
    Ok(format!("{ids:?} {:?}", probabilities.iter().map(|p| p.to_bits()).collect::<Vec<_>>()))
}

pub fn predictions(bytes: &[u8]) {
    static INTACT: LazyLock<BTreeSet<String>> =
        LazyLock::new(|| intact("predictions", prediction_content));
    let intact = &*INTACT;
    must_be_intact(prediction_content(bytes), intact);
    let _ = verify::check(&scratch::path("predictions/test-00000.h5"));
}

/// Predictions that someone sealed anew.
pub fn predictions_resealed(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    repair::seal(&mut bytes);
    let _ = prediction_content(&bytes);
}

/// Predictions of another program, as `evaluate` reads them.
pub fn foreign_predictions(bytes: &[u8]) {
    fn rows(bytes: &[u8]) -> Result<usize> {
        Ok(read_predictions(&scratch::file("foreign.h5", bytes))?.values.nrows())
    }
    static INTACT: LazyLock<BTreeSet<usize>> = LazyLock::new(|| intact("predictions_hdf5", rows));
    LazyLock::force(&INTACT);
    let _ = rows(bytes);
}
