//! The first section: what to know of a run before anything else.

use minijinja::{Value, context, value::Serde};

use crate::{
    base::Result,
    config::Config,
    data::{
        labels::NAMES,
        manifest::{Part, Source},
    },
    views::report::{
        confusion::Confusion,
        cost::Cost,
        epochs::Fold,
        leaks::Found,
        scored::{RESAMPLES, Scored},
    },
};

/// Classes with fewer samples are said to be hardly known.
const FEW: u64 = 10;

/// Everything of the section but its pictures.
pub fn glance(scored: &Scored, folds: &[Fold], found: Option<&Found>) -> Result<Value> {
    let mut classes = scored.classes();
    classes.retain(|c| c.positives > 0);
    classes.sort_by(|a, b| b.f1.total_cmp(&a.f1).then(a.class.cmp(&b.class)));
    let confusion = Confusion::new(&scored.predicted, &scored.answer.truth);
    let pairs = confusion.most_confused(3).into_iter().map(|(there, back)| {
        context! { a => NAMES[there.missed], b => NAMES[there.predicted], there => there.count, back => back.count, both => there.count + back.count }
    });
    let pairs: Vec<Value> = pairs.collect();
    let provenance = scored.run.provenance();
    let machine = |key: &str| match &provenance[key] {
        serde_json::Value::Null => "unknown".to_string(),
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let cost = scored.cost();
    let config = &scored.config;
    let manifest = scored.work.manifest()?;
    let of = |part, source| {
        manifest.samples.iter().filter(|s| s.part == part && s.source == source).count()
    };
    let method = scored.method();
    let ranks = folds.iter().flat_map(|f| f.intervals.iter().map(|i| i.ranks)).max().unwrap_or(0);
    Ok(context! {
        score => scored.macro_f1(), interval => Serde(scored.interval()), in_sample => method.in_sample, method => &method.method, map => scored.map(),
        resamples => RESAMPLES, groups => scored.bootstrap.groups, samples => scored.answer.ids.len(),
        best => Serde(classes.iter().take(3).collect::<Vec<_>>()), worst => Serde(classes.iter().rev().take(3).collect::<Vec<_>>()), pairs,
        train => of(Part::Train, Source::Official), external => of(Part::Train, Source::External),
        test => manifest.samples.iter().filter(|s| s.part == Part::Test).count(), removed => found.map(Found::removed),
        size => config.preprocess.size, folds => folds.len(), folds_planned => config.split.folds, arch => &config.model.arch, epochs => config.train.epochs,
        crop => config.augment.crop, batch => config.train.batch, lr => config.train.lr, group_by => Serde(config.split.groups),
        changed => Serde(changed(config)), toml => config.to_toml(),
        machine => context! {
            host => machine("host"), processor => machine("processor"), threads => machine("threads"), commit => machine("git_commit"),
            version => machine("atlas_version"), libtorch => machine("libtorch"), started => machine("started"), ranks,
        },
        cost => Serde(&cost), core_hours => Cost::core_hours(&cost.run), gpu_hours => Cost::gpu_hours(&cost.run), data_core_hours => Cost::core_hours(&cost.data),
        advice => advice(scored, folds, found, &confusion),
    })
}

/// The keys that are not at their defaults, without those of folders.
fn changed(config: &Config) -> Vec<(String, String)> {
    let defaults = Config::default().leaves();
    let own = config.leaves().into_iter().filter(|(key, value)| defaults.get(key) != Some(value));
    own.filter(|(key, _)| !key.starts_with("paths.") && !key.starts_with("data."))
        .map(|(key, value)| (key, value.to_string()))
        .collect()
}

/// What to look at first: a sentence and the section that shows it, the weightiest first.
fn advice(
    scored: &Scored,
    folds: &[Fold],
    found: Option<&Found>,
    confusion: &Confusion,
) -> Vec<Value> {
    let mut advice = Vec::new();
    let mut say = |link: &str, text: String| advice.push(context! { link, text });
    if let Some(found) = found.filter(|f| f.across_folds > 0) {
        say(
            "duplicates",
            format!(
                "{} groups lie in more than one fold: the score is too good. Split again.",
                found.across_folds
            ),
        );
    }
    if folds.len() < scored.config.split.folds {
        say(
            "folds",
            format!(
                "Only {} of {} folds are finished: what follows is of those.",
                folds.len(),
                scored.config.split.folds
            ),
        );
    }
    say(
        "mistakes",
        "The most confident mistakes: each is a wrong label or what the network cannot do yet."
            .into(),
    );
    let worst = (0..NAMES.len())
        .filter(|&c| scored.counts[c].positives() > 0)
        .min_by(|&a, &b| scored.counts[a].f1().total_cmp(&scored.counts[b].f1()));
    if let Some(class) = worst {
        let text = format!(
            "{}, the worst class (F1 {:.3}): its hardest samples.",
            NAMES[class],
            scored.counts[class].f1()
        );
        say(&format!("class-{class}"), text);
    }
    if let Some((there, back)) = confusion.most_confused(1).first() {
        let text = format!(
            "{} and {} are taken for each other {} times.",
            NAMES[there.missed],
            NAMES[there.predicted],
            there.count + back.count
        );
        say("confusion", text);
    }
    if let Some(found) = found.filter(|f| f.conflicts > 0) {
        say(
            "duplicates",
            format!(
                "{} groups of near-duplicates carry different labels (conflicts.csv).",
                found.conflicts
            ),
        );
    }
    if let Some(found) = found.filter(|f| f.leaked_tests() > 0) {
        say(
            "duplicates",
            format!(
                "{} test samples match a training sample: a score on the test set is too good by \
                    them.",
                found.leaked_tests()
            ),
        );
    }
    let gap = |f: &Fold| {
        f.history.iter().rev().find_map(|r| Some(r.train_macro_f1 - r.macro_f1?)).unwrap_or(0.0)
    };
    let worst = folds.iter().map(gap).fold(0.0, f64::max);
    if worst > 0.1 {
        say(
            "learning",
            format!(
                "Training scores up to {worst:.2} above validation: the network learns samples by \
                    heart."
            ),
        );
    }
    let method = scored.method();
    if method.in_sample - method.cross_fitted > 0.02 {
        let text = format!(
            "Thresholds score {:.3} better on what they were fitted on: they fit chance.",
            method.in_sample - method.cross_fitted
        );
        say("thresholds", text);
    }
    if scored.reliability.error > 0.05 {
        say(
            "calibration",
            format!(
                "Probabilities are off by {:.2} on average: do not read them as such.",
                scored.reliability.error
            ),
        );
    }
    let few = scored.counts.iter().filter(|c| c.positives() < FEW).count();
    if few > 0 {
        say(
            "classes",
            format!("{few} classes have fewer than {FEW} samples: their F1 is hardly known."),
        );
    }
    advice
}
