//! F1 and average precision over the 28 classes, as scikit-learn computes them.
//!
//! A class is predicted where `p > threshold`, strictly. A class with no positive and no prediction
//! has an F1 of 0, as in the competition: perfect predictions for a set that lacks one class score
//! 27/28.

pub mod matrix;
pub mod npy;

use std::ops::AddAssign;

use ndarray::ArrayView2;

use crate::data::labels::{CLASSES, Labels};

/// A number type of probabilities: `f32` as in the pipeline, `f64` for files with such numbers.
pub trait Probability: Copy + PartialOrd + Send + Sync + 'static {
    fn to_f64(self) -> f64;
    /// The largest number of this type not above `x`, so that a threshold between two scores stays
    /// below the upper one.
    fn at_most(x: f64) -> Self;
}

impl Probability for f32 {
    fn to_f64(self) -> f64 {
        self.into()
    }

    fn at_most(x: f64) -> Self {
        let nearest = x as f32;
        if f64::from(nearest) > x { nearest.next_down() } else { nearest }
    }
}

impl Probability for f64 {
    fn to_f64(self) -> f64 {
        self
    }

    fn at_most(x: f64) -> Self {
        x
    }
}

/// Confusion counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub tp: u64,
    pub fp: u64,
    pub fn_: u64,
}

impl Counts {
    /// tp / (tp + fp); 0 where nothing is predicted.
    pub fn precision(self) -> f64 {
        ratio(self.tp, self.tp + self.fp)
    }

    /// tp / (tp + fn); 0 where nothing is positive.
    pub fn recall(self) -> f64 {
        ratio(self.tp, self.tp + self.fn_)
    }

    /// 2 tp / (2 tp + fp + fn); 0 where nothing is positive and nothing predicted.
    pub fn f1(self) -> f64 {
        ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn_)
    }

    pub fn positives(self) -> u64 {
        self.tp + self.fn_
    }

    pub fn predicted(self) -> u64 {
        self.tp + self.fp
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.tp += more.tp;
        self.fp += more.fp;
        self.fn_ += more.fn_;
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The classes above their thresholds; may be empty, unlike
/// [`labels_of`](crate::scoring::submission_csv::labels_of).
pub fn above<P: Probability>(
    row: impl IntoIterator<Item = P>,
    thresholds: &[P; CLASSES],
) -> Labels {
    let mut set = Labels::default();
    for (class, p) in row.into_iter().take(CLASSES).enumerate() {
        if p > thresholds[class] {
            set.insert(class);
        }
    }
    set
}

/// Confusion counts per class of `probabilities` `[n, 28]` at one threshold per class.
pub fn counts<P: Probability>(
    probabilities: ArrayView2<P>,
    truth: &[Labels],
    thresholds: &[P; CLASSES],
) -> [Counts; CLASSES] {
    assert_eq!(probabilities.dim(), (truth.len(), CLASSES), "one row of {CLASSES} per sample");
    let predicted =
        probabilities.rows().into_iter().map(|row| above(row.iter().copied(), thresholds));
    counts_of(predicted, truth)
}

/// Confusion counts per class of label sets.
pub fn counts_of(
    predicted: impl IntoIterator<Item = Labels>,
    truth: &[Labels],
) -> [Counts; CLASSES] {
    let mut counts = [Counts::default(); CLASSES];
    for (predicted, truth) in predicted.into_iter().zip(truth) {
        for (class, count) in counts.iter_mut().enumerate() {
            match (predicted.contains(class), truth.contains(class)) {
                (true, true) => count.tp += 1,
                (true, false) => count.fp += 1,
                (false, true) => count.fn_ += 1,
                (false, false) => {}
            }
        }
    }
    counts
}

/// The competition's score: the mean F1 over the 28 classes, from 0 to 1.
pub fn macro_f1(counts: &[Counts; CLASSES]) -> f64 {
    counts.iter().map(|c| c.f1()).sum::<f64>() / CLASSES as f64
}

/// Number of classes with at least one positive in the truth.
pub fn classes_present(counts: &[Counts; CLASSES]) -> usize {
    counts.iter().filter(|c| c.positives() > 0).count()
}

/// The mean F1 over the classes with at least one positive in the truth, from 0 to 1; 0 where there
/// is none:
///
/// `macro_f1_present = sum of F1(c) over P / |P|`, `P` = the classes with `tp + fn > 0`.
///
/// A class outside of `P` has an F1 of 0, whatever is predicted, so that this is [`macro_f1`] times
/// `28 / |P|`: what the score is where data have five classes of their own. It is scikit-learn's
/// `f1_score(truth, predicted, labels=P, average="macro", zero_division=0)`.
pub fn macro_f1_present(counts: &[Counts; CLASSES]) -> f64 {
    let present = counts.iter().filter(|c| c.positives() > 0);
    present.map(|c| c.f1()).sum::<f64>() / classes_present(counts).max(1) as f64
}

/// What to print behind a macro F1, such as ` (0.612 over the 5 classes present)`; nothing where
/// all are.
pub fn over_present(macro_f1_present: f64, classes_present: usize) -> String {
    match classes_present {
        CLASSES => String::new(),
        n => format!(" ({macro_f1_present:.3} over the {n} classes present)"),
    }
}

/// F1 of the summed counts of all classes, from 0 to 1.
pub fn micro_f1(counts: &[Counts; CLASSES]) -> f64 {
    let mut all = Counts::default();
    counts.iter().for_each(|&count| all += count);
    all.f1()
}

/// Average precision per class: the sum over distinct scores, from high to low, of (gain in recall)
/// x precision, without interpolation; equal scores enter together. A class without positives gets
/// 0. As `sklearn.average_precision_score`.
pub fn average_precision<P: Probability>(
    probabilities: ArrayView2<P>,
    truth: &[Labels],
) -> [f64; CLASSES] {
    assert_eq!(probabilities.dim(), (truth.len(), CLASSES), "one row of {CLASSES} per sample");
    std::array::from_fn(|class| {
        let ranked = ranked(probabilities, truth, class);
        let positives = ranked.iter().filter(|r| r.1).count();
        let (mut hits, mut entered, mut sum) = (0usize, 0usize, 0.0);
        for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
            let gain = tied.iter().filter(|r| r.1).count();
            hits += gain;
            entered += tied.len();
            sum += gain as f64 * hits as f64 / entered as f64;
        }
        if positives == 0 { 0.0 } else { sum / positives as f64 }
    })
}

/// Mean of [`average_precision`] over the 28 classes (mAP).
pub fn mean_average_precision(per_class: &[f64; CLASSES]) -> f64 {
    per_class.iter().sum::<f64>() / CLASSES as f64
}

/// (score, is positive) of one class, highest score first.
pub(crate) fn ranked<P: Probability>(
    probabilities: ArrayView2<P>,
    truth: &[Labels],
    class: usize,
) -> Vec<(f64, bool)> {
    let mut rows: Vec<_> = probabilities
        .column(class)
        .iter()
        .zip(truth)
        .map(|(p, t)| (p.to_f64(), t.contains(class)))
        .collect();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_class_without_positives_and_predictions_scores_zero() {
        let truth: Vec<Labels> = (0..27).map(|c| Labels::from_classes([c]).unwrap()).collect();
        assert!((macro_f1(&counts_of(truth.clone(), &truth)) - 27.0 / 28.0).abs() < 1e-12);
        assert_eq!(micro_f1(&counts_of(truth.clone(), &truth)), 1.0);
    }

    #[test]
    fn classes_without_positives_do_not_count_among_those_present() {
        let set = |classes: &[usize]| Labels::from_classes(classes.iter().copied()).unwrap();
        // Class 3 is found, class 4 is not; class 9 is predicted but not there.
        let counts = counts_of([set(&[3, 9]), set(&[3])], &[set(&[3]), set(&[3, 4])]);
        assert_eq!((classes_present(&counts), macro_f1_present(&counts)), (2, 0.5));
        assert!((macro_f1(&counts) - 1.0 / 28.0).abs() < 1e-12);
        assert!(over_present(0.5, 2).contains("0.500 over the 2 "));
        assert_eq!(over_present(0.5, CLASSES), "");
        let none = counts_of([set(&[3])], &[Labels::default()]);
        assert_eq!((classes_present(&none), macro_f1_present(&none)), (0, 0.0));
    }

    #[test]
    fn the_threshold_itself_is_not_above() {
        let p = Array2::<f32>::from_elem((1, CLASSES), 0.2);
        let truth = [Labels::from_classes([3]).unwrap()];
        assert_eq!(counts(p.view(), &truth, &[0.2; CLASSES])[3], Counts { tp: 0, fp: 0, fn_: 1 });
        assert_eq!(counts(p.view(), &truth, &[0.199; CLASSES])[3], Counts { tp: 1, fp: 0, fn_: 0 });
    }

    /// `tests/golden/metrics.json` has the results of scikit-learn for the same numbers, written by
    /// `tests/golden/metrics.py`.
    #[test]
    fn equals_scikit_learn() {
        #[derive(serde::Deserialize)]
        struct Case {
            name: String,
            scores: Vec<Vec<f64>>,
            truth: Vec<Vec<u8>>,
            threshold: f64,
            macro_f1: f64,
            macro_f1_present: f64,
            classes_present: usize,
            micro_f1: f64,
            precision: Vec<f64>,
            recall: Vec<f64>,
            f1: Vec<f64>,
            average_precision: Vec<f64>,
            map: f64,
        }
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.json");
        let cases: Vec<Case> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let close = |name: &str, what: &str, a: f64, b: f64| {
            assert!((a - b).abs() < 1e-12, "{name}, {what}: {a} and {b}")
        };
        assert!(cases.len() >= 4 && cases.iter().any(|c| c.classes_present == 5));
        for case in &cases {
            let p =
                Array2::from_shape_vec((case.scores.len(), CLASSES), case.scores.concat()).unwrap();
            let truth: Vec<Labels> = case
                .truth
                .iter()
                .map(|row| Labels::from_classes((0..CLASSES).filter(|&c| row[c] == 1)).unwrap())
                .collect();
            let counts = counts(p.view(), &truth, &[case.threshold; CLASSES]);
            let precision = average_precision(p.view(), &truth);
            close(&case.name, "macro F1", macro_f1(&counts), case.macro_f1);
            let present = macro_f1_present(&counts);
            close(&case.name, "macro F1, present", present, case.macro_f1_present);
            assert_eq!(classes_present(&counts), case.classes_present, "{}", case.name);
            close(&case.name, "micro F1", micro_f1(&counts), case.micro_f1);
            close(&case.name, "mAP", mean_average_precision(&precision), case.map);
            for c in 0..CLASSES {
                close(&case.name, "precision", counts[c].precision(), case.precision[c]);
                close(&case.name, "recall", counts[c].recall(), case.recall[c]);
                close(&case.name, "F1", counts[c].f1(), case.f1[c]);
                close(&case.name, "average precision", precision[c], case.average_precision[c]);
            }
        }
    }
}
