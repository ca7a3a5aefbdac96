//! What `plan` finds wrong with the data, and its list `problems.csv`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Result, csv_file},
    data::labels::RowFault,
};

/// Name of the list in the work folder.
const NAME: &str = "problems.csv";

/// What is wrong with a sample, a file or a row of a table. In the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
#[derive(strum::Display, strum::IntoStaticStr)]
pub enum ProblemKind {
    #[strum(to_string = "broken links")]
    BrokenLink,
    #[strum(to_string = "broken rows")]
    BrokenRow,
    #[strum(to_string = "broken tables")]
    BrokenTable,
    #[strum(to_string = "files that are no channel of a sample")]
    ForeignFile,
    /// Tables lose them.
    #[strum(to_string = "ids with blanks at an end")]
    OuterBlank,
    #[strum(to_string = "ids with control characters")]
    ControlCharacter,
    #[strum(to_string = "ids without images")]
    IdWithoutImages,
    #[strum(to_string = "images not in sample_submission.csv")]
    NotInSubmission,
    #[strum(to_string = "images without labels")]
    ImagesWithoutLabels,
    #[strum(to_string = "labels without images")]
    LabelsWithoutImages,
    /// The detail names the channels.
    #[strum(to_string = "missing channels")]
    MissingChannels,
    #[strum(to_string = "names that are not UTF-8")]
    NotUtf8,
    #[strum(to_string = "repeated ids")]
    RepeatedId,
    #[strum(to_string = "sub-folders")]
    SubFolder,
    #[strum(to_string = "two files for a channel")]
    TwoFiles,
    #[strum(to_string = "unknown classes")]
    UnknownClass,
}

impl From<&RowFault> for ProblemKind {
    fn from(fault: &RowFault) -> Self {
        match fault {
            RowFault::RepeatedId { .. } => Self::RepeatedId,
            RowFault::UnknownClass { .. } => Self::UnknownClass,
            RowFault::Width { .. } | RowFault::OpenQuote | RowFault::EmptyId => Self::BrokenRow,
        }
    }
}

/// One fault of the data, found by `plan`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub kind: ProblemKind,
    /// `train`, `test`, `external` or `images`.
    pub place: &'static str,
    pub id: String,
    /// More about it; may be empty.
    pub detail: String,
}

/// An id, or another text, as `problems.csv` lists it: control characters are escaped, since lines
/// of logs and tables would break at them.
pub fn listed_id(id: &str) -> String {
    match id.contains(char::is_control) {
        true => id.escape_debug().to_string(),
        false => id.into(),
    }
}

/// One line per kind and place of the sorted `problems`: how many, and a few ids.
pub fn summary(problems: &[Problem]) -> Vec<String> {
    let line = |same: &[Problem]| {
        let few = |p: &Problem| {
            let id = match p.id.is_empty() {
                true => "no id".into(),
                false => p.id.replace(char::is_control, "\u{fffd}"),
            };
            let explains = matches!(
                p.kind,
                ProblemKind::MissingChannels
                    | ProblemKind::LabelsWithoutImages
                    | ProblemKind::IdWithoutImages
            );
            let told = same.len() <= 3 || explains;
            match p.detail.as_str() {
                detail if !detail.is_empty() && told => format!("{id} ({detail})"),
                _ => id,
            }
        };
        let ids: Vec<String> = same.iter().take(5).map(few).collect();
        let more = if same.len() > 5 { ", ..." } else { "" };
        let (n, kind, place) = (same.len(), same[0].kind, same[0].place);
        format!("{n} {kind} in {place}: {}{more}", ids.join(", "))
    };
    problems.chunk_by(|a, b| (a.kind, a.place) == (b.kind, b.place)).map(line).collect()
}

/// Writes `problems.csv` (`kind,place,id,detail`) into a work folder, also when there is no
/// problem.
pub fn write_problems(work: &Path, problems: &[Problem]) -> Result<PathBuf> {
    let path = work.join(NAME);
    let rows = problems.iter().map(|p| (p.kind, p.place, listed_id(&p.id), listed_id(&p.detail)));
    csv_file::write(&path, &["kind", "place", "id", "detail"], rows)?;
    Ok(path)
}

/// The ids of the problems that `plan` found in `place`; none where it wrote no list.
pub fn problem_ids(work: &Path, place: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Row {
        place: String,
        id: String,
    }
    let path = work.join(NAME);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows = csv_file::read::<Row>(&path, "plan")?;
    Ok(rows.into_iter().filter(|r| r.place == place).map(|r| r.id).collect())
}
