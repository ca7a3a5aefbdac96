//! Selects the samples that the report shows: the most confident mistakes, and of each class the
//! hardest and the most typical ones.

use std::collections::HashSet;

use crate::{data::labels::CLASSES, inference::finished_run::OutOfFold};

/// A row of the out-of-fold predictions, and the class for which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedSample {
    pub row: usize,
    pub class: usize,
}

/// The samples of a class.
pub struct ClassSamples {
    /// Of the class, with the lowest probability of it; the lowest first.
    pub hardest: Vec<SelectedSample>,
    /// Of the class, with the highest probability of it; the highest first.
    pub typical: Vec<SelectedSample>,
    /// Not of the class, with the highest probability of it; the highest first.
    pub mistaken: Vec<SelectedSample>,
}

/// The distance of the probability from the truth, 0 to 1.
pub fn error(answer: &OutOfFold, at: SelectedSample) -> f32 {
    let p = answer.probabilities[[at.row, at.class]];
    if answer.truth[at.row].contains(at.class) { 1.0 - p } else { p }
}

/// The `most` predictions with the largest errors, above 0.5, at most one per sample.
pub fn mistakes(answer: &OutOfFold, most: usize) -> Vec<SelectedSample> {
    let worst = |row: usize| {
        let all = (0..CLASSES).map(|class| SelectedSample { row, class });
        all.max_by(|a, b| error(answer, *a).total_cmp(&error(answer, *b)))
            .expect("there are classes")
    };
    let mut all: Vec<SelectedSample> =
        (0..answer.ids.len()).map(worst).filter(|s| error(answer, *s) > 0.5).collect();
    all.sort_by(|a, b| error(answer, *b).total_cmp(&error(answer, *a)));
    first(answer, all.into_iter(), most)
}

/// The samples of a class, at most `most` of each kind.
pub fn of_class(answer: &OutOfFold, class: usize, most: usize) -> ClassSamples {
    let mut rows: Vec<usize> = (0..answer.ids.len()).collect();
    rows.sort_by(|&a, &b| {
        answer.probabilities[[b, class]].total_cmp(&answer.probabilities[[a, class]])
    });
    let (of, not): (Vec<usize>, Vec<usize>) =
        rows.into_iter().partition(|&row| answer.truth[row].contains(class));
    let shown = |row: usize| SelectedSample { row, class };
    let typical = first(answer, of.iter().copied().map(shown), most);
    // With few samples the same one could be both typical and hardest.
    let rest = of
        .iter()
        .rev()
        .copied()
        .map(shown)
        .filter(|s| typical.iter().all(|t| answer.ids[t.row] != answer.ids[s.row]));
    ClassSamples {
        hardest: first(answer, rest, most),
        mistaken: first(answer, not.into_iter().map(shown), most),
        typical,
    }
}

/// The first `most` with distinct ids: with shuffle splits a sample may have several rows.
fn first(
    answer: &OutOfFold,
    shown: impl Iterator<Item = SelectedSample>,
    most: usize,
) -> Vec<SelectedSample> {
    let mut seen = HashSet::new();
    shown.filter(|s| seen.insert(&answer.ids[s.row])).take(most).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::data::labels::Labels;

    fn answer() -> OutOfFold {
        let mut probabilities = Array2::zeros((6, CLASSES));
        for (row, p) in [0.9, 0.2, 0.6, 0.8, 0.1, 0.9].into_iter().enumerate() {
            probabilities[[row, 3]] = p;
        }
        probabilities[[4, 5]] = 0.95;
        let truth = ["3", "3", "3", "", "4", "3"].map(|t| Labels::parse(t).unwrap()).to_vec();
        // The first sample was predicted twice.
        let ids = ["a", "b", "c", "d", "e", "a"].map(String::from).to_vec();
        OutOfFold { ids, folds: vec![0; 6], probabilities, truth }
    }

    #[test]
    fn mistakes_are_the_largest_errors_one_a_sample() {
        let got = mistakes(&answer(), 9);
        // e: class 4 missed with 0 beats class 5 with 0.95; then b and d with 0.8; c and a are
        // right.
        assert_eq!(
            got.iter().map(|s| (s.row, s.class)).collect::<Vec<_>>(),
            [(4, 4), (1, 3), (3, 3)]
        );
        assert_eq!(mistakes(&answer(), 1).len(), 1);
    }

    #[test]
    fn a_class_has_typical_hard_and_mistaken_samples() {
        let of = of_class(&answer(), 3, 2);
        let rows = |s: &[SelectedSample]| s.iter().map(|s| s.row).collect::<Vec<_>>();
        assert_eq!(
            (rows(&of.typical), rows(&of.hardest), rows(&of.mistaken)),
            (vec![0, 2], vec![1], vec![3, 4])
        );
    }
}
