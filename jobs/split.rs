//! `atlas split`
use std::path::{Path, PathBuf};

use atlas::{
    base::{pipeline_step::Step, task_log::TaskLog},
    config::Config,
    data::{
        folds::{self, Assigned, Known, table},
        labels::NAMES,
        work_folder::WorkFolder,
    },
};
use serde_json::json;

use crate::common::{Common, Summary, must_exist, must_not_replace, recorded};

/// Split the training samples into stratified folds, groups kept whole
///
/// Reads the manifest, the shards' lists and duplicates.csv in paths.work and writes folds.csv:
/// id,group,fold for every sample that is kept; samples removed as duplicates are not in it.
/// split.groups says what is never divided between folds: nothing (none), duplicates, wells with
/// duplicates, antibodies with wells and duplicates. With split.method=shuffle the column fold
/// lists the draws that hold a sample out, which may be none.
///
/// With --labels and --out it needs no images: it makes the same kind of table from a table
/// Id,Target; wells and antibodies are taken from ids of the form antibody_plate_well_field.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  atlas split --config configs/atlas.toml\n  \
    atlas split --labels train.csv --out folds.csv --set split.groups=none --set split.folds=5")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// A bare table Id,Target, instead of a manifest
    #[arg(long, value_name = "FILE", requires = "out")]
    labels: Option<PathBuf>,
    /// Where the bare table's folds go; `-`: to standard output
    #[arg(long, value_name = "FILE", requires = "labels")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let Summary { text, json } = match (&args.labels, &args.out) {
        (Some(labels), Some(out)) => {
            must_exist("--labels", labels)?;
            let out = args.common.output("--out", out)?;
            must_not_replace("--out", &out, labels)?;
            let made = summary(&folds::assign_table(labels, &out, &config.split)?, &out, "")?;
            return Ok(args.common.print_beside(&out, made.text, made.json)?);
        }
        _ => split(&config)?,
    };
    args.common.print(text, json)?;
    Ok(())
}

/// Splits the training samples of the work folder.
pub fn split(config: &Config) -> anyhow::Result<Summary> {
    let work = &config.paths.work;
    let assigned = recorded(&TaskLog::of(work, Step::Split, 0), || {
        Ok(folds::assign(&WorkFolder::of(config), &config.split)?)
    })?;
    let next = format!("\nnext: `atlas train --fold 0`, and so on to {}", config.split.folds - 1);
    summary(&assigned, &work.join(table::NAME), &next)
}

fn summary(assigned: &Assigned, out: &Path, next: &str) -> anyhow::Result<Summary> {
    let Assigned { samples, groups, quality, known, warnings } = assigned;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let mut text = format!("{samples} samples in {groups} groups\n");
    if let Some(Known { level, ids, recognised, different }) = known {
        text += &format!("{recognised} of {ids} ids name a {level}, {different} different ones\n");
    }
    for (fold, size) in quality.sizes.iter().enumerate() {
        text += &format!("fold {fold}: {size:>6} samples validate, {:>6} train\n", samples - size);
    }
    text += &format!(
        "largest deviation of a class count: {:.1} ({}); mean relative deviation {:.4}\nwrote \
         {}{next}",
        quality.max_abs_count_deviation,
        NAMES[quality.worst_class],
        quality.mean_rel_deviation,
        out.display(),
    );
    let mut json = serde_json::to_value(quality)?;
    (json["samples"], json["groups"]) = ((*samples).into(), (*groups).into());
    (json["known"], json["warnings"]) = (json!(known), json!(warnings));
    json["out"] = out.display().to_string().into();
    Ok(Summary { text, json })
}
