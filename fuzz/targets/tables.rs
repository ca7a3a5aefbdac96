//! Tables: those that users bring, and those that one job writes and another reads.

use std::path::Path;

use atlas::{
    base::csv_file,
    config::{Data, Method},
    data::{
        dedup::{
            hash_csv,
            tables::{CONFLICTS, DUPLICATES, Duplicates, LEAKS, Tables},
        },
        folds,
        labels::{check_columns, read_ids, read_table},
        manifest::{Manifest, problem_ids, scan},
        shard::quarantined,
    },
    inference::finished_run::{self, SCORES, THRESHOLDS},
    scoring::{
        metrics::matrix::{read_predictions, read_truth},
        submission_csv,
    },
    training::{
        history::{EpochRow, HISTORY},
        run_folder::Run,
    },
};

use crate::scratch;

pub const CLASS_NAMES: &[&str] =
    &["Id", "Target", "Predicted", "Nucleoplasm", "Rods & rings", "27", "28", "Id,Target"];

pub fn npy(bytes: &[u8]) {
    let path = scratch::file("matrix.npy", bytes);
    let _ = read_predictions(&path);
    let _ = read_truth(&path);
}

pub fn labels(bytes: &[u8]) {
    let path = scratch::file("train.csv", bytes);
    let _ = check_columns(&path);
    let _ = read_truth(&path);
    if let Ok((rows, bad)) = read_table(&path) {
        // Every message that a user may see.
        let text: String = bad.iter().map(ToString::to_string).collect();
        assert!(text.lines().count() <= 1, "a message of several lines: {text:?}");
        assert!(rows.iter().all(|(id, _)| !id.is_empty()), "a row without an id");
    }
}

pub fn sample_submission(bytes: &[u8]) {
    let _ = read_ids(&scratch::file("sample_submission.csv", bytes));
}

pub fn submission(bytes: &[u8]) {
    let path = scratch::file("submission.csv", bytes);
    let _ = submission_csv::check(&path, &["a".into(), "b".into()]);
    let _ = read_predictions(&path);
}

pub fn probabilities(bytes: &[u8]) {
    let path = scratch::file("probabilities.csv", bytes);
    if let Ok(read) = read_predictions(&path) {
        let valid = read.values.iter().all(|p| (0.0..=1.0).contains(p));
        assert!(valid, "accepted a value that is no probability");
    }
}

/// A competition's folder with this train.csv and one whole sample.
pub fn data_folder(bytes: &[u8]) {
    images("kaggle_data/train");
    scratch::file("kaggle_data/train.csv", bytes);
    let kaggle = Some(scratch::path("kaggle_data"));
    let _ = scan(&Data { kaggle, external: None });
}

pub fn external_folder(bytes: &[u8]) {
    images("external_data/images");
    scratch::file("external_data/external.csv", bytes);
    let external = Some(scratch::path("external_data"));
    let _ = scan(&Data { kaggle: None, external });
}

fn images(folder: &str) {
    for channel in ["red", "green", "blue", "yellow"] {
        let name = format!("{folder}/a_{channel}.png");
        if !scratch::path(&name).exists() {
            scratch::file(&name, b"");
        }
    }
}

pub fn manifest(bytes: &[u8]) {
    scratch::file("manifest.csv", bytes);
    if let Ok(manifest) = Manifest::read(&scratch::path("")) {
        let _ = (manifest.hash(), manifest.training_hash(), manifest.shards());
    }
}

pub fn folds(bytes: &[u8]) {
    let _ = folds::table::read_table(&scratch::file("folds.csv", bytes));
}

/// The same bytes as all three tables of `dedup`.
pub fn duplicates(bytes: &[u8]) {
    let paths = [DUPLICATES, CONFLICTS, LEAKS].map(|name| scratch::file(name, bytes));
    let _ = Duplicates::read(&paths[0]);
    let _ = Tables::read(&scratch::path(""));
}

pub fn hashes(bytes: &[u8]) {
    let _ = hash_csv::read(&scratch::file("hashes.csv", bytes));
}

pub fn history(bytes: &[u8]) {
    let _ = csv_file::read::<EpochRow>(&scratch::file(HISTORY, bytes), "train");
}

pub fn thresholds(bytes: &[u8]) {
    let scores = b"method,cross_fitted_macro_f1,in_sample_macro_f1\nconstant,0.5,0.6\n";
    both_tables(bytes, scores);
}

pub fn scores(bytes: &[u8]) {
    let rows: String = (0..28).map(|class| format!("{class},x,0.4,0.5\n")).collect();
    both_tables(format!("class,name,constant,half\n{rows}").as_bytes(), bytes);
}

fn both_tables(thresholds: &[u8], scores: &[u8]) {
    let folder = scratch::folder("run");
    scratch::file(&format!("run/{THRESHOLDS}"), thresholds);
    scratch::file(&format!("run/{SCORES}"), scores);
    let _ = finished_run::thresholds(&Run { folder }, Some(Method::Half));
}

pub fn quarantine(bytes: &[u8]) {
    scratch::file("shards/quarantine-00000.csv", bytes);
    let _ = quarantined(&scratch::path(""), 0);
}

pub fn problems(bytes: &[u8]) {
    scratch::file("problems.csv", bytes);
    let work: &Path = &scratch::path("");
    let _ = problem_ids(work, "train.csv");
}
