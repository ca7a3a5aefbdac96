//! Several runs side by side.

use std::collections::BTreeSet;

use minijinja::{Value, context, value::Serde};

use crate::{
    base::Result,
    data::labels::{CLASSES, NAMES},
    views::report::{
        bootstrap::Interval,
        charts::{self, Axes, COLOURS, Line},
        cost::Cost,
        epochs::Fold,
        scored::Scored,
    },
};

/// The run of the report first, then the others, each with the epochs of its folds.
pub fn compare(runs: &[(&Scored, &[Fold])]) -> Result<Value> {
    let first = runs[0].0;
    let mut rows = Vec::new();
    for (i, (run, folds)) in runs.iter().enumerate() {
        let cost = run.cost();
        let difference = (i > 0 && same_samples(first, run)).then(|| {
            let draws = run.bootstrap.macro_f1.iter().zip(&first.bootstrap.macro_f1);
            context! { value => run.macro_f1() - first.macro_f1(), interval => Serde(Interval::of(draws.map(|(a, b)| a - b).collect())) }
        });
        rows.push(context! {
            name => run.run.name(), colour => COLOURS[i % COLOURS.len()], score => run.macro_f1(), interval => Serde(run.interval()), map => run.map(), difference,
            error => run.reliability.error, method => &run.method().method, folds => folds.len(), samples => run.answer.ids.len(),
            core_hours => Cost::core_hours(&cost.run), gpu_hours => Cost::gpu_hours(&cost.run),
        });
    }
    let class = |class: usize| {
        let of: Vec<f64> = runs.iter().map(|r| r.0.counts[class].f1()).collect();
        let most = of.iter().copied().fold(0.0, f64::max);
        let best: Vec<bool> =
            of.iter().map(|v| *v == most && of.iter().any(|o| *o < most)).collect();
        context! { class, name => NAMES[class], f1 => of, best }
    };
    let curve = |i: usize, (_, folds): &(&Scored, &[Fold])| {
        let last = folds.iter().flat_map(|f| f.history.iter().map(|r| r.epoch)).max().unwrap_or(0);
        let mean = |epoch: usize| {
            let of: Vec<f64> = folds
                .iter()
                .filter_map(|f| f.history.iter().find(|r| r.epoch == epoch)?.macro_f1_fitted)
                .collect();
            (!of.is_empty()).then(|| (epoch as f64, of.iter().sum::<f64>() / of.len() as f64))
        };
        Line { points: (1..=last).filter_map(mean).collect(), colour: i, dashed: false }
    };
    let label = "Macro F1 at fitted thresholds by epoch, mean of the folds, one line a run";
    let axes = Axes {
        label,
        x: "epoch",
        y: "macro F1, thresholds fitted",
        size: (440, 250),
        x_range: None,
        y_range: None,
    };
    let svg = charts::lines(
        &axes,
        &runs.iter().enumerate().map(|(i, r)| curve(i, r)).collect::<Vec<_>>(),
    )?;
    Ok(
        context! { runs => rows, classes => (0..CLASSES).map(class).collect::<Vec<_>>(), keys => keys(runs), svg },
    )
}

/// Whether both predicted the same samples in the same groups.
fn same_samples(a: &Scored, b: &Scored) -> bool {
    let sorted = |s: &Scored| {
        let mut rows: Vec<_> = s.answer.ids.iter().cloned().zip(s.groups.iter().copied()).collect();
        rows.sort();
        rows
    };
    sorted(a) == sorted(b)
}

/// The keys in which the runs differ, and each one's value.
fn keys(runs: &[(&Scored, &[Fold])]) -> Vec<Value> {
    let leaves: Vec<_> = runs.iter().map(|r| r.0.config.leaves()).collect();
    let all: BTreeSet<&String> = leaves.iter().flat_map(|l| l.keys()).collect();
    let differ = |key: &&String| leaves.iter().any(|l| l.get(*key) != leaves[0].get(*key));
    let row = |key: &String| {
        let values: Vec<String> =
            leaves.iter().map(|l| l.get(key).map_or("-".into(), ToString::to_string)).collect();
        context! { key, values }
    };
    all.into_iter().filter(differ).map(row).collect()
}
