//! `atlas split`
use std::path::PathBuf;

use atlas::{
    base::{Error, task_log::Log},
    config::{Config, Groups, Split, SplitMethod},
    data::{
        dedup::{DUPLICATES, job, tables::Duplicates},
        folds::{self, FoldRow, table},
        labels::{self, Labels, NAMES},
        manifest::{self, Manifest, Part},
        work_folder::WorkFolder,
    },
};

use crate::common::{Common, must_exist, recorded};

/// Split the training samples into stratified folds, groups kept whole
///
/// Reads the manifest, the shards' lists and duplicates.csv in paths.work and writes folds.csv:
/// id,group,fold for every sample that stays; samples removed as duplicates are not in it.
/// split.groups says what is never cut: nothing (none), duplicates, wells with duplicates,
/// antibodies with wells and duplicates. With split.method=shuffle the column fold lists the draws
/// that hold a sample out, which may be none.
///
/// With --labels and --out it needs no pictures: a table Id,Target becomes such a table; wells and
/// antibodies are told from ids of the form antibody_plate_well_field.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  atlas split --config configs/atlas.toml\n  \
    atlas split --labels train.csv --out folds.csv --set split.groups=none --set split.folds=5")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// A bare table Id,Target, instead of a manifest
    #[arg(long, value_name = "FILE", requires = "out")]
    labels: Option<PathBuf>,
    /// Where the bare table's folds go
    #[arg(long, value_name = "FILE", requires = "labels")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    match args.labels.is_some() {
        true => split(args, &config),
        false => recorded(&Log::of(&config.paths.work, "split", 0), || split(args, &config)),
    }
}

fn split(args: Args, config: &Config) -> anyhow::Result<()> {
    let work = &WorkFolder::open(&config.paths.work);
    let bare = args.labels.zip(args.out);
    let is_bare = bare.is_some();
    let (input, out) =
        bare.unwrap_or_else(|| (Manifest::path(work.path()), work.path().join(table::NAME)));
    let samples = if is_bare {
        must_exist("--labels", &input)?;
        from_table(&input, config.split.groups)?
    } else {
        from_work(work, config.split.groups)?
    };
    let folds = config.split.folds;
    let groups = samples.groups.iter().max().map_or(0, |g| g + 1);
    let needed = if config.split.method == SplitMethod::Folds { folds } else { 2 };
    if groups < needed {
        let n = samples.ids.len();
        let fewer = (groups >= 2).then(|| format!("lower split.folds to {groups}, "));
        let finer = (n >= needed).then_some("set split.groups=none, ");
        let ways = fewer.unwrap_or_default() + finer.unwrap_or_default();
        let name = out.display();
        return Err(Error::data(
            &input,
            format!(
                "its {n} samples form {groups} groups, and {needed} \
            are needed for {name}: {ways}add data"
            ),
        )
        .into());
    }
    let (fold_of, share) = draw(&samples, &config.split);
    let members: Vec<Vec<usize>> = (0..folds)
        .map(|f| (0..fold_of.len()).filter(|&i| fold_of[i].contains(&f)).collect())
        .collect();
    let rows: Vec<FoldRow> = samples
        .ids
        .into_iter()
        .zip(samples.groups)
        .zip(fold_of)
        .map(|((id, group), folds)| FoldRow { id, group, folds })
        .collect();
    if is_bare {
        table::write_table(&out, &rows)?;
    } else {
        folds::write(work.path(), work.store(Part::Train)?, &config.split, &rows)?;
    }

    let quality = folds::quality(&samples.labels, &members, share);
    let mut text = format!("{} samples in {groups} groups\n", rows.len());
    for (fold, size) in quality.sizes.iter().enumerate() {
        text +=
            &format!("fold {fold}: {size:>6} samples validate, {:>6} train\n", rows.len() - size);
    }
    text += &format!(
        "largest deviation of a class count: {:.1} ({}); mean relative deviation {:.4}\nwrote {}{}",
        quality.max_abs_count_deviation,
        NAMES[quality.worst_class],
        quality.mean_rel_deviation,
        out.display(),
        if is_bare {
            String::new()
        } else {
            format!("\nnext: atlas train --fold 0, and so on to {}", folds - 1)
        }
    );
    let mut json = serde_json::to_value(&quality)?;
    (json["samples"], json["groups"], json["out"]) =
        (rows.len().into(), groups.into(), serde_json::to_value(&out)?);
    args.common.print(text, json);
    Ok(())
}

struct Samples {
    ids: Vec<String>,
    labels: Vec<Labels>,
    groups: Vec<usize>,
}

fn draw(samples: &Samples, split: &Split) -> (Vec<Vec<usize>>, f64) {
    let (labels, groups) = (&samples.labels, &samples.groups);
    match split.method {
        SplitMethod::Folds => {
            let folds = folds::split(labels, groups, split.folds, split.order, split.seed);
            (folds.into_iter().map(|f| vec![f]).collect(), 1.0 / split.folds as f64)
        }
        SplitMethod::Shuffle => (
            folds::shuffle(labels, groups, split.folds, split.holdout, split.order, split.seed),
            split.holdout,
        ),
    }
}

fn from_table(path: &PathBuf, level: Groups) -> Result<Samples, Error> {
    let (rows, problems) = labels::read_table(path)?;
    if let Some(problem) = problems.first() {
        return Err(Error::data(path, format!("{problem} ({} problems in all)", problems.len())));
    }
    if rows.is_empty() {
        return Err(Error::data(path, "no row below the header"));
    }
    let (ids, labels): (Vec<String>, Vec<Labels>) = rows.into_iter().unzip();
    let groups = group(&ids, &Duplicates::default(), level);
    Ok(Samples { ids, labels, groups })
}

fn from_work(work: &WorkFolder, level: Groups) -> Result<Samples, Error> {
    let manifest = work.manifest()?;
    let duplicates = match job::duplicates(work)? {
        Some(duplicates) => duplicates,
        None if level == Groups::None => Duplicates::default(),
        None => {
            return Err(Error::data(
                work.path().join(DUPLICATES),
                "not there; run `atlas dedup` first, or set split.groups=none",
            ));
        }
    };
    let store = work.store(Part::Train)?;
    let train: Vec<_> = manifest.samples.iter().filter(|s| s.part == Part::Train).collect();
    let ids: Vec<String> = train.iter().map(|s| s.id.clone()).collect();
    // Removed samples still tie groups together: the well of a removed copy belongs to the one that
    // stays.
    let groups = group(&ids, &duplicates, level);
    let stays = |id: &str| !duplicates.removed.contains(id) && store.find(id).is_some();
    let kept: Vec<usize> = (0..ids.len()).filter(|&i| stays(&ids[i])).collect();
    if kept.is_empty() {
        return Err(Error::data(
            Manifest::path(work.path()),
            "no training sample is in the shards; look at the quarantine lists",
        ));
    }
    Ok(Samples {
        ids: kept.iter().map(|&i| ids[i].clone()).collect(),
        labels: kept.iter().map(|&i| train[i].labels).collect(),
        groups: folds::dense(&kept.iter().map(|&i| groups[i]).collect::<Vec<_>>()),
    })
}

/// Groups of a level and all levels below it.
fn group(ids: &[String], duplicates: &Duplicates, level: Groups) -> Vec<usize> {
    let column = |key: &dyn for<'a> Fn(&'a str) -> Option<&'a str>| -> Vec<Option<&str>> {
        ids.iter().map(|id| key(id)).collect()
    };
    let mut columns = Vec::new();
    if level >= Groups::Duplicates {
        columns.push(ids.iter().map(|id| duplicates.group.get(id).map(String::as_str)).collect());
    }
    if level >= Groups::Well {
        columns.push(column(&manifest::well_of));
    }
    if level >= Groups::Antibody {
        columns.push(column(&manifest::antibody_of));
    }
    folds::groups_of(ids.len(), &columns)
}
