//! What is not known of the folds, or not as a reader of the scores expects: ids that name no well,
//! classes that a fold cannot learn.

use std::collections::HashSet;

use serde::Serialize;

use super::count;
use crate::{
    config::Groups,
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest,
    },
};

/// What ids say of the wells or antibodies of their samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// `well` or `antibody`.
    pub level: &'static str,
    pub ids: usize,
    /// Ids that name one.
    pub recognised: usize,
    /// How many different ones they name.
    pub different: usize,
}

impl Known {
    /// Of antibodies where `level` is [`Groups::Antibody`], else of wells.
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a str>, level: Groups) -> Self {
        let (level, key) = key_of(level);
        let (mut all, mut recognised, mut different) = (0, 0, HashSet::new());
        for id in ids {
            all += 1;
            if let Some(key) = key(id) {
                recognised += 1;
                different.insert(key);
            }
        }
        Self { level, ids: all, recognised, different: different.len() }
    }
}

/// What an id may name.
type Key = fn(&str) -> Option<&str>;

/// `antibody` or `well`, and where it is in an id.
pub fn key_of(level: Groups) -> (&'static str, Key) {
    match level {
        Groups::Antibody => ("antibody", manifest::antibody_of),
        _ => ("well", manifest::well_of),
    }
}

/// What to say where no id names a well or an antibody.
pub(super) fn unknown(known: Known) -> String {
    let Known { level, ids, .. } = known;
    format!(
        "split.groups = {level}: none of the {ids} ids names a {level}, so that images of one \
            {level} may lie in several folds, and scores may be too good; expected ids such as \
            10580_1610_C1_2 (antibody_plate_well_field, the antibody a number)"
    )
}

/// One line that names the classes whose samples are all held out in some fold: its network is not
/// trained on any of them.
pub(super) fn untrained(labels: &[Labels], members: &[Vec<usize>]) -> Option<String> {
    let all = count(labels.iter().copied());
    let mut found = Vec::new();
    for (fold, members) in members.iter().enumerate() {
        let held = count(members.iter().map(|&i| labels[i]));
        let classes = (0..CLASSES).filter(|&c| all[c] > 0.0 && held[c] == all[c]);
        found.extend(classes.map(|c| format!("{} (fold {fold})", NAMES[c])));
    }
    (!found.is_empty()).then(|| {
        format!(
            "a fold holds out all samples of a class, so that its network cannot learn it: {}; \
                add samples of it from other groups",
            found.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_name_wells_and_antibodies_are_counted() {
        let ids = ["1_7_A1_1", "1_7_A1_2", "1_7_B1_1", "plate7_A1_1", "030822be-bb9b"];
        let known = |level| Known::of(ids, level);
        let of = |level, different| Known { level, ids: 5, recognised: 3, different };
        assert_eq!(known(Groups::Well), of("well", 2));
        assert_eq!(known(Groups::Antibody), of("antibody", 1));
        let none = Known::of(ids[3..].iter().copied(), Groups::Antibody);
        assert_eq!(none.recognised, 0);
        let text = unknown(none);
        let parts = ["split.groups = antibody", "2 ids", "antibody_plate_well_field"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn classes_that_a_fold_cannot_learn_are_listed() {
        let labels = ["0 3", "0", "3", "5", "0 5"].map(|t| Labels::parse(t).unwrap());
        assert_eq!(untrained(&labels, &[vec![0], vec![1, 2], vec![3], vec![4]]), None);
        let text = untrained(&labels, &[vec![0, 2], vec![1], vec![3, 4]]).unwrap();
        let parts = [&format!("{} (fold 0)", NAMES[3]), &format!("{} (fold 2)", NAMES[5])];
        assert!(parts.iter().all(|part| text.contains(*part)), "{text}");
        assert!(!text.contains(NAMES[0]) && !text.contains("fold 1"), "{text}");
    }
}
