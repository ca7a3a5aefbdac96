//! The samples of a run as rows, and which of them a question selects.

use std::{cmp::Ordering, fmt::Write};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::data::{
    labels::{CLASSES, Labels, NAMES},
    manifest::Part,
};

/// One sample and what the run says of it.
pub struct Row {
    pub id: String,
    /// Its place in the store of its part.
    pub place: usize,
    pub part: Part,
    /// The folds whose networks did not train on it and predicted it: one for a partition; none or
    /// several for shuffled hold-outs; none for duplicates that were dropped, folds that are not
    /// finished and test samples.
    pub folds: Vec<usize>,
    /// Empty for test samples.
    pub truth: Labels,
    pub predicted: Labels,
    /// Whether its row of the probabilities says anything.
    pub answered: bool,
    /// Binary cross-entropy summed over the classes; not a number without truth or prediction.
    pub loss: f32,
}

/// All rows, train before test.
pub struct Table {
    pub rows: Vec<Row>,
    /// `[n, 28]`, 0 to 1; zeros where nothing was predicted.
    pub probabilities: Array2<f32>,
}

/// How the truth and the prediction of a class have to stand to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    #[default]
    Any,
    /// Has the class.
    Labelled,
    Predicted,
    /// Both.
    Hit,
    /// Has it; not predicted.
    Missed,
    /// Predicted; has it not.
    False,
    /// Missed or false.
    Wrong,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// As in the shards.
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
    /// `relation` and the scores are about this class; without it, about any class and the most
    /// probable one.
    pub class: Option<usize>,
    pub relation: Relation,
    pub part: Option<Part>,
    pub fold: Option<usize>,
    /// Least and largest score.
    pub min: Option<f32>,
    pub max: Option<f32>,
    /// Words that all have to occur in the id or the names of the true classes; case does not
    /// matter.
    pub text: String,
    pub sort: Sort,
    /// Of the selected ones, the first to show and how many.
    pub from: usize,
    pub count: usize,
}

/// What a row looks like to the page.
#[derive(Serialize)]
pub struct Summary<'a> {
    pub number: usize,
    pub id: &'a str,
    pub part: &'static str,
    pub folds: &'a [usize],
    pub truth: Vec<usize>,
    pub predicted: Vec<usize>,
    /// Probability of the class asked for, or the highest one.
    pub score: Option<f32>,
    pub loss: Option<f32>,
}

impl Table {
    /// The numbers of all rows that `query` selects, in its order.
    pub fn select(&self, query: &Query) -> Vec<usize> {
        let words: Vec<(String, Labels)> =
            query.text.split_whitespace().map(|w| (w.to_lowercase(), named(w))).collect();
        let mut numbers: Vec<usize> =
            (0..self.rows.len()).filter(|&i| self.fits(i, query, &words)).collect();
        let score = |i: usize| self.score(i, query.class).unwrap_or(f32::NAN);
        // The sort is stable: equal ones stay in the order of the shards.
        match query.sort {
            Sort::Order => {}
            Sort::Id => numbers.sort_by(|&a, &b| self.rows[a].id.cmp(&self.rows[b].id)),
            Sort::Highest => numbers.sort_by(|&a, &b| descending(score(a), score(b))),
            Sort::Lowest => numbers.sort_by(|&a, &b| descending(-score(a), -score(b))),
            Sort::Worst => {
                numbers.sort_by(|&a, &b| descending(self.rows[a].loss, self.rows[b].loss))
            }
        }
        numbers
    }

    fn fits(&self, i: usize, query: &Query, words: &[(String, Labels)]) -> bool {
        let row = &self.rows[i];
        let part = query.part.is_none_or(|part| part == row.part);
        if !part || query.fold.is_some_and(|fold| !row.folds.contains(&fold)) {
            return false;
        }
        let (truth, predicted) = (row.truth, row.predicted);
        let known = row.answered && row.part == Part::Train;
        let of = |class: usize| match query.relation {
            Relation::Any => true,
            Relation::Labelled => truth.contains(class),
            Relation::Predicted => predicted.contains(class),
            Relation::Hit => truth.contains(class) && predicted.contains(class),
            Relation::Missed => known && truth.contains(class) && !predicted.contains(class),
            Relation::False => known && !truth.contains(class) && predicted.contains(class),
            Relation::Wrong => known && truth.contains(class) != predicted.contains(class),
        };
        let related = match query.class {
            Some(class) => match query.relation {
                Relation::Any => truth.contains(class) || predicted.contains(class),
                _ => of(class),
            },
            None => (0..CLASSES).any(of),
        };
        if !related {
            return false;
        }
        let within = |score: f32| {
            query.min.is_none_or(|min| score >= min) && query.max.is_none_or(|max| score <= max)
        };
        let scored = (query.min.is_none() && query.max.is_none())
            || self.score(i, query.class).is_some_and(within);
        scored
            && words.iter().all(|(word, classes)| {
                truth.iter().any(|c| classes.contains(c)) || contains(&row.id, word)
            })
    }

    /// Probability of `class`, or without it the highest one; `None` where nothing was predicted.
    fn score(&self, i: usize, class: Option<usize>) -> Option<f32> {
        let row = self.probabilities.row(i);
        self.rows[i].answered.then(|| {
            class.map_or_else(|| row.fold(0.0, |most, &p| p.max(most)), |class| row[class])
        })
    }

    pub fn summary(&self, number: usize, class: Option<usize>) -> Summary<'_> {
        let row = &self.rows[number];
        Summary {
            number,
            id: &row.id,
            part: row.part.name(),
            folds: &row.folds,
            truth: row.truth.iter().collect(),
            predicted: row.predicted.iter().collect(),
            score: self.score(number, class),
            loss: Some(row.loss).filter(|loss| loss.is_finite()),
        }
    }

    /// Rows as CSV: `id,part,folds,truth,predicted,loss` and a column of probabilities for each
    /// class; what is not known is empty.
    pub fn csv(&self, numbers: &[usize]) -> csv::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(
            ["id", "part", "folds", "truth", "predicted", "loss"].into_iter().chain(NAMES),
        )?;
        let mut text = String::new();
        for &i in numbers {
            let (row, probabilities) = (&self.rows[i], self.probabilities.row(i));
            let folds = row.folds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let loss = if row.loss.is_finite() { row.loss.to_string() } else { String::new() };
            writer.write_field(&row.id)?;
            for field in
                [row.part.name(), &folds, &row.truth.to_string(), &row.predicted.to_string(), &loss]
            {
                writer.write_field(field)?;
            }
            for p in probabilities {
                text.clear();
                if row.answered {
                    let _ = write!(text, "{p}"); // a String takes anything
                }
                writer.write_field(&text)?;
            }
            writer.write_record(None::<&str>)?;
        }
        writer.into_inner().map_err(|e| e.into_error().into())
    }
}

/// From large to small; what is not a number comes last.
fn descending(a: f32, b: f32) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| b.total_cmp(&a))
}

/// The classes in whose name `word` occurs.
fn named(word: &str) -> Labels {
    let word = word.to_lowercase();
    Labels::from_classes((0..CLASSES).filter(|&c| NAMES[c].to_lowercase().contains(&word)))
        .expect("below CLASSES")
}

/// Whether `word`, in lower case, occurs in `text`.
fn contains(text: &str, word: &str) -> bool {
    match text.is_ascii() {
        true => text
            .as_bytes()
            .windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word.as_bytes())),
        false => text.to_lowercase().contains(word),
    }
}

/// `-sum (y ln p + (1 - y) ln (1 - p))`, probabilities kept off 0 and 1 by 1e-7.
pub fn loss(truth: Labels, probabilities: impl IntoIterator<Item = f32>) -> f32 {
    let terms = probabilities.into_iter().enumerate().map(|(c, p)| {
        let p = p.clamp(1e-7, 1.0 - 1e-7);
        -(if truth.contains(c) { p } else { 1.0 - p }).ln()
    });
    terms.sum()
}

#[cfg(test)]
mod tests;
