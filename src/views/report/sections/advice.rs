//! What to look at first in a report.

use serde::Serialize;

use crate::{
    data::labels::NAMES,
    views::report::{
        confusion_counts::ConfusionCounts, fold_epochs::FoldEpochs,
        near_duplicates::NearDuplicates, scored_run::ScoredRun,
    },
};

/// A class with fewer samples has no reliable F1.
const FEW: u64 = 10;

#[derive(Serialize)]
pub struct Advice {
    /// Id of the section that shows it.
    link: String,
    /// One sentence.
    text: String,
}

/// The most important one first.
pub fn advice(
    scored: &ScoredRun,
    folds: &[FoldEpochs],
    found: Option<&NearDuplicates>,
    confusion: &ConfusionCounts,
) -> Vec<Advice> {
    let (conflicts, leaked) = found.map_or((0, 0), |f| (f.conflicts, f.leaked_tests()));
    let mistakes =
        "The most confident mistakes: each is a wrong label or what the network cannot do yet.";
    [
        split_groups(found.map_or(0, |f| f.across_folds)),
        unfinished(folds.len(), scored.config.split.folds),
        Some(("mistakes".into(), mistakes.into())),
        worst_class(scored),
        confused(confusion),
        (conflicts > 0).then(|| {
            let what = "groups of near-duplicates carry different labels (conflicts.csv).";
            ("duplicates".into(), format!("{conflicts} {what}"))
        }),
        (leaked > 0).then(|| {
            let what = "test samples match a training sample: a score on the test set is too good \
                by them.";
            ("duplicates".into(), format!("{leaked} {what}"))
        }),
        overfitting(folds),
        threshold_gap(scored),
        calibration(scored.reliability.error),
        rare_classes(scored),
    ]
    .into_iter()
    .flatten()
    .map(|(link, text)| Advice { link, text })
    .collect()
}

/// Section and sentence.
type Remark = Option<(String, String)>;

fn split_groups(groups: usize) -> Remark {
    let text =
        format!("{groups} groups lie in more than one fold: the score is too good. Split again.");
    (groups > 0).then(|| ("duplicates".into(), text))
}

fn unfinished(finished: usize, planned: usize) -> Remark {
    let text =
        format!("Only {finished} of {planned} folds are finished: what follows is of those.");
    (finished < planned).then(|| ("folds".into(), text))
}

fn worst_class(scored: &ScoredRun) -> Remark {
    let f1 = |class: usize| scored.counts[class].f1();
    let class = (0..NAMES.len())
        .filter(|&c| scored.counts[c].positives() > 0)
        .min_by(|&a, &b| f1(a).total_cmp(&f1(b)))?;
    let (name, f1) = (NAMES[class], f1(class));
    let text = format!("{name}, the worst class (F1 {f1:.3}): its hardest samples.");
    Some((format!("class-{class}"), text))
}

fn confused(confusion: &ConfusionCounts) -> Remark {
    let (there, back) = confusion.most_confused(1).pop()?;
    let text = format!(
        "{} and {} are taken for each other {} times.",
        NAMES[there.missed],
        NAMES[there.predicted],
        there.count + back.count
    );
    Some(("confusion".into(), text))
}

fn overfitting(folds: &[FoldEpochs]) -> Remark {
    let gap = |f: &FoldEpochs| {
        f.history.iter().rev().find_map(|r| Some(r.train_macro_f1 - r.macro_f1?)).unwrap_or(0.0)
    };
    let gap = folds.iter().map(gap).fold(0.0, f64::max);
    let text = format!(
        "Training scores up to {gap:.2} above validation: the network learns samples by heart."
    );
    (gap > 0.1).then(|| ("learning".into(), text))
}

fn threshold_gap(scored: &ScoredRun) -> Remark {
    let method = scored.method();
    let gap = method.in_sample - method.cross_fitted;
    let text =
        format!("Thresholds score {gap:.3} better on what they were fitted on: they fit chance.");
    (gap > 0.02).then(|| ("thresholds".into(), text))
}

fn calibration(error: f64) -> Remark {
    let text = format!("Probabilities are off by {error:.2} on average: do not read them as such.");
    (error > 0.05).then(|| ("calibration".into(), text))
}

fn rare_classes(scored: &ScoredRun) -> Remark {
    let few = scored.counts.iter().filter(|c| c.positives() < FEW).count();
    let text = format!("{few} classes have fewer than {FEW} samples: their F1 is hardly known.");
    (few > 0).then(|| ("classes".into(), text))
}
