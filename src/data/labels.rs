//! The 28 protein locations and sets of them.

use std::{collections::HashMap, fmt, fs, path::Path};

use crate::base::{Error, Result};

/// Number of classes.
pub const CLASSES: usize = 28;

/// Names of the classes, by number, as the 2018 competition gives them.
pub const NAMES: [&str; CLASSES] = [
    "Nucleoplasm",
    "Nuclear membrane",
    "Nucleoli",
    "Nucleoli fibrillar center",
    "Nuclear speckles",
    "Nuclear bodies",
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Peroxisomes",
    "Endosomes",
    "Lysosomes",
    "Intermediate filaments",
    "Actin filaments",
    "Focal adhesion sites",
    "Microtubules",
    "Microtubule ends",
    "Cytokinetic bridge",
    "Mitotic spindle",
    "Microtubule organizing center",
    "Centrosome",
    "Lipid droplets",
    "Plasma membrane",
    "Cell junctions",
    "Mitochondria",
    "Aggresome",
    "Cytosol",
    "Cytoplasmic bodies",
    "Rods & rings",
];

/// A set of classes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(u32);

impl Labels {
    /// From class numbers below [`CLASSES`]; `None` where one is not.
    pub fn from_classes(classes: impl IntoIterator<Item = usize>) -> Option<Self> {
        classes.into_iter().try_fold(Self(0), |set, c| (c < CLASSES).then(|| Self(set.0 | 1 << c)))
    }

    /// Reads `"16 0"`: class numbers separated by blanks, in any order. The error says which part
    /// is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for part in text.split_whitespace() {
            match part.parse::<usize>() {
                Ok(c) if c < CLASSES => set.0 |= 1 << c,
                _ => return Err(format!("unknown class `{part}` (expected 0 to {})", CLASSES - 1)),
            }
        }
        Ok(set)
    }

    pub fn insert(&mut self, class: usize) {
        assert!(class < CLASSES, "class {class} of {CLASSES}");
        self.0 |= 1 << class;
    }

    pub fn contains(self, class: usize) -> bool {
        self.0 >> class & 1 == 1
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The classes in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..CLASSES).filter(move |&c| self.contains(c))
    }

    /// One 0 or 1 per class.
    pub fn one_hot(self) -> [u8; CLASSES] {
        std::array::from_fn(|c| u8::from(self.contains(c)))
    }
}

/// Class numbers ascending, separated by one blank, as in the competition's CSV files.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, class) in self.iter().enumerate() {
            write!(f, "{}{class}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// Ids and their labels, in file order.
pub type Rows = Vec<(String, Labels)>;

/// Rows of an `Id,Target` table in file order, and every problem found in it (line, id, what), so
/// that a caller can report them in one go. A repeated id and a row with an unknown class are left
/// out of the rows.
pub fn read_table(path: &Path) -> Result<(Rows, Vec<String>)> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers().map_err(|e| Error::data(path, e))?.clone();
    let column = |names: &[&str]| {
        header.iter().position(|h| names.contains(&h.trim().trim_start_matches('\u{feff}')))
    };
    let (Some(id), Some(target)) = (column(&["Id"]), column(&["Target", "Predicted"])) else {
        return Err(Error::data(
            path,
            format!(
                "expected the columns Id,Target; the header is `{}`",
                header.iter().collect::<Vec<_>>().join(",")
            ),
        ));
    };
    let (mut rows, mut problems, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
    for record in reader.records() {
        let record = record.map_err(|e| Error::data(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let (Some(id), Some(target)) = (record.get(id).map(str::trim), record.get(target)) else {
            problems.push(format!(
                "line {line}: expected {} columns, found {}",
                header.len(),
                record.len()
            ));
            continue;
        };
        if let Some(first) = seen.insert(id.to_string(), line) {
            problems.push(format!("line {line}: id {id} is repeated (first in line {first})"));
            continue;
        }
        match Labels::parse(target) {
            Ok(labels) => rows.push((id.to_string(), labels)),
            Err(what) => problems.push(format!("line {line}: id {id}: {what}")),
        }
    }
    Ok((rows, problems))
}

/// The ids of a submission or sample submission, in file order, and every problem found (empty and
/// repeated ids, which are left out).
///
/// # Errors
/// [`Error::Data`] names the file where there is no column `Id`.
pub fn read_ids(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers().map_err(|e| Error::data(path, e))?;
    let column = header
        .iter()
        .position(|h| h.trim().trim_start_matches('\u{feff}') == "Id")
        .ok_or_else(|| {
            Error::data(
                path,
                format!(
                    "expected the columns Id,Predicted; the header is `{}`",
                    header.iter().collect::<Vec<_>>().join(",")
                ),
            )
        })?;
    let (mut ids, mut problems, mut lines) =
        (Vec::new(), Vec::new(), HashMap::<String, u64>::new());
    for record in reader.records() {
        let record = record.map_err(|e| Error::data(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let id = record.get(column).map_or("", str::trim);
        match lines.get(id) {
            _ if id.is_empty() => problems.push(format!("line {line}: the id is empty")),
            Some(first) => {
                problems.push(format!("line {line}: id {id} is repeated (first in line {first})"))
            }
            None => {
                lines.insert(id.to_string(), line);
                ids.push(id.to_string());
            }
        }
    }
    Ok((ids, problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_in_order_and_parse_back() {
        let set = Labels::parse("16 0  2").unwrap();
        assert_eq!(set.to_string(), "0 2 16");
        assert_eq!(Labels::from_classes([2, 16, 0]), Some(set));
        assert_eq!((set.len(), set.one_hot()[16], set.one_hot()[1]), (3, 1, 0));
        assert!(Labels::parse("3 28").unwrap_err().contains("`28`"));
        assert!(Labels::from_classes([28]).is_none());
    }

    #[test]
    fn table_reports_all_problems_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        fs::write(&path, "Id,Target\na,1 2\nb,99\na,3\nc\nd,\n").unwrap();
        let (rows, problems) = read_table(&path).unwrap();
        assert_eq!(
            rows.iter().map(|r| (r.0.as_str(), r.1.to_string())).collect::<Vec<_>>(),
            [("a", "1 2".into()), ("d", String::new())]
        );
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            problems[0].contains("line 3")
                && problems[1].contains("line 4")
                && problems[1].contains("line 2")
                && problems[2].contains("line 5")
        );
    }
}
