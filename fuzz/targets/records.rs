//! Configurations, credentials and the records that jobs leave for others.

use std::{fs, path::Path};

use atlas::{
    base::{stop_request::Stop, task_log::TaskLog},
    config::Config,
    data::{manifest::Plan, work_folder::WorkFolder},
    fetch::{FetchJob, Ledger, TaskShare, kaggle},
    training::{event_file, history::Logs, run_folder::Run},
};

use crate::scratch;

pub const KEYS: &[&str] = &[
    "[train]",
    "[paths]",
    "[train.loss]",
    "threads",
    "epochs",
    "lr",
    "[[a]]",
    "{a = 1}",
    "'''",
    "1979-05-27T07:32:00Z",
];

/// What was fetched, as `fetch` goes on from it.
pub fn ledger(bytes: &[u8]) {
    let folder = scratch::folder("ledger");
    scratch::file("ledger/fetched-00000.csv", bytes);
    scratch::file("ledger/fetched-00001.csv", bytes);
    scratch::file("ledger/failed-00001.csv", bytes);
    if let Ok(ledger) = Ledger::open(&folder, 0) {
        for file in ledger.files("") {
            let _ = ledger.holds(&file, false);
        }
    }
}

pub fn kaggle_json(bytes: &[u8]) {
    credentials("kaggle.json", bytes);
}

pub fn access_token(bytes: &[u8]) {
    credentials("access_token", bytes);
}

/// Fetches with credentials in the file `name`, and is asked to stop before the first request.
fn credentials(name: &str, bytes: &[u8]) {
    let config = Config::default();
    let (stop, folder) = (Stop::new(), scratch::folder("fetched"));
    stop.ask();
    let path = scratch::file(&format!("kaggle/{name}"), bytes);
    let job = FetchJob {
        config: &config.fetch,
        folder: &folder,
        max_side: 64,
        verify: false,
        share: TaskShare { task: 0, tasks: 1 },
        stop: &stop,
    };
    let _ = kaggle::fetch(&job);
    let _ = fs::remove_file(path);
}

pub fn provenance(bytes: &[u8]) {
    let folder = scratch::folder("run");
    scratch::file("run/provenance.json", bytes);
    let run = Run { folder };
    let _ = run.provenance();
    let _ = run.must_have_samples(&WorkFolder::of(&Config::default()));
}

pub fn plan_json(bytes: &[u8]) {
    let path = scratch::file("plan.json", bytes);
    let _ = Plan::read(path.parent().unwrap_or(Path::new("/")), 0);
}

pub fn task_log(bytes: &[u8]) {
    scratch::file("tasks/train-00000.jsonl", bytes);
    for (_, log) in TaskLog::all(&scratch::path("")) {
        let _ = log.read();
    }
}

/// The logs of a training: lines of JSON, and the same bytes as TensorBoard's events.
pub fn metrics(bytes: &[u8]) {
    let folder = scratch::folder("fold_0");
    scratch::file("fold_0/metrics.jsonl", bytes);
    let logs = Logs::of(&folder);
    let _ = logs.losses();
    let _ = logs.rewind_metrics(5);
    let _ = event_file::read(&scratch::file("fold_0/events", bytes));
}

/// A configuration as a file, as a run's, and its lines as `--set`.
pub fn configuration(bytes: &[u8]) {
    let _ = Config::load(Some(&scratch::file("configs/a.toml", bytes)), &[]);
    let folder = scratch::folder("run");
    scratch::file("run/config.toml", bytes);
    let _ = Run { folder }.must_be_of(&Config::default());
    let lines = String::from_utf8_lossy(bytes);
    let sets: Vec<String> = lines.lines().take(4).map(String::from).collect();
    let _ = Config::load(None, &sets);
}
