//! What makes a prediction stale. Each prediction file stores a hash, its `source`, of everything
//! that changes its numbers; a file with another source than the current one is predicted again.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    base::{Result, checksum},
    config::{Augment, CropReduce, Precision, Predict, Tta},
    data::shard::Reader,
};

/// Version of [`Settings`]. A change of the list, or of how the program predicts with equal
/// settings, takes the next number, and makes all earlier predictions stale.
const VERSION: u32 = 1;

/// All configuration keys that change a prediction. A key that is not listed leaves predictions
/// fresh, such as `predict.batch` and `threads`, which only change the order of floating-point
/// sums.
#[derive(Serialize)]
struct Settings {
    version: u32,
    /// `predict.tta`
    tta: Tta,
    /// `predict.reduce`
    reduce: CropReduce,
    /// `augment.resize`
    resize: u32,
    /// `augment.crop`
    crop: u32,
    /// `train.precision`; what `auto` stands for is in the checkpoint, and so in its hash.
    precision: Precision,
}

/// The source of predictions by the networks in `weights` (checkpoint files, in the order of the
/// folds).
///
/// # Errors
/// Where a weight file cannot be read.
pub fn source(
    predict: &Predict,
    augment: &Augment,
    precision: Precision,
    weights: &[PathBuf],
) -> Result<u64> {
    let settings = Settings {
        version: VERSION,
        tta: predict.tta,
        reduce: predict.reduce,
        resize: augment.resize,
        crop: augment.crop,
        precision,
    };
    let mut parts = vec![serde_json::to_vec(&settings).expect("plain data")];
    for file in weights {
        parts.push(checksum::of_file(file)?.to_le_bytes().to_vec());
    }
    Ok(checksum::of_parts(parts.iter().map(Vec::as_slice)))
}

/// The source of the predictions for the images of one shard; `networks` is that of [`source`].
pub fn shard_source(networks: u64, shard: &Reader) -> u64 {
    let images: Vec<u8> = shard.checksums().iter().flat_map(|sum| sum.to_le_bytes()).collect();
    let ids = shard.ids().iter().map(String::as_bytes);
    checksum::of_parts([&networks.to_le_bytes()[..], &images].into_iter().chain(ids))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_listed_setting_and_the_weights_make_predictions_stale_and_no_other_key_does() {
        let dir = tempfile::tempdir().unwrap();
        let weights = [dir.path().join("a"), dir.path().join("b")];
        weights.iter().for_each(|path| fs::write(path, "weights").unwrap());
        let of = |set: &[&str]| {
            let sets: Vec<String> = set.iter().map(ToString::to_string).collect();
            let Config { predict, augment, train, .. } = Config::load(None, &sets).unwrap();
            source(&predict, &augment, train.precision, &weights).unwrap()
        };
        let fresh = of(&[]);
        for set in [
            "predict.tta=none",
            "predict.tta=five_crop_d4",
            "predict.reduce=max",
            "augment.resize=700",
            "augment.crop=384",
            "train.precision=bf16",
        ] {
            assert_ne!(of(&[set]), fresh, "{set}");
        }
        for set in ["predict.batch=7", "threads=3", "augment.flip=0.25", "train.epochs=3"] {
            assert_eq!(of(&[set]), fresh, "{set}");
        }
        fs::write(&weights[1], "other weights").unwrap();
        assert_ne!(of(&[]), fresh);
    }
}
