//! The values of the sections that have no pictures of samples.

use minijinja::{Value, context, value::Serde};

use crate::{
    base::Result,
    data::labels::{CLASSES, NAMES},
    scoring::metrics,
    views::report::{
        charts::{self, Axes, COLOURS, Line},
        confusion::{Confusion, together},
        curve,
        epochs::{ByClass, Fold, by_class},
        scored::Scored,
    },
};

/// Size of the charts in pixels: a line of the page holds two of them, or four of the small ones.
const CHART: (u32, u32) = (440, 250);
const SMALL: (u32, u32) = (210, 140);
/// Points of a precision-recall curve that are drawn.
const CURVE_POINTS: usize = 150;
/// Most confused pairs that are listed.
const PAIRS: usize = 15;

/// Losses, scores, learning rate and throughput of every fold.
pub fn learning(folds: &[Fold]) -> Result<Value> {
    let drawn = |label: &str, x: &str, y: &str, lines: Vec<Line>| -> Result<Value> {
        let axes = Axes { label, x, y, size: CHART, x_range: None, y_range: None };
        Ok(context! { title => y, svg => charts::lines(&axes, &lines)? })
    };
    let epochs = |dashed: bool, of: fn(&crate::training::history::EpochRow) -> Option<f64>| {
        let line = |f: &Fold| Line {
            points: f.history.iter().filter_map(|r| Some((r.epoch as f64, of(r)?))).collect(),
            colour: f.fold,
            dashed,
        };
        folds.iter().map(line).collect::<Vec<_>>()
    };
    let steps = |of: fn(&super::epochs::Interval) -> f64| {
        let line = |f: &Fold| Line {
            points: curve::thinned(
                &f.intervals.iter().map(|i| (i.step as f64, of(i))).collect::<Vec<_>>(),
                300,
            ),
            colour: f.fold,
            dashed: false,
        };
        folds.iter().map(line).collect::<Vec<_>>()
    };
    let both = |a: Vec<Line>, b: Vec<Line>| a.into_iter().chain(b).collect::<Vec<_>>();
    let charts = [
        drawn(
            "Loss by epoch, training dashed, validation solid",
            "epoch",
            "loss",
            both(epochs(true, |r| r.train_loss), epochs(false, |r| r.valid_loss)),
        )?,
        drawn(
            "Macro F1 at 0.5 by epoch, training dashed, validation solid",
            "epoch",
            "macro F1 at 0.5",
            both(epochs(true, |r| Some(r.train_macro_f1)), epochs(false, |r| r.macro_f1)),
        )?,
        drawn(
            "Macro F1 at fitted thresholds by epoch, validation",
            "epoch",
            "macro F1, thresholds fitted",
            epochs(false, |r| r.macro_f1_fitted),
        )?,
        drawn(
            "Mean average precision by epoch, validation",
            "epoch",
            "mAP",
            epochs(false, |r| r.map),
        )?,
        drawn("Learning rate by step", "step", "learning rate", steps(|i| i.lr))?,
        drawn(
            "Samples per second by step",
            "step",
            "samples per second",
            steps(|i| i.samples_per_s),
        )?,
    ];
    let last = |f: &Fold| {
        let valid = f.history.iter().rev().find(|r| r.macro_f1.is_some());
        let skipped: usize = f.history.iter().map(|r| r.skipped_steps).sum();
        let mean = f.intervals.iter().map(|i| i.samples_per_s).sum::<f64>()
            / f.intervals.len().max(1) as f64;
        context! {
            fold => f.fold, epochs => f.history.len(), colour => COLOURS[f.fold % COLOURS.len()], skipped,
            train_loss => f.history.last().and_then(|r| r.train_loss), valid_loss => valid.and_then(|r| r.valid_loss),
            train_macro_f1 => f.history.last().map(|r| r.train_macro_f1), macro_f1 => valid.and_then(|r| r.macro_f1),
            map => valid.and_then(|r| r.map), rate => mean,
            wait => f.intervals.iter().map(|i| i.data_wait).sum::<f64>() / f.intervals.len().max(1) as f64,
            host => f.intervals.iter().map(|i| i.resident_mib).max(), gpu => f.intervals.iter().filter_map(|i| i.gpu_mib).max(),
        }
    };
    Ok(context! { charts, folds => folds.iter().map(last).collect::<Vec<_>>() })
}

/// The table and chart of classes, and their F1 by epoch.
pub fn classes(scored: &Scored, folds: &[Fold]) -> Result<Value> {
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
    let paths: Vec<_> = folds.iter().map(|f| scored.run.fold(f.fold)).collect();
    let ByClass { train, valid } = by_class(&paths)?;
    let last = train.keys().chain(valid.keys()).max().copied().unwrap_or(1).max(2) as f64;
    let by_epoch = |class: usize| -> Result<Value> {
        let points = |of: &std::collections::BTreeMap<usize, [f64; CLASSES]>| {
            of.iter().map(|(&e, f1)| (e as f64, f1[class])).collect()
        };
        let label =
            format!("F1 at 0.5 of {} by epoch, training dashed, validation solid", NAMES[class]);
        let axes = Axes {
            label: &label,
            x: "",
            y: "",
            size: SMALL,
            x_range: Some(0.5..last + 0.5),
            y_range: Some(0.0..1.0),
        };
        let lines = [
            Line { points: points(&train), colour: 1, dashed: true },
            Line { points: points(&valid), colour: 0, dashed: false },
        ];
        Ok(context! { class, name => NAMES[class], svg => charts::lines(&axes, &lines)? })
    };
    let epochs = match train.is_empty() && valid.is_empty() {
        true => Vec::new(),
        false => (0..CLASSES).map(by_epoch).collect::<Result<Vec<_>>>()?,
    };
    Ok(context! { classes => Serde(classes), chart, epochs, colours => Serde(&COLOURS[..2]) })
}

/// What stands together and what is taken for what.
pub fn confusion(scored: &Scored) -> Value {
    let (truth, confusion) =
        (&scored.answer.truth, Confusion::new(&scored.predicted, &scored.answer.truth));
    let (is, said) = (together(truth), together(&scored.predicted));
    let share = |counts: &[[u64; CLASSES]; CLASSES], a: usize, b: usize| match counts[a][a] {
        0 => 0.0,
        n => counts[a][b] as f64 / n as f64,
    };
    let wrongly = |b: usize| {
        let without = truth.iter().filter(|t| !t.contains(b)).count().max(1) as f64;
        scored.counts[b].fp as f64 / without
    };
    let pairs: Vec<Value> = confusion.pairs().into_iter().take(PAIRS).map(|p| {
        let usual = wrongly(p.predicted);
        context! { a => NAMES[p.missed], b => NAMES[p.predicted], count => p.count, missed => confusion.missed[p.missed], share => p.share,
            usual, together => is[p.missed][p.predicted] }
    }).collect();
    let row = |a: usize, of: &dyn Fn(usize) -> (f64, u64)| {
        let cells: Vec<Value> = (0..CLASSES)
            .map(|b| {
                let (share, count) = of(b);
                context! { share, count, own => a == b }
            })
            .collect();
        context! { class => a, name => NAMES[a], cells }
    };
    let taken: Vec<Value> = (0..CLASSES)
        .map(|a| row(a, &|b| (confusion.share(a, b), confusion.instead[a][b])))
        .collect();
    let stands: Vec<Value> =
        (0..CLASSES).map(|a| row(a, &|b| (share(&is, a, b), is[a][b]))).collect();
    // Where the answer puts two classes together more, or less, often than the truth does.
    let mut apart: Vec<(u64, usize, usize)> = (0..CLASSES)
        .flat_map(|a| (0..a).map(move |b| (is[a][b].abs_diff(said[a][b]), b, a)))
        .filter(|p| p.0 > 0)
        .collect();
    apart.sort_by(|a, b| b.cmp(a));
    let apart: Vec<Value> = apart
        .into_iter()
        .take(8)
        .map(|(_, a, b)| context! { a => NAMES[a], b => NAMES[b], truth => is[a][b], said => said[a][b] })
        .collect();
    context! { pairs, taken, stands, apart, names => Serde(NAMES) }
}

/// Precision-recall curves.
pub fn curves(scored: &Scored) -> Result<Value> {
    let one = |class: usize| -> Result<Value> {
        let ranked =
            metrics::ranked(scored.answer.probabilities.view(), &scored.answer.truth, class);
        let points = curve::thinned(&curve::precision_recall(&ranked), CURVE_POINTS);
        let label = format!(
            "Precision (upwards) by recall of {}, average precision {:.3}",
            NAMES[class], scored.average_precision[class]
        );
        let axes = Axes {
            label: &label,
            x: "",
            y: "",
            size: SMALL,
            x_range: Some(0.0..1.0),
            y_range: Some(0.0..1.02),
        };
        let mut lines = vec![Line { points, colour: 0, dashed: false }];
        // Where the thresholds in use stand on it.
        let counts = scored.counts[class];
        lines.push(Line {
            points: vec![(counts.recall(), counts.precision())],
            colour: 1,
            dashed: false,
        });
        Ok(
            context! { class, name => NAMES[class], svg => charts::lines(&axes, &lines)?, average_precision => scored.average_precision[class] },
        )
    };
    Ok(context! { curves => (0..CLASSES).map(one).collect::<Result<Vec<_>>>()? })
}

/// The reliability diagram.
pub fn calibration(scored: &Scored) -> Result<Value> {
    let filled = || scored.reliability.bins.iter().filter(|b| b.count > 0);
    let label = format!(
        "How often what is predicted with a probability is true, calibration error {:.4}",
        scored.reliability.error
    );
    let axes = Axes {
        label: &label,
        x: "mean probability",
        y: "share that is true",
        size: CHART,
        x_range: Some(0.0..1.0),
        y_range: Some(0.0..1.0),
    };
    let lines = [
        Line { points: vec![(0.0, 0.0), (1.0, 1.0)], colour: 1, dashed: true },
        Line {
            points: filled().map(|b| (b.predicted, b.observed)).collect(),
            colour: 0,
            dashed: false,
        },
    ];
    let bins: Vec<_> = filled().collect();
    let mean = scored.class_errors.iter().sum::<f64>() / CLASSES as f64;
    Ok(
        context! { error => scored.reliability.error, mean_class_error => mean, svg => charts::lines(&axes, &lines)?, bins => Serde(bins) },
    )
}

/// What every method's thresholds are and score.
pub fn thresholds(scored: &Scored) -> Value {
    let method = |(i, m): (usize, &crate::inference::finished_run::Thresholds)| {
        context! { name => &m.method, cross_fitted => m.cross_fitted, in_sample => m.in_sample, used => i == scored.used }
    };
    let class = |c: usize| {
        let values: Vec<f32> = scored.methods.iter().map(|m| m.values[c]).collect();
        context! { class => c, name => NAMES[c], values, positives => scored.counts[c].positives() }
    };
    let methods: Vec<Value> = scored.methods.iter().enumerate().map(method).collect();
    context! { methods, classes => (0..CLASSES).map(class).collect::<Vec<_>>() }
}

/// How the folds differ.
pub fn folds(scored: &Scored, folds: &[Fold]) -> Value {
    let answer = &scored.answer;
    let scores: Vec<_> = folds
        .iter()
        .map(|f| {
            let rows: Vec<usize> =
                (0..answer.ids.len()).filter(|&i| answer.folds[i] == f.fold).collect();
            let truth: Vec<_> = rows.iter().map(|&i| answer.truth[i]).collect();
            let counts = metrics::counts_of(rows.iter().map(|&i| scored.predicted[i]), &truth);
            let map = metrics::mean_average_precision(&metrics::average_precision(
                answer.probabilities.select(ndarray::Axis(0), &rows).view(),
                &truth,
            ));
            (f.fold, rows.len(), counts, map)
        })
        .collect();
    let spread = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        // Of a sample: n - 1.
        let deviation =
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        context! { mean, deviation }
    };
    let f1: Vec<f64> = scores.iter().map(|s| metrics::macro_f1(&s.2)).collect();
    let map: Vec<f64> = scores.iter().map(|s| s.3).collect();
    let rows: Vec<Value> = scores
        .iter()
        .zip(&f1)
        .map(|((fold, n, _, map), f1)| context! { fold, samples => n, macro_f1 => f1, map })
        .collect();
    let class = |c: usize| {
        let of: Vec<f64> = scores.iter().map(|s| s.2[c].f1()).collect();
        let (low, high) = of.iter().fold((1f64, 0f64), |(l, h), &v| (l.min(v), h.max(v)));
        context! { class => c, name => NAMES[c], positives => scored.counts[c].positives(), f1 => of, spread => (high - low).max(0.0) }
    };
    context! { rows, macro_f1 => spread(&f1), map => spread(&map), classes => (0..CLASSES).map(class).collect::<Vec<_>>() }
}
