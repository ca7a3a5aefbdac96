//! `atlas fetch`
use std::{
    fs,
    path::{Path, PathBuf},
};

use atlas::{
    base::{Error, progress::Progress, slurm, step::Step, task_log::TaskLog},
    config::Config,
    data::{
        labels::{Rows, read_ids},
        manifest::external_table,
    },
    fetch::{self, Client, Fetched, Item, Kind, Ledger, Row, Target, kaggle},
};
use serde_json::json;

use crate::common::{Common, Tasks, must_exist, recorded, stop_on_signals};

/// Download the data: the competition's files from Kaggle, the external images from the Human
/// Protein Atlas
///
/// Both resume what is half there, check what comes, and list it in fetched-NNNNN.csv
/// (file,bytes,sha256,url,validator) of the data folder; what could not be fetched is in
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
    /// KAGGLE_KEY, or ~/.kaggle/kaggle.json, whichever comes first. The competition's rules must
    /// have been accepted in a browser.
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
    /// Hash the files that are there again, and fetch those that have changed
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
    #[arg(long, value_name = "FILE_OR_URL", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["list", "task", "tasks"])]
    xml: Option<String>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.source {
        Source::Kaggle(options) => {
            let config = options.common.config()?;
            let Some(share) = share(&options, &config)? else { return Ok(()) };
            recorded(&log(&config, Step::FetchKaggle, share.0)?, || {
                competition(&options, &config, share)
            })
        }
        // In an array one task makes the table.
        Source::External(External { xml: Some(_), .. })
            if slurm::array_task()?.is_some_and(|task| task != 0) =>
        {
            Ok(())
        }
        Source::External(External { options, xml: Some(xml), .. }) => table(&options, &xml),
        Source::External(External { options, list, .. }) => {
            let config = options.common.config()?;
            let Some(share) = share(&options, &config)? else { return Ok(()) };
            recorded(&log(&config, Step::FetchExternal, share.0)?, || {
                images(&options, &config, share, list.as_deref())
            })
        }
    }
}

/// Where it stands for `status` what this task did; `fetch` may be the first job of all.
fn log(config: &Config, step: Step, task: usize) -> Result<TaskLog, Error> {
    let work = &config.paths.work;
    fs::create_dir_all(work).map_err(Error::io("create the folder", work))?;
    Ok(TaskLog::of(work, step, task))
}

/// This task's share, or none, which is said.
fn share(options: &Options, config: &Config) -> anyhow::Result<Option<(usize, usize)>> {
    let tasks = Tasks { task: options.task, tasks: options.tasks };
    let (task, tasks) = tasks.resolve(|| Ok(config.fetch.tasks))?.unwrap_or((0, 1));
    if task < tasks {
        return Ok(Some((task, tasks)));
    }
    let text = format!(
        "nothing to do: fetch.tasks is {tasks}, so the tasks count from 0 to {}",
        tasks - 1
    );
    options.common.print(text, json!({ "files": 0 }));
    Ok(None)
}

fn folder<'a>(key: &str, folder: Option<&'a PathBuf>) -> Result<&'a Path, Error> {
    let missing = || {
        Error::usage(format!(
            "{key} is not set; say where the data shall go, such as --set {key}=FOLDER"
        ))
    };
    folder.map(PathBuf::as_path).ok_or_else(missing)
}

fn competition(
    options: &Options,
    config: &Config,
    (task, tasks): (usize, usize),
) -> anyhow::Result<()> {
    let folder = folder("data.kaggle", config.data.kaggle.as_ref())?;
    let stop = stop_on_signals()?;
    let ledger = Ledger::open(folder, task)?;
    let all: Vec<Item> =
        kaggle::files(&config.fetch).into_iter().skip(task).step_by(tasks).collect();
    let mut items = Vec::new();
    for item in &all {
        if !is_unpacked(&ledger, item, options.verify)? {
            items.push(item.clone());
        }
    }
    // Who has everything needs no credentials.
    let complete = items.iter().all(|i| ledger.holds(&i.file, false).is_ok_and(|held| held));
    let credentials =
        if complete && !options.verify { None } else { Some(kaggle::credentials(&config.fetch)?) };
    let client = Client::new(&config.fetch, credentials, stop);
    let progress = Progress::new("fetch kaggle", "files", items.len() as u64);
    let (mut done, ended) = fetch::fetch(
        &client,
        &config.fetch,
        &ledger,
        &items,
        config.preprocess.max_pixels_side,
        options.verify,
        &progress,
    );
    drop(progress);
    done.present += all.len() - items.len();
    let mut unpacked = 0;
    if ended.is_none() {
        for item in items.iter().filter(|i| !done.failed.iter().any(|f| f.file == i.file)) {
            unpacked += unpack(&ledger, item, options.verify, stop)?;
        }
    }
    let text = format!("{unpacked} files unpacked");
    report(
        options,
        &ledger,
        (task, tasks),
        all.len(),
        done,
        ended,
        0,
        &text,
        json!({ "unpacked": unpacked }),
    )
}

/// The folder of an archive.
fn stem(item: &Item) -> &str {
    item.file.trim_end_matches(".zip")
}

/// Whether all of an archive is unpacked and there. Its folder is a row of the ledger from the
/// moment when it was complete.
fn is_unpacked(ledger: &Ledger, item: &Item, verify: bool) -> Result<bool, Error> {
    let folder = format!("{}/", stem(item));
    if item.kind != Kind::Archive
        || ledger.row(&folder).is_none()
        || ledger.folder().join(&item.file).exists()
    {
        return Ok(false);
    }
    let files = ledger.files(&folder);
    let progress = Progress::new(format!("check {folder}"), "files", files.len() as u64);
    for file in files {
        progress.add(1);
        if file != folder && !ledger.holds(&file, verify)? {
            log::warn!(
                "{}: {file} is missing or has changed; {} is fetched again",
                ledger.folder().display(),
                item.file
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Unpacks a zip that has come, and removes it. Returns the number of files.
fn unpack(
    ledger: &Ledger,
    item: &Item,
    verify: bool,
    stop: &atlas::base::stop::Stop,
) -> Result<usize, Error> {
    let path = ledger.folder().join(&item.file);
    let zip = match item.kind {
        Kind::Archive => path,
        // Kaggle packs some tables on the way.
        _ if fetch::is_zip(&path)? => {
            let zip = ledger.folder().join(format!("{}.zip", item.file));
            fs::rename(&path, &zip).map_err(Error::io("rename", &path))?;
            zip
        }
        _ => return Ok(0),
    };
    let target = if item.kind == Kind::Archive {
        Target::Folder(stem(item))
    } else {
        Target::File(&item.file)
    };
    let unpacked = fetch::unpack(ledger, &zip, target, &item.url, verify, stop)
        .map_err(|e| without(ledger, &item.file, &zip, e))?;
    if item.kind == Kind::Archive {
        let file = format!("{}/", stem(item));
        ledger.add(Row {
            file,
            bytes: 0,
            sha256: String::new(),
            url: item.url.clone(),
            validator: String::new(),
        })?;
    }
    fs::remove_file(&zip).map_err(Error::io("remove", &zip))?;
    Ok(unpacked)
}

/// What came broken is removed where we fetched it ourselves, as the server's validator in the
/// ledger tells: it would stop every later run. A file of the user's stays.
fn without(ledger: &Ledger, file: &str, path: &Path, e: Error) -> Error {
    let Error::Data { what, .. } = e else { return e };
    let ours = ledger.row(file).is_some_and(|row| !row.validator.is_empty());
    let advice = match ours && fs::remove_file(path).is_ok() {
        true => "it was removed, run again to fetch it anew",
        false => "remove it and run again",
    };
    Error::data(path, format!("{what}; {advice}"))
}

fn images(
    options: &Options,
    config: &Config,
    (task, tasks): (usize, usize),
    list: Option<&Path>,
) -> anyhow::Result<()> {
    let folder = folder("data.external", config.data.external.as_ref())?;
    let table = match list {
        Some(list) => must_exist("--list", list).map(|()| list.to_path_buf())?,
        None if !folder.exists() => {
            let what = format!(
                "{} does not exist; make it and put the CSV (Id,Target) there, or let --xml make \
                    one",
                folder.display()
            );
            return Err(Error::usage(format!("data.external: {what}")).into());
        }
        None => external_table(folder)?,
    };
    let stop = stop_on_signals()?;
    let (ids, faults) = read_ids(&table)?;
    for fault in faults.iter().take(10) {
        log::warn!("{}: {fault}", table.display());
    }
    let (possible, refused) = fetch::images(&ids, &config.fetch.images_url);
    if let (true, Some((id, reason))) = (possible.is_empty(), refused.first()) {
        return Err(Error::data(
            &table,
            format!("none of the {} ids is an image of the Atlas ({id}: {reason})", ids.len()),
        )
        .into());
    }
    let ids: Vec<String> = ids.into_iter().skip(task).step_by(tasks).collect();
    let (items, refused) = fetch::images(&ids, &config.fetch.images_url);
    let ledger = Ledger::open(folder, task)?;
    let client = Client::new(&config.fetch, None, stop);
    let progress = Progress::new("fetch external", "files", items.len() as u64);
    let (mut done, ended) = fetch::fetch(
        &client,
        &config.fetch,
        &ledger,
        &items,
        config.preprocess.max_pixels_side,
        options.verify,
        &progress,
    );
    drop(progress);
    let allowed = (config.fetch.max_missing_fraction * items.len() as f64).floor() as usize;
    for (id, reason) in &refused {
        let (file, reason) = (id.clone(), format!("{reason}; not asked for"));
        done.foreign.push(fetch::Failed {
            file,
            url: String::new(),
            reason,
            attempts: 0,
            missing: true,
        });
    }
    let text = format!("{} ids are none of the Atlas", refused.len());
    report(
        options,
        &ledger,
        (task, tasks),
        items.len(),
        done,
        ended,
        allowed,
        &text,
        json!({ "refused": refused.len() }),
    )
}

/// Prints what was done, writes the list of failures, and says how it ends. `allowed`: files that
/// may be missing.
#[allow(clippy::too_many_arguments)]
fn report(
    options: &Options,
    ledger: &Ledger,
    share: (usize, usize),
    files: usize,
    done: Fetched,
    ended: Option<Error>,
    allowed: usize,
    more: &str,
    mut json: serde_json::Value,
) -> anyhow::Result<()> {
    let list = fetch::write_failed(ledger, &done, ended.is_some(), share)?;
    let (missing, left) = (done.count(true), done.count(false));
    let there = done.present + done.adopted + done.fetched;
    let text = format!(
        "{there} of {files} files are there: {} fetched ({:.1} MB), {} taken in, {} known; {more}\n\
         {missing} that the server lacks and {left} that failed are listed in {}\n\
         wrote {}",
        done.fetched,
        done.bytes as f64 / 1e6,
        done.adopted,
        done.present,
        list.display(),
        ledger.path().display(),
    );
    let next = (ended.is_none() && left == 0 && missing <= allowed)
        .then_some("\nnext: the other tasks, if there are, then atlas plan");
    let numbers = json!({
        "task": share.0, "tasks": share.1, "files": files, "there": there, "present": done.present, "adopted": done.adopted,
        "fetched": done.fetched, "bytes": done.bytes, "missing": missing, "failed": left, "ledger": ledger.path(), "failures": list,
    });
    if let (Some(json), serde_json::Value::Object(numbers)) = (json.as_object_mut(), numbers) {
        json.extend(numbers);
    }
    options.common.print(text + next.unwrap_or_default(), json);
    let example = |missing: bool| {
        done.failed
            .iter()
            .find(|f| f.missing == missing)
            .map_or(String::new(), |f| format!("{}: {}", f.file, f.reason))
    };
    match ended {
        Some(Error::Stopped(_)) => Err(Error::Stopped(format!(
            "stopped with {there} of {files} files there; run it again to go on"
        ))
        .into()),
        Some(e) => Err(e.into()),
        None if left > 0 => {
            let what = format!(
                "{left} of {files} files could not be fetched ({}); they are listed in {}",
                example(false),
                list.display()
            );
            Err(Error::failed(format!("{what}; run it again to fetch them")).into())
        }
        None if missing > allowed => {
            let what = format!(
                "{missing} of {files} files are not to be had ({}), {allowed} may be missing",
                example(true)
            );
            Err(Error::data(&list, format!("{what}; check the ids and the addresses in [fetch]"))
                .into())
        }
        None if missing > 0 => {
            log::warn!(
                "{missing} files are not to be had ({}); they are listed in {}",
                example(true),
                list.display()
            );
            Ok(())
        }
        None => Ok(()),
    }
}

/// `--xml`: the table from the Atlas's XML.
fn table(options: &Options, xml: &str) -> anyhow::Result<()> {
    let config = options.common.config()?;
    let folder = folder("data.external", config.data.external.as_ref())?;
    let stop = stop_on_signals()?;
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let path = folder.join("proteinatlas.csv");
    // `plan` wants one table, and whose it is should not be a matter of luck.
    if let Ok(other) = external_table(folder)
        && other != path
    {
        let what = format!(
            "{} is there already; move it away, or fetch by it without --xml",
            other.display()
        );
        return Err(
            Error::usage(format!("--xml would write {}, but {what}", path.display())).into()
        );
    }
    let url = if xml.is_empty() { &config.fetch.xml_url } else { xml };
    let source = match url.contains("://") {
        true => download(&config, folder, url, options.verify)?,
        false => must_exist("--xml", Path::new(url)).map(|()| PathBuf::from(url))?,
    };
    let length = fs::metadata(&source).map_err(Error::io("look at", &source))?.len();
    let progress = Progress::new("read XML", "bytes", length);
    let atlas = fetch::read_atlas(&source, &progress, stop)?;
    drop(progress);
    for (location, images) in &atlas.unknown {
        log::warn!("`{location}` is none of the 28 classes; {images} images name it");
    }
    write_table(&path, &atlas.rows)?;
    external_table(folder)?; // there were several already
    let text = format!(
        "{} images with a location of the 28 classes\n\
         {} images without one, left out; {} addresses that are no image of the Atlas\n\
         wrote {}\nnext: atlas fetch external",
        atlas.rows.len(),
        atlas.unlabelled,
        atlas.foreign,
        path.display()
    );
    let json = json!({
        "images": atlas.rows.len(), "unlabelled": atlas.unlabelled, "foreign": atlas.foreign, "unknown": atlas.unknown, "table": path,
    });
    options.common.print(text, json);
    Ok(())
}

/// The XML as a file of the folder; kept, since it takes long to come.
fn download(config: &Config, folder: &Path, url: &str, verify: bool) -> anyhow::Result<PathBuf> {
    let file = if url.ends_with(".gz") { "proteinatlas.xml.gz" } else { "proteinatlas.xml" };
    let item = Item { file: file.into(), url: url.into(), kind: Kind::Xml };
    let ledger = Ledger::open(folder, 0)?;
    let path = folder.join(file);
    if path.exists() && ledger.row(file).is_some_and(|row| row.url != url) {
        log::info!("{} came from another address; it is fetched anew", path.display());
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let client = Client::new(&config.fetch, None, stop_on_signals()?);
    let progress = Progress::new("fetch XML", "files", 1);
    let (done, ended) = fetch::fetch(
        &client,
        &config.fetch,
        &ledger,
        &[item],
        config.preprocess.max_pixels_side,
        verify,
        &progress,
    );
    match (ended, done.failed.first()) {
        (Some(e), _) => Err(e.into()),
        (None, Some(failed)) => Err(Error::failed(format!("{url}: {}", failed.reason)).into()),
        (None, None) => Ok(path),
    }
}

fn write_table(path: &Path, rows: &Rows) -> Result<(), Error> {
    let mut text = String::from("Id,Target\n");
    for (id, labels) in rows {
        text += &format!("{id},{labels}\n");
    }
    atlas::base::atomic_file::write(path, text)
}
