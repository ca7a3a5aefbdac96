//! Predictions as HDF5: `/ids`, `/probabilities` f32 `[n, 28]`. Written by training (out of fold)
//! and by `predict` (test), read by `submit` and `evaluate`, and by h5py.
//!
//! The files are those of [`sealed_hdf5`]. Files without a seal, of other programs or of this one
//! before it had seals, are read by [`foreign_predictions`].

use std::path::Path;

use ndarray::Array2;

use crate::{
    base::{
        Error, Result,
        atomic_file::{self, Temporary},
        checksum,
        sealed_hdf5::{self, Fault, Sealed, Table},
    },
    data::labels::CLASSES,
    scoring::foreign_predictions::{self, Hdf5},
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
        write_hdf5(path, &self.ids, "probabilities", &self.probabilities, &[("source", source)])
    }

    /// Reads a file of [`write`](Self::write), or any HDF5 file with the same two data sets.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with_source(path).map(|(predictions, _)| predictions)
    }

    fn read_with_source(path: &Path) -> Result<(Self, Option<u64>)> {
        let Hdf5 { ids, values, source, .. } = read_hdf5(path)?;
        let ids = ids.ok_or_else(|| Error::data(path, "no dataset /ids"))?;
        if values.ncols() != CLASSES {
            let what = format!("/probabilities has {} columns, expected {CLASSES}", values.ncols());
            return Err(Error::data(path, what));
        }
        if values.iter().any(|p| !p.is_finite()) {
            return Err(Error::data(path, "/probabilities holds a value that is not a number"));
        }
        Ok((Self { ids, probabilities: values.mapv(|p| p as f32) }, source))
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
    let (rows, columns) = values.dim();
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tables = [Table::of_texts("ids", ids)?, Table::new::<f32>(name, &[rows, columns], bytes)];
    let written = sealed_hdf5::finish(temporary, None, &tables, attributes)?;
    atomic_file::sync(&written, temporary)?;
    atomic_file::publish(temporary, path)
}

/// Reads predictions of this or another program, numbers of any type.
///
/// # Errors
/// [`Error::Data`] names what is missing, inconsistent or damaged.
pub fn read_hdf5(path: &Path) -> Result<Hdf5> {
    let faulty = |what: String| {
        let again = "remove it and run the job that wrote it again, train or predict";
        Error::data(path, format!("{what}; {again}"))
    };
    let file = match Sealed::open(path)? {
        Ok(sealed) => return read_sealed(&sealed).map_err(faulty),
        Err(Fault::NoSeal) => foreign_predictions::read(path)?,
        Err(fault) => return Err(faulty(fault.to_string())),
    };
    match file.checksum {
        Some(sum) if sum != content_checksum(&file) => {
            Err(faulty("its content does not match its checksum".into()))
        }
        _ => Ok(file),
    }
}

fn read_sealed(file: &Sealed) -> Result<Hdf5, String> {
    let [rows, columns] = file.place::<f32>("probabilities")?.shape[..] else {
        return Err("/probabilities is no matrix".into());
    };
    let shape = [rows as usize, columns as usize];
    let bytes = file.bytes::<f32>("probabilities", &shape)?;
    let values = bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
    Ok(Hdf5 {
        ids: Some(file.texts("ids", shape[0])?),
        values: Array2::from_shape_vec(shape, values.collect()).map_err(|e| e.to_string())?,
        single: true,
        source: file.attribute("source"),
        checksum: None,
    })
}

/// xxh3 of ids and numbers, as files without a seal have it.
fn content_checksum(file: &Hdf5) -> u64 {
    let numbers: Vec<u8> = file.values.iter().flat_map(|&p| (p as f32).to_le_bytes()).collect();
    let ids = file.ids.iter().flatten().map(String::as_bytes);
    checksum::of_parts(ids.chain([&numbers[..]]))
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
