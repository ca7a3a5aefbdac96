//! Samples to look at: the most confident mistakes, and of each class the hardest and the most
//! typical ones.

use serde::Serialize;

use crate::{
    base::Result,
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest::Part,
    },
    views::report::{
        scored_run::ScoredRun,
        selected_samples::{self, ClassSamples, SelectedSample},
        thumbnail::Thumbnails,
    },
};

/// Mistakes, and samples of each kind of a class, that are shown.
const MISTAKES: usize = 24;
const OF_CLASS: usize = 4;

#[derive(Serialize)]
pub struct Samples {
    mistakes: Vec<Tile>,
    classes: Vec<ClassTiles>,
    /// Why there are no images.
    missing: Option<String>,
}

#[derive(Serialize)]
struct ClassTiles {
    class: usize,
    name: &'static str,
    hardest: Vec<Tile>,
    typical: Vec<Tile>,
    mistaken: Vec<Tile>,
}

/// The image of a sample and its caption.
#[derive(Serialize)]
pub struct Tile {
    id: String,
    /// `data:` URI of the image.
    src: Option<String>,
    /// The class for which the sample is shown, its probability, and whether it is true.
    class: &'static str,
    probability: f64,
    is_true: bool,
    truth: Vec<&'static str>,
    predicted: Vec<&'static str>,
}

impl Samples {
    pub fn of(scored: &ScoredRun, thumbnails: &Thumbnails) -> Result<Self> {
        let answer = &scored.out_of_fold;
        let mistakes = selected_samples::mistakes(answer, MISTAKES);
        let classes: Vec<ClassSamples> =
            (0..CLASSES).map(|class| selected_samples::of_class(answer, class, OF_CLASS)).collect();
        let of_classes =
            classes.iter().flat_map(|c| c.hardest.iter().chain(&c.typical).chain(&c.mistaken));
        let ids = mistakes.iter().chain(of_classes).map(|s| answer.ids[s.row].as_str()).collect();
        let images = thumbnails.of(Part::Train, ids)?;
        let tiles = |samples: &[SelectedSample]| {
            let src = |s: &SelectedSample| images.get(&answer.ids[s.row]).cloned();
            samples.iter().map(|s| Tile::of(scored, *s, src(s))).collect()
        };
        let class = |(class, of): (usize, &ClassSamples)| ClassTiles {
            class,
            name: NAMES[class],
            hardest: tiles(&of.hardest),
            typical: tiles(&of.typical),
            mistaken: tiles(&of.mistaken),
        };
        Ok(Self {
            mistakes: tiles(&mistakes),
            classes: classes.iter().enumerate().map(class).collect(),
            missing: thumbnails.missing().map(String::from),
        })
    }
}

impl Tile {
    pub fn of(scored: &ScoredRun, sample: SelectedSample, src: Option<String>) -> Self {
        let SelectedSample { row, class } = sample;
        let answer = &scored.out_of_fold;
        let names = |set: Labels| set.iter().map(|c| NAMES[c]).collect();
        Self {
            id: answer.ids[row].clone(),
            src,
            class: NAMES[class],
            probability: answer.probabilities[[row, class]].into(),
            is_true: answer.truth[row].contains(class),
            truth: names(answer.truth[row]),
            predicted: names(scored.predicted[row]),
        }
    }
}
