//! Predictions and truth from files of other programs: submissions, probability matrices, label
//! tables.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use ndarray::{Array2, Axis};

use crate::{
    base::{Error, Result},
    data::labels::{self, BadRow, CLASSES, Labels, NAMES},
    scoring::{metrics::npy, prediction_file},
};

/// Probabilities of all classes for some samples.
pub struct PredictionMatrix {
    /// One per row; `None` for files without ids, whose rows are in the order of the truth.
    pub ids: Option<Vec<String>>,
    /// `[n, 28]`, 0 to 1.
    pub values: Array2<f64>,
    /// Whether the file holds numbers of at most 32-bit float precision, so that thresholds must be
    /// such numbers too.
    pub single: bool,
}

/// The true labels of some samples.
pub struct Truth {
    /// One per label set; `None` for files without ids.
    pub ids: Option<Vec<String>>,
    pub labels: Vec<Labels>,
}

/// Reads a submission CSV (`Id,Predicted`), a CSV of an id and 28 probabilities, a `.npy` matrix or
/// an HDF5 file with `/probabilities` and, if there, `/ids`.
///
/// # Errors
/// [`Error::Data`] names what is wrong: shape, a value that is not a number from 0 to 1, a repeated
/// id.
pub fn read_predictions(path: &Path) -> Result<PredictionMatrix> {
    let predictions = match extension(path).as_str() {
        "npy" => {
            let (values, single) = npy::read(path)?;
            PredictionMatrix { ids: None, values, single }
        }
        "h5" | "hdf5" => {
            let hdf5 = prediction_file::read_hdf5(path)?;
            PredictionMatrix { ids: hdf5.ids, values: hdf5.values, single: hdf5.single }
        }
        "csv" => read_csv(path)?,
        other => {
            let what = format!("files named .{other} are not read (expected .csv, .npy or .h5)");
            return Err(Error::data(path, what));
        }
    };
    let (rows, columns) = predictions.values.dim();
    if columns != CLASSES {
        let what = format!("{rows} x {columns} numbers; expected {CLASSES} columns, one per class");
        return Err(Error::data(path, what));
    }
    let name = |row: usize| {
        predictions.ids.as_ref().map_or(format!("row {row}"), |ids| format!("id {}", ids[row]))
    };
    if let Some(((row, class), value)) =
        predictions.values.indexed_iter().find(|(_, v)| !(0.0..=1.0).contains(*v))
    {
        let row = name(row);
        let what = format!("{row}, class {class}: {value} is not a probability from 0 to 1");
        return Err(Error::data(path, what));
    }
    Ok(predictions)
}

/// Reads an `Id,Target` CSV or a `.npy` matrix of 0 and 1.
///
/// # Errors
/// [`Error::Data`] names the first row that is wrong.
pub fn read_truth(path: &Path) -> Result<Truth> {
    match extension(path).as_str() {
        "csv" => {
            let (rows, problems) = labels::read_table(path)?;
            check(path, &problems)?;
            let (ids, labels) = rows.into_iter().unzip();
            Ok(Truth { ids: Some(ids), labels })
        }
        "npy" => {
            let (values, _) = npy::read(path)?;
            let (rows, columns) = values.dim();
            if columns != CLASSES {
                let what = format!("{rows} x {columns} numbers; expected {CLASSES} columns");
                return Err(Error::data(path, what));
            }
            if let Some(((row, class), value)) =
                values.indexed_iter().find(|(_, v)| **v != 0.0 && **v != 1.0)
            {
                let what = format!("row {row}, class {class}: {value} is neither 0 nor 1");
                return Err(Error::data(path, what));
            }
            let set = |row: ndarray::ArrayView1<f64>| {
                Labels::from_classes((0..CLASSES).filter(|&c| row[c] == 1.0)).unwrap_or_default()
            };
            Ok(Truth { ids: None, labels: values.rows().into_iter().map(set).collect() })
        }
        other => Err(Error::data(
            path,
            format!("files named .{other} are no truth (expected an Id,Target .csv or .npy)"),
        )),
    }
}

/// The predictions in the order of the truth, matched by id where both have ids, else by row.
///
/// # Errors
/// [`Error::Data`] names ids that one side lacks, or the numbers of rows that differ.
pub fn align(
    predictions: PredictionMatrix,
    truth: &Truth,
    path: &Path,
) -> Result<PredictionMatrix> {
    if let (Some(have), Some(want)) = (&predictions.ids, &truth.ids) {
        let order = places(want, have, path)?;
        let values = predictions.values.select(Axis(0), &order);
        return Ok(PredictionMatrix { ids: Some(want.clone()), values, ..predictions });
    }
    let (rows, want) = (predictions.values.nrows(), truth.labels.len());
    if rows != want {
        let what = format!("{rows} rows of predictions, but the truth has {want}");
        return Err(Error::data(path, what));
    }
    Ok(predictions)
}

/// For each of `wanted` its index in `have`; both must have the same ids, in any order.
///
/// # Errors
/// [`Error::Data`] for `path`, the file of `have`, names the first ids that are missing or not
/// expected.
pub fn places(wanted: &[String], have: &[String], path: &Path) -> Result<Vec<usize>> {
    let mut places: HashMap<&str, usize> =
        have.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let (mut order, mut missing) = (Vec::with_capacity(wanted.len()), Vec::new());
    for id in wanted {
        match places.remove(id.as_str()) {
            Some(place) => order.push(place),
            None => missing.push(id.as_str()),
        }
    }
    let mut extra: Vec<&str> = places.into_keys().collect();
    extra.sort_unstable();
    let list = |ids: &[&str]| {
        let shown = ids.iter().take(3).map(|id| labels::excerpt(id)).collect::<Vec<_>>().join(", ");
        format!("{} ({shown}{})", ids.len(), if ids.len() > 3 { ", ..." } else { "" })
    };
    let what = match (missing.is_empty(), extra.is_empty()) {
        (true, true) if have.len() == wanted.len() => return Ok(order),
        (true, true) => {
            let mut seen = HashSet::new();
            let repeated = have.iter().find(|id| !seen.insert(id.as_str()));
            let repeated = repeated.expect("more rows than distinct ids");
            let (rows, ids) = (have.len(), wanted.len());
            format!("{rows} rows for {ids} ids: the id {} is repeated", labels::excerpt(repeated))
        }
        (false, true) => format!("{} ids are missing", list(&missing)),
        (true, false) => format!("{} ids are not expected here", list(&extra)),
        (false, false) => {
            format!("{} ids are missing and {} not expected here", list(&missing), list(&extra))
        }
    };
    Err(Error::data(path, what))
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn check(path: &Path, problems: &[BadRow]) -> Result<()> {
    let what = match problems {
        [] => return Ok(()),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more problems)", rest.len()),
    };
    Err(Error::data(path, what))
}

fn read_csv(path: &Path) -> Result<PredictionMatrix> {
    let text = labels::read_text(path)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| Error::data(path, e))?;
    let header: Vec<String> = header.iter().map(|h| h.trim().to_string()).collect();
    if header.len() == 2 {
        let (rows, problems) = labels::read_table(path)?;
        check(path, &problems)?;
        let values = Array2::from_shape_fn((rows.len(), CLASSES), |(i, c)| {
            f64::from(u8::from(rows[i].1.contains(c)))
        });
        let ids = Some(rows.into_iter().map(|r| r.0).collect());
        return Ok(PredictionMatrix { ids, values, single: true });
    }
    let width = header.len();
    if width != CLASSES + 1 {
        let expected = format!("expected Id,Predicted or an id and {CLASSES} probabilities");
        let found = labels::excerpt(&header.join(","));
        let what = format!("line 1: {width} columns in `{found}`; {expected}, with commas between");
        return Err(Error::data(path, what));
    }
    let class_of = columns(&header[1..]).map_err(|what| Error::data(path, what))?;
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|e| Error::data(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != width {
            let found = record.len();
            let what = format!("line {line}: expected {width} columns, found {found}");
            return Err(Error::data(path, what));
        }
        let mut row = [0.0; CLASSES];
        for (text, &class) in record.iter().skip(1).zip(&class_of) {
            row[class] = text
                .trim()
                .parse()
                .map_err(|_| Error::data(path, format!("line {line}: `{text}` is not a number")))?;
        }
        ids.push(record[0].trim().to_string());
        values.extend(row);
    }
    let values =
        Array2::from_shape_vec((ids.len(), CLASSES), values).map_err(|e| Error::data(path, e))?;
    Ok(PredictionMatrix { ids: Some(ids), values, single: false })
}

/// The class of each column: by number (`3`, `class_3`) or name where the header has those, else in
/// the order of classes.
fn columns(header: &[String]) -> Result<Vec<usize>, String> {
    let number = |h: &String| {
        let digits = h.trim_start_matches(|c: char| !c.is_ascii_digit());
        NAMES.iter().position(|n| n.eq_ignore_ascii_case(h)).or_else(|| digits.parse().ok())
    };
    let Some(classes) = header.iter().map(number).collect::<Option<Vec<usize>>>() else {
        return Ok((0..CLASSES).collect());
    };
    let mut sorted = classes.clone();
    sorted.sort_unstable();
    if sorted == (0..CLASSES).collect::<Vec<_>>() {
        Ok(classes)
    } else if sorted == (1..=CLASSES).collect::<Vec<_>>() {
        Err("the columns count the classes from 1; the competition counts from 0".into())
    } else {
        Err(format!(
            "the columns name the classes {classes:?}; expected each of 0 to {} once",
            CLASSES - 1
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_by_number_name_or_order() {
        let text = |f: &dyn Fn(usize) -> String| (0..CLASSES).map(f).collect::<Vec<_>>();
        let reversed: Vec<usize> = (0..CLASSES).rev().collect();
        assert_eq!(columns(&text(&|i| (27 - i).to_string())).unwrap(), reversed);
        assert_eq!(columns(&text(&|i| format!("class_{}", 27 - i))).unwrap(), reversed);
        assert_eq!(columns(&text(&|i| NAMES[27 - i].into())).unwrap(), reversed);
        assert_eq!(columns(&text(&|i| "abc".repeat(i + 1))).unwrap()[5], 5);
        assert!(columns(&text(&|i| (i + 1).to_string())).is_err(), "numbers from 1");
        assert!(columns(&text(&|i| (i / 2).to_string())).is_err(), "a number twice");
    }

    #[test]
    fn alignment_errors_name_missing_and_unexpected_ids() {
        let (path, list) =
            (Path::new("p.csv"), |s: &str| s.split(' ').map(String::from).collect::<Vec<_>>());
        assert_eq!(places(&list("a b c"), &list("c a b"), path).unwrap(), [1, 2, 0]);
        let named = |e: crate::base::Error, parts: &[&str]| {
            let text = e.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}: {parts:?}");
        };
        let other = places(&list("a b c"), &list("c x"), path);
        named(other.unwrap_err(), &["p.csv: ", "2 (a, b)", "1 (x)"]);
        named(places(&list("a b"), &list("a b b"), path).unwrap_err(), &["p.csv: ", "id b "]);
    }
}
