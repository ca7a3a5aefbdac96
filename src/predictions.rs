//! Predictions as HDF5: `/ids`, `/probabilities` f32 `[n, 28]`. Written by training (out of fold) and by `predict`
//! (test), read by `submit` and `evaluate`, and by h5py.

use std::path::Path;

use hdf5::types::VarLenUnicode;
use ndarray::Array2;

use crate::{
    artefact,
    error::{Error, Result},
    labels::CLASSES,
};

/// Probabilities of some samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    pub ids: Vec<String>,
    /// `[n, 28]`, 0 to 1.
    pub probabilities: Array2<f32>,
}

impl Predictions {
    /// Writes the file, whole or not at all. `source` names what the predictions were made with (a hash), so that a
    /// second run can tell whether they are stale.
    pub fn write(&self, path: &Path, source: u64) -> Result<()> {
        let temporary = artefact::temporary_name(path)?;
        let result = self.write_hdf5(&temporary, source).map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())));
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result?;
        std::fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(Error::io("sync", &temporary))?;
        artefact::publish(&temporary, path)
    }

    fn write_hdf5(&self, path: &Path, source: u64) -> hdf5::Result<()> {
        // Without times, so that equal predictions give equal bytes.
        let file = hdf5::File::with_options().with_fcpl(|p| p.obj_track_times(false)).create(path)?;
        let new = || file.new_dataset_builder().obj_track_times(false);
        let ids: Vec<VarLenUnicode> = self.ids.iter().map(|id| id.parse().unwrap_or_default()).collect();
        new().with_data(&ids).create("ids")?;
        new().with_data(&self.probabilities).create("probabilities")?;
        file.new_attr::<u64>().create("source")?.write_scalar(&source)?;
        file.close()
    }

    /// Reads a file of [`write`](Self::write), or any HDF5 file with the same two data sets.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |e: hdf5::Error| Error::data(path, format!("expected HDF5 with /ids and /probabilities [n, {CLASSES}]: {e}"));
        let file = hdf5::File::open(path).map_err(bad)?;
        let ids = file.dataset("ids").and_then(|d| d.read_raw::<VarLenUnicode>()).map_err(bad)?;
        let probabilities = file.dataset("probabilities").and_then(|d| d.read_2d::<f32>()).map_err(bad)?;
        if probabilities.dim() != (ids.len(), CLASSES) {
            return Err(Error::data(
                path,
                format!("/probabilities is {:?}, expected [{}, {CLASSES}] as /ids says", probabilities.dim(), ids.len()),
            ));
        }
        if probabilities.iter().any(|p| !p.is_finite()) {
            return Err(Error::data(path, "/probabilities holds a value that is not a number"));
        }
        Ok(Self { ids: ids.iter().map(ToString::to_string).collect(), probabilities })
    }

    /// Whether `path` holds whole predictions made with `source`.
    pub fn is_fresh(path: &Path, source: u64) -> bool {
        path.exists()
            && Self::read(path).is_ok()
            && hdf5::File::open(path).and_then(|f| f.attr("source")?.read_scalar::<u64>()).is_ok_and(|s| s == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.h5");
        let probabilities = Array2::from_shape_fn((3, CLASSES), |(i, c)| (i * CLASSES + c) as f32 / 100.0);
        let p = Predictions { ids: ["a", "b", "é"].map(String::from).to_vec(), probabilities };
        p.write(&path, 7).unwrap();
        assert_eq!(Predictions::read(&path).unwrap(), p);
        assert!(Predictions::is_fresh(&path, 7) && !Predictions::is_fresh(&path, 8));
        std::fs::write(&path, "no").unwrap();
        assert_eq!(Predictions::read(&path).unwrap_err().exit_code(), 65);
    }
}
