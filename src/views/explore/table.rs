//! The samples of a run as rows of a table.

use ndarray::Array2;
use serde::Serialize;

use super::stores::Stores;
use crate::{
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest::Part,
    },
    inference::finished_run::OutOfFold,
    scoring::submission_csv,
};

mod query;

pub use query::Query;

/// One sample with its labels and predictions.
pub struct SampleRow {
    pub id: String,
    /// Index into the store of its part.
    pub place: usize,
    pub part: Part,
    /// The folds that predicted it without training on it: one where the folds are a partition, any
    /// number with shuffle splits; none for dropped duplicates, unfinished folds and test samples.
    pub folds: Vec<usize>,
    /// Empty for test samples.
    pub truth: Labels,
    pub predicted: Labels,
    /// Whether it has probabilities.
    pub has_prediction: bool,
    /// Binary cross-entropy summed over the classes; NaN without truth or prediction.
    pub loss: f32,
}

/// All rows, training before test samples.
pub struct SampleTable {
    pub rows: Vec<SampleRow>,
    /// `[n, 28]`, 0 to 1; zeros for rows without a prediction.
    pub probabilities: Array2<f32>,
}

/// A row as the page receives it.
#[derive(Serialize)]
pub struct Summary<'a> {
    pub number: usize,
    pub id: &'a str,
    pub part: &'static str,
    pub folds: &'a [usize],
    pub truth: Vec<usize>,
    pub predicted: Vec<usize>,
    /// Probability of the selected class, or the highest one.
    pub score: Option<f32>,
    pub loss: Option<f32>,
}

impl SampleTable {
    /// Rows of all samples: training samples with the mean of their predictions in `known`, test
    /// samples with `test` `[n, 28]` if there are any.
    pub fn of(
        stores: &Stores,
        known: &OutOfFold,
        test: Option<Array2<f32>>,
        thresholds: &[f32; CLASSES],
    ) -> Self {
        let n = stores.train.len();
        let mut probabilities = Array2::zeros((n + stores.test.len(), CLASSES));
        let mut folds = vec![Vec::new(); n];
        for ((id, fold), row) in known.ids.iter().zip(&known.folds).zip(known.probabilities.rows())
        {
            // A sample in quarantine has no image.
            let Some(place) = stores.train.find(id) else { continue };
            let mut sum = probabilities.row_mut(place);
            sum += &row;
            folds[place].push(*fold);
        }
        if let Some(test) = &test {
            probabilities.slice_mut(ndarray::s![n.., ..]).assign(test);
        }
        let mut rows = Vec::with_capacity(probabilities.nrows());
        for (i, mut p) in probabilities.rows_mut().into_iter().enumerate() {
            let (part, place) = if i < n { (Part::Train, i) } else { (Part::Test, i - n) };
            let store = stores.of(part);
            let folds = if i < n { std::mem::take(&mut folds[i]) } else { Vec::new() };
            let has_prediction = if i < n { !folds.is_empty() } else { test.is_some() };
            p /= folds.len().max(1) as f32;
            let truth = store.labels(place);
            let predicted = || submission_csv::labels_of(p.view(), thresholds);
            let (predicted, loss) = match part {
                _ if !has_prediction => (Labels::default(), f32::NAN),
                Part::Train => (predicted(), loss(truth, p.iter().copied())),
                Part::Test => (predicted(), f32::NAN),
            };
            rows.push(SampleRow {
                id: store.id(place).into(),
                place,
                part,
                folds,
                truth,
                predicted,
                has_prediction,
                loss,
            });
        }
        Self { rows, probabilities }
    }

    /// Probability of `class`, or without a class the highest one; `None` without a prediction.
    fn score(&self, i: usize, class: Option<usize>) -> Option<f32> {
        let row = self.probabilities.row(i);
        self.rows[i].has_prediction.then(|| {
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

    /// Rows as CSV: `id,part,folds,truth,predicted,loss` and the probability of each class; unknown
    /// values are empty.
    pub fn csv(&self, numbers: &[usize]) -> csv::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(
            ["id", "part", "folds", "truth", "predicted", "loss"].into_iter().chain(NAMES),
        )?;
        for &i in numbers {
            let (row, probabilities) = (&self.rows[i], self.probabilities.row(i));
            let folds = row.folds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let loss = if row.loss.is_finite() { row.loss.to_string() } else { String::new() };
            let p = |p: &f32| if row.has_prediction { p.to_string() } else { String::new() };
            let (truth, predicted) = (row.truth.to_string(), row.predicted.to_string());
            let fields = [row.id.clone(), row.part.name().into(), folds, truth, predicted, loss];
            writer.write_record(fields.into_iter().chain(probabilities.iter().map(p)))?;
        }
        writer.into_inner().map_err(|e| e.into_error().into())
    }
}

/// `-sum (y ln p + (1 - y) ln (1 - p))`, with probabilities limited to 1e-7 to 1 - 1e-7.
fn loss(truth: Labels, probabilities: impl IntoIterator<Item = f32>) -> f32 {
    let terms = probabilities.into_iter().enumerate().map(|(c, p)| {
        let p = p.clamp(1e-7, 1.0 - 1e-7);
        -(if truth.contains(c) { p } else { 1.0 - p }).ln()
    });
    terms.sum()
}

#[cfg(test)]
mod tests;
