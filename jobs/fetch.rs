//! `atlas fetch`
use std::{
    fs,
    path::{Path, PathBuf},
};

use atlas::{
    base::{Error, pipeline_step::Step, slurm, task_log::TaskLog},
    config::Config,
    fetch::{FetchJob, FetchSummary, TaskShare, external, kaggle},
};
use serde_json::json;

use crate::common::{Common, Tasks, WHOLE, must_exist, recorded, stop_on_signals};

/// Download the data: the competition's files from Kaggle, the external images from the Human
/// Protein Atlas
///
/// Both resume partial downloads, check every file, and list it in fetched-NNNNN.csv
/// (file,bytes,sha256,url,validator) of the data folder; files that could not be fetched are in
/// failed-NNNNN.csv (file,url,reason,attempts). Run it again to fetch what is missing. Task i of N
/// fetches the files (of the external set: the samples) i, i+N, and so on.
#[derive(clap::Args)]
#[command(
    after_help = "Example: atlas fetch external --set data.external=/data/hpav18 --task 0 --tasks 4"
)]
pub struct Args {
    #[command(subcommand)]
    source: Source,
}

#[derive(clap::Subcommand)]
enum Source {
    /// Fetch train.zip, test.zip, train.csv and sample_submission.csv and unpack the zips
    ///
    /// Reads the credentials from KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME and
    /// KAGGLE_KEY, or ~/.kaggle/kaggle.json, whichever comes first. The two files may also be in
    /// $XDG_CONFIG_HOME/kaggle (~/.config/kaggle); KAGGLE_CONFIG_DIR names another folder for them.
    /// The competition's rules must have been accepted in a browser.
    ///
    /// Writes train/, test/, train.csv and sample_submission.csv to data.kaggle. A zip is removed
    /// once all of it is unpacked.
    #[command(after_help = "Example: KAGGLE_API_TOKEN=... atlas fetch kaggle --set \
            data.kaggle=/data/kaggle")]
    Kaggle(Options),
    /// Fetch the four images of each id of a table
    ///
    /// Reads the ids from the CSV with the columns Id,Target in data.external, or from --list.
    ///
    /// Writes images/<id>_<channel>.jpg to data.external. Where the server lacks more than
    /// fetch.max_missing_fraction of a task's files (or has them broken at each attempt), the job
    /// fails with exit code 65.
    ///
    /// With --xml it makes the table instead: it reads the Atlas's XML and writes proteinatlas.csv
    /// (Id,Target) to data.external.
    #[command(
        after_help = "Example: atlas fetch external --xml --set data.external=/data/hpa && atlas \
            fetch external --set data.external=/data/hpa"
    )]
    External(External),
}

#[derive(clap::Args)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Number of this task (default: SLURM_ARRAY_TASK_ID; outside an array, all tasks at once)
    #[arg(long, value_name = "I")]
    task: Option<usize>,
    /// Number of tasks (default: fetch.tasks, never the size of the array at hand)
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
    /// Hash the files that are already there, and fetch those that have changed
    #[arg(long)]
    verify: bool,
}

#[derive(clap::Args)]
struct External {
    #[command(flatten)]
    options: Options,
    /// A CSV with the column Id, instead of the table in data.external
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Make the table from the Atlas's XML, gzipped or not (without a value: fetch.xml_url)
    #[arg(
        long,
        value_name = "FILE_OR_URL",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["list", "task", "tasks"]
    )]
    xml: Option<String>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.source {
        Source::Kaggle(options) => {
            let config = options.common.config()?;
            let Some(share) = options.share(config.fetch.tasks)? else { return Ok(()) };
            recorded(&log(&config.paths.work, Step::FetchKaggle, share.task)?, || {
                let folder = folder("data.kaggle", config.data.kaggle.as_deref())?;
                options.finish(kaggle::fetch(&options.job(&config, folder, share)?)?)
            })
        }
        // In an array one task makes the table.
        Source::External(External { xml: Some(_), .. })
            if slurm::array_task()?.is_some_and(|task| task != 0) =>
        {
            Ok(())
        }
        Source::External(External { options, xml: Some(xml), .. }) => make_table(&options, &xml),
        Source::External(External { options, list, .. }) => {
            let config = options.common.config()?;
            let Some(share) = options.share(config.fetch.tasks)? else { return Ok(()) };
            recorded(&log(&config.paths.work, Step::FetchExternal, share.task)?, || {
                let folder = folder("data.external", config.data.external.as_deref())?;
                let table = match &list {
                    Some(list) => must_exist("--list", list).map(|()| list.clone())?,
                    None => external::id_table(folder)?,
                };
                let job = options.job(&config, folder, share)?;
                options.finish(external::fetch_images(&job, &table)?)
            })
        }
    }
}

/// `--xml`: the table from the Atlas's XML.
fn make_table(options: &Options, xml: &str) -> anyhow::Result<()> {
    let config = options.common.config()?;
    let folder = folder("data.external", config.data.external.as_deref())?;
    let xml = if xml.is_empty() { &config.fetch.xml_url } else { xml };
    if !xml.contains("://") {
        must_exist("--xml", Path::new(xml))?;
    }
    let job = options.job(&config, folder, TaskShare { task: 0, tasks: 1 })?;
    let made = external::make_table(&job, xml)?;
    let text = format!(
        "{} images with a location of the 28 classes\n\
         {} images without one, left out; {} addresses that are not images of the Atlas\n\
         wrote {}\nnext: `atlas fetch external`",
        made.images,
        made.unlabelled,
        made.foreign,
        made.table.display()
    );
    options.common.print(text, serde_json::to_value(&made)?)?;
    Ok(())
}

/// The record of this task for `status`. The work folder may not exist yet, since `fetch` may be
/// the first job of all.
fn log(work: &Path, step: Step, task: usize) -> Result<TaskLog, Error> {
    fs::create_dir_all(work).map_err(Error::io("create the folder", work))?;
    Ok(TaskLog::of(work, step, task))
}

fn folder<'a>(key: &str, folder: Option<&'a Path>) -> Result<&'a Path, Error> {
    folder.ok_or_else(|| {
        Error::usage(format!(
            "{key} is not set; name the folder for the data, such as --set {key}=FOLDER"
        ))
    })
}

impl Options {
    /// This task's share of `planned` tasks (`fetch.tasks`), or none, with a message, if there is
    /// nothing to do for it.
    fn share(&self, planned: usize) -> anyhow::Result<Option<TaskShare>> {
        let tasks = Tasks { task: self.task, tasks: self.tasks };
        let (task, tasks) = tasks.resolve(|| Ok(planned))?.unwrap_or(WHOLE);
        if task < tasks {
            return Ok(Some(TaskShare { task, tasks }));
        }
        let last = tasks - 1;
        let text =
            format!("nothing to do: fetch.tasks is {tasks}, so the tasks count from 0 to {last}");
        self.common.print(text, json!({ "files": 0 }))?;
        Ok(None)
    }

    fn job<'a>(
        &self,
        config: &'a Config,
        folder: &'a Path,
        share: TaskShare,
    ) -> anyhow::Result<FetchJob<'a>> {
        Ok(FetchJob {
            config: &config.fetch,
            folder,
            max_side: config.preprocess.max_pixels_side,
            verify: self.verify,
            share,
            stop: stop_on_signals()?,
        })
    }

    /// Prints the summary; fails unless all files are there that have to be.
    fn finish(&self, summary: FetchSummary) -> anyhow::Result<()> {
        let next = match summary.is_complete() {
            true => "\nnext: the other tasks, if there are any, then `atlas plan`",
            false => "",
        };
        let printed =
            self.common.print(format!("{summary}{next}"), serde_json::to_value(&summary)?);
        summary.into_result()?; // which tells more than an end without a summary
        Ok(printed?)
    }
}
