//! Precision-recall curves of every class.

use serde::Serialize;

use crate::{
    base::Result,
    data::labels::{CLASSES, NAMES},
    scoring::metrics,
    views::report::{
        charts::{self, Axes, Line},
        precision_recall::{precision_recall, thinned},
        scored_run::ScoredRun,
    },
};

/// Points of a curve that are drawn.
const CURVE_POINTS: usize = 150;

#[derive(Serialize)]
pub struct ClassCurve {
    name: &'static str,
    average_precision: f64,
    svg: String,
}

/// By class.
pub fn curves(scored: &ScoredRun) -> Result<Vec<ClassCurve>> {
    (0..CLASSES).map(|class| curve(scored, class)).collect()
}

fn curve(scored: &ScoredRun, class: usize) -> Result<ClassCurve> {
    let (name, average_precision) = (NAMES[class], scored.average_precision[class]);
    let answer = &scored.out_of_fold;
    let ranked = metrics::ranked(answer.probabilities.view(), &answer.truth, class);
    let label = format!(
        "Precision (upwards) by recall of {name}, average precision {average_precision:.3}"
    );
    let axes = Axes::small(&label, 0.0..1.0, 0.0..1.02);
    let counts = scored.counts[class];
    // The single point is that of the thresholds in use.
    let in_use = vec![(counts.recall(), counts.precision())];
    let points = thinned(&precision_recall(&ranked), CURVE_POINTS);
    let lines = [
        Line { points, colour: 0, dashed: false },
        Line { points: in_use, colour: 1, dashed: false },
    ];
    Ok(ClassCurve { name, average_precision, svg: charts::lines(&axes, &lines)? })
}
