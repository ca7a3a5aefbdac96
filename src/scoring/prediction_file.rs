//! Predictions as HDF5: `/ids`, `/probabilities` f32 `[n, 28]`. Written by training (out of fold)
//! and by `predict` (test), read by `submit` and `evaluate`, and by h5py.

use std::path::Path;

use hdf5::types::{VarLenAscii, VarLenUnicode};
use ndarray::Array2;

use crate::{
    base::{
        Error, Result,
        atomic_file::{self, Temporary},
        checksum, hdf5_file,
    },
    data::labels::CLASSES,
};

/// Probabilities of some samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    pub ids: Vec<String>,
    /// `[n, 28]`, 0 to 1.
    pub probabilities: Array2<f32>,
}

impl Predictions {
    /// Writes the file, whole or not at all. `source` is the hash of what the predictions were made
    /// from, by which [`is_fresh`](Self::is_fresh) recognises stale ones.
    pub fn write(&self, path: &Path, source: u64) -> Result<()> {
        let attributes = [("source", source), ("xxh3", self.checksum())];
        write_hdf5(path, &self.ids, "probabilities", &self.probabilities, &attributes)
    }

    /// Reads a file of [`write`](Self::write), or any HDF5 file with the same two data sets.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with_source(path).map(|(predictions, _)| predictions)
    }

    fn read_with_source(path: &Path) -> Result<(Self, Option<u64>)> {
        let Hdf5 { ids, values, checksum, source, .. } = read_hdf5(path)?;
        let ids = ids.ok_or_else(|| Error::data(path, "no dataset /ids"))?;
        if values.ncols() != CLASSES {
            let what = format!("/probabilities has {} columns, expected {CLASSES}", values.ncols());
            return Err(Error::data(path, what));
        }
        if values.iter().any(|p| !p.is_finite()) {
            return Err(Error::data(path, "/probabilities holds a value that is not a number"));
        }
        let read = Self { ids, probabilities: values.mapv(|p| p as f32) };
        match checksum {
            Some(sum) if sum != read.checksum() => Err(Error::data(
                path,
                "its content does not match its checksum; remove it and run the command again",
            )),
            _ => Ok((read, source)),
        }
    }

    fn checksum(&self) -> u64 {
        let numbers: Vec<u8> = self.probabilities.iter().flat_map(|p| p.to_le_bytes()).collect();
        checksum::of_parts(self.ids.iter().map(String::as_bytes).chain([&numbers[..]]))
    }

    /// Whether `path` has intact predictions made from `source`.
    pub fn is_fresh(path: &Path, source: u64) -> bool {
        Self::read_with_source(path).is_ok_and(|(_, made_with)| made_with == Some(source))
    }
}

/// Writes `/ids` and a matrix `name` `[n, columns]` with attributes of the file, whole or not at
/// all.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_hdf5(
    path: &Path,
    ids: &[String],
    name: &str,
    values: &Array2<f32>,
    attributes: &[(&str, u64)],
) -> Result<()> {
    let temporary = Temporary(atomic_file::temporary_name(path)?);
    let temporary = &temporary.0;
    let write = || -> hdf5::Result<()> {
        // Without times, so that equal content gives equal bytes.
        let file =
            hdf5_file::options().with_fcpl(|p| p.obj_track_times(false)).create(temporary)?;
        let new = || file.new_dataset_builder().obj_track_times(false);
        let ids: Vec<VarLenUnicode> = ids.iter().map(|id| id.parse().unwrap_or_default()).collect();
        new().with_data(&ids).create("ids")?;
        new().with_data(values).create(name)?;
        for (name, value) in attributes {
            file.new_attr::<u64>().create(*name)?.write_scalar(value)?;
        }
        file.close()
    };
    write().map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
    let written = std::fs::File::open(temporary).map_err(Error::io("open", temporary))?;
    atomic_file::sync(&written, temporary)?;
    atomic_file::publish(temporary, path)
}

/// The content of an HDF5 file with `/probabilities` and optionally `/ids`.
pub struct Hdf5 {
    pub ids: Option<Vec<String>>,
    /// `[n, columns]`
    pub values: Array2<f64>,
    /// Whether the file holds numbers of at most 32-bit float precision.
    pub single: bool,
    /// Only in files of this program.
    checksum: Option<u64>,
    source: Option<u64>,
}

/// Reads predictions of this or another program, numbers of any type.
///
/// # Errors
/// [`Error::Data`] names what is missing or inconsistent.
pub fn read_hdf5(path: &Path) -> Result<Hdf5> {
    let wrong =
        |what: &'static str| move |e: hdf5::Error| Error::data(path, format!("{what}: {e}"));
    std::fs::metadata(path).map_err(Error::io("read", path))?;
    let file = hdf5_file::options().open(path).map_err(wrong("not an HDF5 file, or damaged"))?;
    let data = file.dataset("probabilities").map_err(wrong("no dataset /probabilities"))?;
    let values =
        data.read_2d::<f64>().map_err(wrong("/probabilities is not a matrix of numbers"))?;
    let single = data.dtype().is_ok_and(|t| t.size() < 8);
    let mut ids = None;
    if file.link_exists("ids") {
        let set = file.dataset("ids").map_err(wrong("/ids"))?;
        let read = match set.read_1d::<VarLenUnicode>() {
            Ok(ids) => Ok(ids.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Err(_) => set
                .read_1d::<VarLenAscii>()
                .map(|ids| ids.iter().map(ToString::to_string).collect()),
        };
        let read = read.map_err(wrong("/ids are not strings of variable length"))?;
        if read.len() != values.nrows() {
            let what = format!("{} ids but {} rows of probabilities", read.len(), values.nrows());
            return Err(Error::data(path, what));
        }
        ids = Some(read);
    }
    let number = |name: &str| file.attr(name).and_then(|a| a.read_scalar::<u64>()).ok();
    Ok(Hdf5 { ids, values, single, checksum: number("xxh3"), source: number("source") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_predictions_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.h5");
        let probabilities =
            Array2::from_shape_fn((3, CLASSES), |(i, c)| (i * CLASSES + c) as f32 / 100.0);
        let p = Predictions { ids: ["a", "b", "é"].map(String::from).to_vec(), probabilities };
        p.write(&path, 7).unwrap();
        assert_eq!(Predictions::read(&path).unwrap(), p);
        assert!(Predictions::is_fresh(&path, 7) && !Predictions::is_fresh(&path, 8));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|w| w == 0.83f32.to_le_bytes()).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let e = Predictions::read(&path).unwrap_err();
        assert!(e.exit_code() == 65 && e.to_string().contains("checksum"), "{e}");
        std::fs::write(&path, "no").unwrap();
        assert_eq!(Predictions::read(&path).unwrap_err().exit_code(), 65);
    }
}
