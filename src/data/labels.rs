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

    /// Reads `"16 0"`: class numbers separated by blanks, in any order. The error names the
    /// part that is wrong.
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

/// A row of a table of ids that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadRow {
    pub line: u64,
    pub fault: RowFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    #[error("expected {expected} columns, found {found}")]
    Short { expected: usize, found: usize },
    #[error("the id is empty")]
    EmptyId,
    #[error("id {id} is repeated (first in line {first})")]
    RepeatedId { id: String, first: u64 },
    #[error("id {id}: {what}")]
    UnknownClass { id: String, what: String },
}

impl RowFault {
    /// The id of the row; empty where it has none.
    pub fn id(&self) -> &str {
        match self {
            Self::RepeatedId { id, .. } | Self::UnknownClass { id, .. } => id,
            Self::Short { .. } | Self::EmptyId => "",
        }
    }
}

/// Rows of an `Id,Target` table in file order, and every bad row, so that a caller can report all
/// of them. A repeated id and a row with an unknown class are left out of the rows.
///
/// # Errors
/// [`Error::Data`] where there are no such columns.
pub fn read_table(path: &Path) -> Result<(Rows, Vec<BadRow>)> {
    let (mut reader, header) = open(path)?;
    let column = |names: &[&str]| column(path, &header, names, "Id,Target");
    let (id, target) = (column(&["Id"])?, column(&["Target", "Predicted"])?);
    let mut seen = HashMap::new();
    split(path, &mut reader, |line, record| {
        let (Some(id), Some(target)) = (record.get(id).map(str::trim), record.get(target)) else {
            return Err(RowFault::Short { expected: header.len(), found: record.len() });
        };
        note(&mut seen, id, line)?;
        let unknown = |what| RowFault::UnknownClass { id: id.into(), what };
        Ok((id.to_string(), Labels::parse(target).map_err(unknown)?))
    })
}

/// The ids of a submission or sample submission, in file order, and every bad row: empty and
/// repeated ids, which are left out.
///
/// # Errors
/// [`Error::Data`] where there is no column `Id`.
pub fn read_ids(path: &Path) -> Result<(Vec<String>, Vec<BadRow>)> {
    let (mut reader, header) = open(path)?;
    let column = column(path, &header, &["Id"], "Id,Predicted")?;
    let mut seen = HashMap::new();
    split(path, &mut reader, |line, record| match record.get(column).map_or("", str::trim) {
        "" => Err(RowFault::EmptyId),
        id => note(&mut seen, id, line).map(|()| id.to_string()),
    })
}

fn open(path: &Path) -> Result<(csv::Reader<fs::File>, csv::StringRecord)> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers().map_err(|e| Error::data(path, e))?.clone();
    Ok((reader, header))
}

/// The column with one of these names; `all` are the columns that the error names.
fn column(path: &Path, header: &csv::StringRecord, names: &[&str], all: &str) -> Result<usize> {
    header.iter().position(|h| names.contains(&h.trim())).ok_or_else(|| {
        let found = header.iter().collect::<Vec<_>>().join(",");
        Error::data(path, format!("expected the columns {all}; the header is `{found}`"))
    })
}

/// The rows that `read` accepts, and those that it does not.
fn split<T>(
    path: &Path,
    reader: &mut csv::Reader<fs::File>,
    mut read: impl FnMut(u64, &csv::StringRecord) -> Result<T, RowFault>,
) -> Result<(Vec<T>, Vec<BadRow>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|e| Error::data(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        match read(line, &record) {
            Ok(row) => good.push(row),
            Err(fault) => bad.push(BadRow { line, fault }),
        }
    }
    Ok((good, bad))
}

/// Keeps the line of an id, which must be new.
fn note(seen: &mut HashMap<String, u64>, id: &str, line: u64) -> Result<(), RowFault> {
    match seen.insert(id.to_string(), line) {
        Some(first) => Err(RowFault::RepeatedId { id: id.into(), first }),
        None => Ok(()),
    }
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
        let faults = [
            (3, RowFault::UnknownClass { id: "b".into(), what: Labels::parse("99").unwrap_err() }),
            (4, RowFault::RepeatedId { id: "a".into(), first: 2 }),
            (5, RowFault::Short { expected: 2, found: 1 }),
        ];
        assert_eq!(problems, faults.map(|(line, fault)| BadRow { line, fault }));
        let text = problems[1].to_string();
        assert!(["line 4", "id a", "line 2"].iter().all(|part| text.contains(part)), "{text}");

        fs::write(&path, "\u{feff}Id,Target\na,1\n").unwrap();
        assert_eq!(read_table(&path).unwrap().0.len(), 1, "a byte order mark before the header");
    }
}
