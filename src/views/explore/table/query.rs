//! Selects and sorts rows of the table.

use std::cmp::Ordering;

use serde::Deserialize;

use super::SampleTable;
use crate::data::{
    labels::{CLASSES, Labels, NAMES},
    manifest::Part,
};

/// A condition on the truth and the prediction of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    #[default]
    Any,
    /// True.
    Labelled,
    Predicted,
    /// True and predicted.
    Hit,
    /// True and not predicted.
    Missed,
    /// Predicted and not true.
    False,
    /// Missed or false.
    Wrong,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// The order of the shards.
    #[default]
    Order,
    Id,
    /// Highest score first.
    Highest,
    /// Lowest score first.
    Lowest,
    /// Highest loss first.
    Worst,
}

/// A selection of rows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// The class of `relation` and the scores. Without it, `relation` holds for any class, and the
    /// score is the highest probability.
    pub class: Option<usize>,
    pub relation: Relation,
    pub part: Option<Part>,
    pub fold: Option<usize>,
    /// Least and largest score.
    pub min: Option<f32>,
    pub max: Option<f32>,
    /// Words that all have to occur in the id or the names of the true classes, ignoring case.
    pub text: String,
    pub sort: Sort,
    /// Of the selected rows, the index of the first one to show and how many.
    pub from: usize,
    pub count: usize,
}

impl Query {
    /// The numbers of the selected rows of `table`, sorted.
    pub fn select(&self, table: &SampleTable) -> Vec<usize> {
        let words: Vec<(String, Labels)> =
            self.text.split_whitespace().map(|w| (w.to_lowercase(), named(w))).collect();
        let mut numbers: Vec<usize> =
            (0..table.rows.len()).filter(|&i| self.matches(table, i, &words)).collect();
        let score = |i: usize| table.score(i, self.class).unwrap_or(f32::NAN);
        // The sort is stable: equal rows stay in the order of the shards.
        match self.sort {
            Sort::Order => {}
            Sort::Id => numbers.sort_by(|&a, &b| table.rows[a].id.cmp(&table.rows[b].id)),
            Sort::Highest => numbers.sort_by(|&a, &b| descending(score(a), score(b))),
            Sort::Lowest => numbers.sort_by(|&a, &b| descending(-score(a), -score(b))),
            Sort::Worst => {
                numbers.sort_by(|&a, &b| descending(table.rows[a].loss, table.rows[b].loss))
            }
        }
        numbers
    }

    fn matches(&self, table: &SampleTable, i: usize, words: &[(String, Labels)]) -> bool {
        let row = &table.rows[i];
        let part = self.part.is_none_or(|part| part == row.part);
        if !part || self.fold.is_some_and(|fold| !row.folds.contains(&fold)) {
            return false;
        }
        let (truth, predicted) = (row.truth, row.predicted);
        let known = row.has_prediction && row.part == Part::Train;
        let of = |class: usize| match self.relation {
            Relation::Any => true,
            Relation::Labelled => truth.contains(class),
            Relation::Predicted => predicted.contains(class),
            Relation::Hit => truth.contains(class) && predicted.contains(class),
            Relation::Missed => known && truth.contains(class) && !predicted.contains(class),
            Relation::False => known && !truth.contains(class) && predicted.contains(class),
            Relation::Wrong => known && truth.contains(class) != predicted.contains(class),
        };
        let related = match self.class {
            Some(class) => match self.relation {
                Relation::Any => truth.contains(class) || predicted.contains(class),
                _ => of(class),
            },
            None => (0..CLASSES).any(of),
        };
        if !related {
            return false;
        }
        let within = |score: f32| {
            self.min.is_none_or(|min| score >= min) && self.max.is_none_or(|max| score <= max)
        };
        let scored = (self.min.is_none() && self.max.is_none())
            || table.score(i, self.class).is_some_and(within);
        scored
            && words.iter().all(|(word, classes)| {
                truth.iter().any(|c| classes.contains(c)) || contains(&row.id, word)
            })
    }
}

/// From large to small, NaN last.
fn descending(a: f32, b: f32) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| b.total_cmp(&a))
}

/// The classes in whose name `word` occurs.
fn named(word: &str) -> Labels {
    let word = word.to_lowercase();
    Labels::from_classes((0..CLASSES).filter(|&c| NAMES[c].to_lowercase().contains(&word)))
        .expect("below CLASSES")
}

/// Whether `word` (in lower case) occurs in `text`, ignoring case.
fn contains(text: &str, word: &str) -> bool {
    match text.is_ascii() {
        true => text
            .as_bytes()
            .windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word.as_bytes())),
        false => text.to_lowercase().contains(word),
    }
}
