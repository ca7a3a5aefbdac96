//! The scores of every class, and its F1 by epoch.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use crate::{
    base::Result,
    data::labels::{CLASSES, NAMES},
    views::report::{
        charts::{self, Axes, COLOURS, Line},
        fold_epochs::{ClassF1ByEpoch, FoldEpochs, class_f1_by_epoch},
        scored_run::{ClassScores, ScoredRun},
    },
};

#[derive(Serialize)]
pub struct Classes {
    classes: Vec<ClassScores>,
    /// SVG: F1 of every class with its interval.
    chart: String,
    /// Empty without training logs.
    epochs: Vec<ClassChart>,
    /// Of validation and training in `epochs`.
    colours: &'static [&'static str],
}

#[derive(Serialize)]
struct ClassChart {
    name: &'static str,
    svg: String,
}

impl Classes {
    pub fn of(scored: &ScoredRun, folds: &[FoldEpochs]) -> Result<Self> {
        let classes = scored.classes();
        let f1 = std::array::from_fn(|c| classes[c].f1);
        let positives = std::array::from_fn(|c| classes[c].positives);
        let intervals: Vec<_> = classes.iter().map(|c| c.interval).collect();
        let chart = charts::f1_of_classes(
            "F1 of every class with its 95 % interval, the best on top",
            &f1,
            &intervals,
            &positives,
        )?;
        let folders: Vec<PathBuf> = folds.iter().map(|f| scored.run.fold(f.fold)).collect();
        let by_epoch = class_f1_by_epoch(&folders)?;
        let epochs = match by_epoch.train.is_empty() && by_epoch.valid.is_empty() {
            true => Vec::new(),
            false => (0..CLASSES).map(|c| class_chart(c, &by_epoch)).collect::<Result<_>>()?,
        };
        Ok(Self { classes, chart, epochs, colours: &COLOURS[..2] })
    }
}

fn class_chart(class: usize, f1: &ClassF1ByEpoch) -> Result<ClassChart> {
    let last = f1.train.keys().chain(f1.valid.keys()).max().copied().unwrap_or(1).max(2) as f64;
    let points = |of: &BTreeMap<usize, [f64; CLASSES]>| {
        of.iter().map(|(&epoch, f1)| (epoch as f64, f1[class])).collect()
    };
    let name = NAMES[class];
    let label = format!("F1 at 0.5 of {name} by epoch, training dashed, validation solid");
    let lines = [
        Line { points: points(&f1.train), colour: 1, dashed: true },
        Line { points: points(&f1.valid), colour: 0, dashed: false },
    ];
    let axes = Axes::small(&label, 0.5..last + 0.5, 0.0..1.0);
    Ok(ClassChart { name, svg: charts::lines(&axes, &lines)? })
}
