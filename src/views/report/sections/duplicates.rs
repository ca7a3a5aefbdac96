//! Near-duplicates among the training samples and between training and test, with images.

use serde::Serialize;

use crate::{
    base::Result,
    config::Dedup,
    data::{
        dedup::tables::{DuplicateRow, LeakRow},
        manifest::Part,
    },
    views::report::{near_duplicates::NearDuplicates, thumbnail::Thumbnails},
};

/// Groups and matches with the test set that are shown.
const GROUPS: usize = 12;
const LEAKS: usize = 12;

#[derive(Serialize)]
pub struct Duplicates {
    groups: Vec<Vec<MemberTile>>,
    leaks: Vec<LeakTile>,
    all_groups: usize,
    all_leaks: usize,
    removed: usize,
    conflicts: usize,
    across_folds: usize,
    leaked_tests: usize,
    radius: u32,
    min_correlation: f64,
    /// Why there are no images.
    missing: Option<String>,
}

#[derive(Serialize)]
struct MemberTile {
    #[serde(flatten)]
    row: DuplicateRow,
    /// `data:` URI of the image.
    src: Option<String>,
}

#[derive(Serialize)]
struct LeakTile {
    #[serde(flatten)]
    row: LeakRow,
    /// `data:` URIs of the images.
    src: Option<String>,
    test_src: Option<String>,
}

impl Duplicates {
    pub fn of(dedup: &Dedup, thumbnails: &Thumbnails, found: &NearDuplicates) -> Result<Self> {
        // Groups with low correlations first: those with high ones are obvious.
        let mut groups: Vec<_> = found.groups.iter().collect();
        groups.sort_by(|a, b| lowest(a).total_cmp(&lowest(b)));
        groups.truncate(GROUPS);
        let leaks = &found.leaks[..found.leaks.len().min(LEAKS)];
        let members = groups.iter().flat_map(|g| g.iter().map(|m| m.id.as_str()));
        let ids = members.chain(leaks.iter().map(|l| l.train.as_str())).collect();
        let train = thumbnails.of(Part::Train, ids)?;
        let test = thumbnails.of(Part::Test, leaks.iter().map(|l| l.test.as_str()).collect())?;
        let member =
            |m: &DuplicateRow| MemberTile { row: m.clone(), src: train.get(&m.id).cloned() };
        let leak = |l: &LeakRow| LeakTile {
            row: l.clone(),
            src: train.get(&l.train).cloned(),
            test_src: test.get(&l.test).cloned(),
        };
        Ok(Self {
            groups: groups.into_iter().map(|g| g.iter().map(member).collect()).collect(),
            leaks: leaks.iter().map(leak).collect(),
            all_groups: found.groups.len(),
            all_leaks: found.leaks.len(),
            removed: found.removed(),
            conflicts: found.conflicts,
            across_folds: found.across_folds,
            leaked_tests: found.leaked_tests(),
            radius: dedup.radius,
            min_correlation: dedup.min_correlation.into(),
            missing: thumbnails.missing().map(String::from),
        })
    }
}

/// The lowest correlation within a group.
fn lowest(group: &[DuplicateRow]) -> f32 {
    group.iter().filter_map(|m| m.correlation.parse::<f32>().ok()).fold(1.0, f32::min)
}
