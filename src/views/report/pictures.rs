//! The values of the sections that show samples.

use std::{collections::HashMap, sync::Arc};

use minijinja::{Value, context};
use rayon::prelude::*;

use crate::{
    base::Result,
    data::{
        dedup::tables::DuplicateRow,
        labels::{CLASSES, Labels, NAMES},
        manifest::Part,
        shard::Store,
    },
    training::train,
    views::report::{
        leaks::Found,
        look,
        samples::{self, Shown},
        scored::Scored,
        thumb,
    },
};

/// Most confident mistakes, samples of each kind of a class, groups and matches that are shown.
const MISTAKES: usize = 24;
const OF_CLASS: usize = 4;
const GROUPS: usize = 12;
const LEAKS: usize = 12;
/// Classes of which an activation map is shown at each end, and mistakes.
const MAPS: usize = 4;

/// The shards, where they are still there.
pub struct Album {
    train: std::result::Result<Arc<Store>, String>,
    test: std::result::Result<Arc<Store>, String>,
}

impl Album {
    pub fn open(scored: &Scored) -> Self {
        let open = |part| scored.work.store(part).cloned().map_err(|e| e.to_string());
        Self { train: open(Part::Train), test: open(Part::Test) }
    }

    /// Why there are no pictures of training samples.
    pub fn missing(&self) -> Option<&str> {
        self.train.as_ref().err().map(String::as_str)
    }

    /// The thumbnails of these samples by their ids; those that are in no shard are left out.
    fn thumbs(&self, part: Part, ids: Vec<&str>) -> Result<HashMap<String, String>> {
        let store = if part == Part::Train { &self.train } else { &self.test };
        let Ok(store) = store else { return Ok(HashMap::new()) };
        let mut places: Vec<(&str, usize)> =
            ids.into_iter().filter_map(|id| Some((id, store.find(id)?))).collect();
        places.sort_unstable();
        places.dedup();
        places
            .into_par_iter()
            .map(|(id, i)| Ok((id.to_string(), thumb::colour(store, i)?)))
            .collect()
    }
}

/// Near-duplicates and matches with the test set.
pub fn duplicates(scored: &Scored, album: &Album, found: Option<&Found>) -> Result<Value> {
    let Some(found) = found else { return Ok(context! { known => false }) };
    // Not to show twelve times the same: groups with the lowest correlation are the ones to doubt.
    let mut groups: Vec<_> = found.groups.iter().collect();
    let doubt = |correlations: &mut dyn Iterator<Item = &String>| {
        correlations.filter_map(|c| c.parse::<f32>().ok()).fold(1.0, f32::min)
    };
    groups.sort_by(|a, b| {
        doubt(&mut a.iter().map(|m| &m.correlation))
            .total_cmp(&doubt(&mut b.iter().map(|m| &m.correlation)))
    });
    groups.truncate(GROUPS);
    let leaks: Vec<_> = found.leaks.iter().take(LEAKS).collect();
    let ids = groups
        .iter()
        .flat_map(|g| g.iter().map(|m| m.id.as_str()))
        .chain(leaks.iter().map(|l| l.train.as_str()))
        .collect();
    let train = album.thumbs(Part::Train, ids)?;
    let test = album.thumbs(Part::Test, leaks.iter().map(|l| l.test.as_str()).collect())?;
    let groups: Vec<Value> = groups.iter().map(|g| {
        let member = |m: &DuplicateRow| context! { id => &m.id, kept => m.kept, correlation => &m.correlation, src => train.get(&m.id) };
        g.iter().map(member).collect()
    }).collect();
    let leaks: Vec<Value> = leaks.iter().map(|l| {
        context! { train => &l.train, test => &l.test, correlation => &l.correlation, kept => l.kept, src => train.get(&l.train), test_src => test.get(&l.test) }
    }).collect();
    Ok(context! {
        known => true, groups, leaks, all_groups => found.groups.len(), all_leaks => found.leaks.len(), removed => found.removed(),
        conflicts => found.conflicts, across_folds => found.across_folds, leaked_tests => found.leaked_tests(),
        radius => scored.config.dedup.radius, min_correlation => f64::from(scored.config.dedup.min_correlation), missing => album.missing(),
    })
}

/// The most confident mistakes, and of each class the hardest and the most typical samples.
pub fn samples(scored: &Scored, album: &Album) -> Result<Value> {
    let mistakes = samples::mistakes(&scored.answer, MISTAKES);
    let classes: Vec<_> =
        (0..CLASSES).map(|class| samples::of_class(&scored.answer, class, OF_CLASS)).collect();
    let of_classes =
        classes.iter().flat_map(|c| c.hardest.iter().chain(&c.typical).chain(&c.mistaken));
    let ids =
        mistakes.iter().chain(of_classes).map(|s| scored.answer.ids[s.row].as_str()).collect();
    let thumbs = album.thumbs(Part::Train, ids)?;
    let tiles = |shown: &[Shown]| {
        shown
            .iter()
            .map(|s| tile(scored, *s, thumbs.get(&scored.answer.ids[s.row])))
            .collect::<Vec<_>>()
    };
    let of_class = |(class, of): (usize, &samples::OfClass)| {
        context! { class, name => NAMES[class], hardest => tiles(&of.hardest), typical => tiles(&of.typical), mistaken => tiles(&of.mistaken) }
    };
    let classes: Vec<Value> = classes.iter().enumerate().map(of_class).collect();
    Ok(context! { mistakes => tiles(&mistakes), classes, missing => album.missing() })
}

/// Class activation maps: the most typical sample of the best classes, the hardest of the worst,
/// the most confident mistakes.
pub fn look(scored: &Scored, album: &Album) -> Result<Value> {
    let skip = |why: String| Ok(context! { why, tiles => Vec::<Value>::new() });
    let store = match &album.train {
        Ok(store) => store,
        Err(e) => return skip(format!("The shards cannot be read ({e}).")),
    };
    let weights = scored
        .run
        .finished_folds()?
        .into_iter()
        .map(|k| train::weights_path(&scored.config, &scored.run, k));
    if let Some(gone) = weights.into_iter().find(|path| !path.exists()) {
        return skip(format!("The checkpoint {} is gone.", gone.display()));
    }
    let mut order: Vec<usize> =
        (0..CLASSES).filter(|&c| scored.counts[c].positives() > 0).collect();
    order.sort_by(|&a, &b| scored.counts[b].f1().total_cmp(&scored.counts[a].f1()));
    let of = |class: usize| samples::of_class(&scored.answer, class, 1);
    let best = order.iter().take(MAPS).flat_map(|&c| of(c).typical).map(|s| ("typical", s));
    let worst = order.iter().rev().take(MAPS).flat_map(|&c| of(c).hardest).map(|s| ("hard", s));
    let wrong = samples::mistakes(&scored.answer, MAPS).into_iter().map(|s| ("mistake", s));
    let shown: Vec<(&str, Shown)> = best.chain(worst).chain(wrong).collect();
    let which: Vec<Shown> = shown.iter().map(|s| s.1).collect();
    let maps = look::maps(&scored.config, &scored.run, &scored.answer, store, &which)?;
    let mut tiles = Vec::new();
    for ((kind, shown), map) in shown.into_iter().zip(maps) {
        let id = &scored.answer.ids[shown.row];
        if let (Some(map), Some(i)) = (map, store.find(id)) {
            let nothing = map.iter().all(|&v| v == 0.0);
            let plain = thumb::colour(store, i)?;
            tiles.push(context! { kind, heat => thumb::heat(store, i, &map)?, nothing, ..tile(scored, shown, Some(&plain)) });
        }
    }
    Ok(context! { why => "", tiles })
}

/// What stands below the picture of a sample.
pub fn tile(scored: &Scored, shown: Shown, src: Option<&String>) -> Value {
    let answer = &scored.answer;
    let names = |set: Labels| set.iter().map(|c| NAMES[c]).collect::<Vec<_>>();
    let (truth, predicted) = (answer.truth[shown.row], scored.predicted[shown.row]);
    context! {
        id => &answer.ids[shown.row], fold => answer.folds[shown.row], class => NAMES[shown.class], src,
        p => f64::from(answer.probabilities[[shown.row, shown.class]]), is => truth.contains(shown.class), said => predicted.contains(shown.class),
        truth => names(truth), predicted => names(predicted),
    }
}
