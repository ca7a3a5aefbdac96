//! Submission files of the competition: a CSV `Id,Predicted` in the order of sample_submission.csv,
//! with at least one class per sample.

use std::path::Path;

use ndarray::ArrayView1;

use crate::{
    base::{Error, Result, csv_file},
    data::labels::{self, CLASSES, Labels},
    scoring::metrics::{self, Probability},
};

/// The classes of `probabilities` `[28]` above their thresholds; where there are none, the most
/// probable class (the first of equals), since an empty prediction is always wrong.
pub fn labels_of<P: Probability>(
    probabilities: ArrayView1<P>,
    thresholds: &[P; CLASSES],
) -> Labels {
    let mut set = metrics::above(probabilities.iter().copied(), thresholds);
    if set.is_empty() {
        let mut best = 0;
        for (class, p) in probabilities.iter().enumerate() {
            if *p > probabilities[best] {
                best = class;
            }
        }
        set.insert(best);
    }
    set
}

/// Writes `Id,Predicted` with LF line ends, whole or not at all. `ids` and `predicted` are in the
/// order of the file.
///
/// # Errors
/// [`Error::Failed`] where the lengths differ or a set is empty.
pub fn write(path: &Path, ids: &[String], predicted: &[Labels]) -> Result<()> {
    if ids.len() != predicted.len() {
        let (path, ids, predicted) = (path.display(), ids.len(), predicted.len());
        return Err(Error::failed(format!("{path}: {ids} ids but {predicted} predictions")));
    }
    if let Some((id, _)) = ids.iter().zip(predicted).find(|(_, set)| set.is_empty()) {
        return Err(Error::failed(format!("{}: id {id} has no class", path.display())));
    }
    let rows = ids.iter().zip(predicted).map(|(id, set)| (id, set.to_string()));
    csv_file::write(path, &["Id", "Predicted"], rows)
}

/// Checks a written submission: the ids and order of `sample`, every row with at least one known
/// class.
///
/// # Errors
/// [`Error::Data`] names the first row that is wrong.
pub fn check(path: &Path, sample: &[String]) -> Result<()> {
    let (rows, problems) = labels::read_table(path)?;
    if let Some(problem) = problems.first() {
        return Err(Error::data(path, problem));
    }
    if rows.len() != sample.len() {
        let what = format!("{} rows, the sample submission has {}", rows.len(), sample.len());
        return Err(Error::data(path, what));
    }
    for (line, ((id, set), want)) in rows.iter().zip(sample).enumerate() {
        if id != want {
            let line = line + 2;
            let what = format!("line {line}: id {id}, the sample submission has {want} there");
            return Err(Error::data(path, what));
        }
        if set.is_empty() {
            return Err(Error::data(path, format!("line {}: id {id} has no class", line + 2)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{BadRow, RowFault};
    use ndarray::Array1;
    use std::fs;

    #[test]
    fn none_above_gives_the_most_probable_not_class_zero() {
        let mut p = Array1::<f32>::from_elem(CLASSES, 0.1);
        (p[7], p[9]) = (0.3, 0.3);
        assert_eq!(labels_of(p.view(), &[0.5; CLASSES]).to_string(), "7");
        assert_eq!(labels_of(p.view(), &[0.3; CLASSES]).to_string(), "7");
        assert_eq!(labels_of(p.view(), &[0.2; CLASSES]).to_string(), "7 9");
    }

    #[test]
    fn written_files_pass_the_check_and_changed_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("submission.csv");
        let ids = ["b", "a"].map(String::from);
        let sets = [Labels::parse("3 1").unwrap(), Labels::parse("0").unwrap()];
        write(&path, &ids, &sets).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "Id,Predicted\nb,1 3\na,0\n");
        check(&path, &ids).unwrap();
        assert_eq!(labels::read_ids(&path).unwrap().0, ids);
        let refused = |e: Result<()>, part: &str| {
            let e = e.unwrap_err().to_string();
            assert!(e.contains(part) && e.contains("submission.csv"), "{e}");
        };
        refused(check(&path, &["a", "b"].map(String::from)), "line 2: id b");
        refused(check(&path, &ids[..1]), "2 rows");
        refused(write(&path, &ids, &[sets[0], Labels::default()]), "id a ");
        refused(write(&path, &ids, &sets[..1]), "2 ids");
        fs::write(&path, "Id,Predicted\nb,\na,0\n").unwrap();
        refused(check(&path, &ids), "line 2: id b ");
        fs::write(&path, "Id,Predicted\nb,1\nb,0\n").unwrap();
        let fault = RowFault::RepeatedId { id: "b".into(), first: 2 };
        assert_eq!(labels::read_ids(&path).unwrap().1, [BadRow { line: 3, fault }]);
    }
}
