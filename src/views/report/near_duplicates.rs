//! The near-duplicates that `dedup` found: among the training samples, across folds, and between
//! training and test.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use crate::{
    base::Result,
    data::{
        dedup::tables::{DuplicateRow, LeakRow, Tables},
        folds::table::FoldRow,
    },
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NearDuplicates {
    /// Groups of similar training samples.
    pub groups: Vec<Vec<DuplicateRow>>,
    /// Matches of a training and a test sample.
    pub leaks: Vec<LeakRow>,
    /// Groups whose members have different labels.
    pub conflicts: usize,
    /// Groups of near-duplicates, and groups of `folds.csv`, with members in more than one fold.
    pub across_folds: usize,
}

impl NearDuplicates {
    /// Samples that were left out of training.
    pub fn removed(&self) -> usize {
        self.groups.iter().flatten().filter(|m| !m.kept).count()
    }

    /// Test samples that match a training sample in use.
    pub fn leaked_tests(&self) -> usize {
        self.leaks.iter().filter(|l| l.kept).map(|l| &l.test).collect::<HashSet<_>>().len()
    }
}

/// Reads the tables of a work folder; `None` where `dedup` was not run.
///
/// # Errors
/// Data where a table is damaged.
pub fn read(work: &Path, folds: &[FoldRow]) -> Result<Option<NearDuplicates>> {
    let Some(tables) = Tables::read(work)? else { return Ok(None) };
    let mut groups: Vec<Vec<DuplicateRow>> = Vec::new();
    let mut places = HashMap::new();
    for row in tables.duplicates {
        let at = *places.entry(row.group.clone()).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Vec::new());
        }
        groups[at].push(row);
    }
    let conflicts = tables.conflicts.iter().map(|row| &row.group).collect::<HashSet<_>>().len();
    let across_folds = across_folds(&groups, folds);
    Ok(Some(NearDuplicates { groups, leaks: tables.leaks, conflicts, across_folds }))
}

/// Number of groups with members in more than one fold: those that `split` should keep together,
/// and those of near-duplicates.
fn across_folds(duplicates: &[Vec<DuplicateRow>], folds: &[FoldRow]) -> usize {
    let of: HashMap<&str, &FoldRow> = folds.iter().map(|row| (row.id.as_str(), row)).collect();
    let mut groups: HashMap<usize, HashSet<&[usize]>> = HashMap::new();
    folds.iter().for_each(|row| _ = groups.entry(row.group).or_default().insert(&row.folds));
    let near = duplicates.iter().map(|g| {
        g.iter()
            .filter_map(|m| Some(of.get(m.id.as_str())?.folds.as_slice()))
            .collect::<HashSet<_>>()
    });
    groups.values().filter(|f| f.len() > 1).count() + near.filter(|f| f.len() > 1).count()
}

/// For each of `ids` the number of its group in `folds.csv`; an id that is not in the table is a
/// group of its own.
pub fn groups(ids: &[String], folds: &[FoldRow]) -> Vec<usize> {
    let of: HashMap<&str, usize> = folds.iter().map(|row| (row.id.as_str(), row.group)).collect();
    let beyond = folds.iter().map(|row| row.group + 1).max().unwrap_or(0);
    let mut alone = HashMap::new();
    let number = |id: &String| {
        of.get(id.as_str()).copied().unwrap_or_else(|| {
            let next = beyond + alone.len();
            *alone.entry(id.clone()).or_insert(next)
        })
    };
    ids.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn row(id: &str, group: usize, fold: usize) -> FoldRow {
        FoldRow { id: id.into(), group, folds: vec![fold] }
    }

    #[test]
    fn groups_in_two_folds_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(read(dir.path(), &[]).unwrap(), None);
        let duplicates = "id,group,kept,of,red,green,blue,correlation\na,a,1,a,0,0,0,1.0\n\
            b,a,0,a,1,1,1,0.99\nc,c,1,c,0,0,0,1.0\nd,c,0,c,1,1,1,\n";
        write("duplicates.csv", duplicates);
        write("conflicts.csv", "group,id,kept,labels\na,a,1,3\na,b,0,4\n");
        write(
            "leaks.csv",
            "train,test,red,green,blue,correlation,kept\na,t,1,1,1,0.98,1\ne,t,1,1,1,0.97,1\n\
                b,u,1,1,1,0.98,0\n",
        );
        let good = [row("a", 0, 0), row("c", 1, 1), row("e", 0, 0)];
        let found = read(dir.path(), &good).unwrap().unwrap();
        assert_eq!(
            (found.groups.len(), found.removed(), found.conflicts, found.across_folds),
            (2, 2, 1, 0)
        );
        assert_eq!((found.leaks.len(), found.leaked_tests()), (3, 1));
        // The group 0 in two folds, and c and its duplicate d in two.
        let bad = [row("a", 0, 0), row("c", 1, 1), row("e", 0, 1), row("d", 2, 0)];
        assert_eq!(read(dir.path(), &bad).unwrap().unwrap().across_folds, 2);
        write("leaks.csv", "train,test\na,b\n");
        assert!(read(dir.path(), &good).unwrap_err().to_string().contains("atlas dedup"));
    }

    #[test]
    fn a_sample_that_is_not_in_the_table_is_a_group_of_its_own() {
        let ids = ["x", "a", "b", "x", "y"].map(String::from);
        assert_eq!(groups(&ids, &[row("a", 4, 0), row("b", 4, 0)]), [5, 4, 4, 5, 6]);
    }
}
