//! Activation maps: the most typical sample of the best classes, the hardest of the worst, and the
//! most confident mistakes.

use serde::Serialize;

use super::samples::Tile;
use crate::{
    base::Result,
    data::labels::CLASSES,
    views::report::{
        activation_maps,
        scored_run::ScoredRun,
        selected_samples::{self, SelectedSample},
        thumbnail::{self, Thumbnails},
    },
};

/// Best classes, worst classes and mistakes of which a map is shown.
const MAPS: usize = 4;

#[derive(Serialize)]
pub struct ActivationMaps {
    /// Why there are none; empty where there are.
    why: String,
    tiles: Vec<MapTile>,
}

#[derive(Serialize)]
struct MapTile {
    kind: &'static str,
    /// `data:` URI of the gray image with the map in orange.
    heat: String,
    /// Whether no part of the image supports the class.
    nothing: bool,
    #[serde(flatten)]
    tile: Tile,
}

impl ActivationMaps {
    pub fn of(scored: &ScoredRun, thumbnails: &Thumbnails) -> Result<Self> {
        let skip = |why: String| Ok(Self { why, tiles: Vec::new() });
        let store = match &thumbnails.train {
            Ok(store) => store,
            Err(e) => return skip(format!("The shards cannot be read ({e}).")),
        };
        let (config, run, answer) = (&scored.config, &scored.run, &scored.out_of_fold);
        let mut weights =
            run.finished_folds()?.into_iter().map(|k| run.weights(k, config.train.keep));
        if let Some(gone) = weights.find(|path| !path.exists()) {
            return skip(format!("The checkpoint {} is gone.", gone.display()));
        }
        let (kinds, samples): (Vec<_>, Vec<_>) = selected(scored).into_iter().unzip();
        let maps = activation_maps::maps(scored, store, &samples)?;
        let mut tiles = Vec::new();
        for ((kind, sample), map) in kinds.into_iter().zip(samples).zip(maps) {
            if let (Some(map), Some(i)) = (map, store.find(&answer.ids[sample.row])) {
                tiles.push(MapTile {
                    kind,
                    heat: thumbnail::heat(store, i, &map)?,
                    nothing: map.iter().all(|&v| v == 0.0),
                    tile: Tile::of(scored, sample, Some(thumbnail::colour(store, i)?)),
                });
            }
        }
        Ok(Self { why: String::new(), tiles })
    }
}

/// The samples of which maps are shown, each with why.
fn selected(scored: &ScoredRun) -> Vec<(&'static str, SelectedSample)> {
    let mut order: Vec<usize> =
        (0..CLASSES).filter(|&c| scored.counts[c].positives() > 0).collect();
    order.sort_by(|&a, &b| scored.counts[b].f1().total_cmp(&scored.counts[a].f1()));
    let answer = &scored.out_of_fold;
    let of = |class: usize| selected_samples::of_class(answer, class, 1);
    let best = order.iter().take(MAPS).flat_map(|&c| of(c).typical).map(|s| ("typical", s));
    let worst = order.iter().rev().take(MAPS).flat_map(|&c| of(c).hardest).map(|s| ("hard", s));
    let mistakes = selected_samples::mistakes(answer, MAPS).into_iter().map(|s| ("mistake", s));
    best.chain(worst).chain(mistakes).collect()
}
