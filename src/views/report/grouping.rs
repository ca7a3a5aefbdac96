//! Whether images of one well, or of one antibody, lie in several folds, as far as ids tell.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    config::Groups,
    data::folds::{Known, key_of, table::FoldRow},
};

/// What is known of the wells in the folds, or of the antibodies where these are kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Grouping {
    #[serde(flatten)]
    pub known: Known,
    /// Whether `split.groups` asks for keeping them together.
    pub asked: bool,
    /// Wells or antibodies with samples in more than one fold.
    pub across: usize,
}

/// Of the rows of `folds.csv`.
pub fn grouping(folds: &[FoldRow], level: Groups) -> Grouping {
    let known = Known::of(folds.iter().map(|row| row.id.as_str()), level);
    let (_, key) = key_of(level);
    let mut places: HashMap<&str, HashSet<&[usize]>> = HashMap::new();
    for row in folds {
        if let Some(key) = key(&row.id) {
            places.entry(key).or_default().insert(&row.folds);
        }
    }
    let across = places.values().filter(|folds| folds.len() > 1).count();
    Grouping { known, asked: level >= Groups::Well, across }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wells_in_two_folds_are_counted_whatever_was_asked_for() {
        let row = |id: &str, fold: usize| FoldRow { id: id.into(), group: 0, folds: vec![fold] };
        let rows = [row("1_7_A1_1", 0), row("1_7_A1_2", 1), row("1_7_B1_1", 1), row("x", 0)];
        let found = grouping(&rows, Groups::Duplicates);
        let known = Known { level: "well", ids: 4, recognised: 3, different: 2 };
        assert_eq!(found, Grouping { known, asked: false, across: 1 });
        let found = grouping(&rows[2..], Groups::Antibody);
        assert_eq!((found.known.level, found.known.recognised, found.across), ("antibody", 1, 0));
        assert!(found.asked);
    }
}
