//! Ids with commas, quotes and control characters, from file names to submissions.
use std::{fs, path::Path};

use atlas::data::manifest::CHANNELS;

#[path = "pipeline/small.rs"]
mod small;
use small::{Small, succeeds};

/// The rows of a CSV without its header.
fn rows(path: impl AsRef<Path>) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let row = |r: csv::Result<csv::StringRecord>| r.unwrap().iter().map(String::from).collect();
    reader.records().map(row).collect()
}

fn add_row(path: &str, row: [&str; 2]) {
    let file = fs::OpenOptions::new().append(true).open(path).unwrap();
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(row).unwrap();
    writer.flush().unwrap();
}

/// Gives the images of `from` to the sample `to`.
fn copy_images(small: &Small, from: &str, to: &str) {
    for channel in CHANNELS {
        let file = |sample: &str| small.path(&format!("data/{sample}_{channel}.png"));
        fs::copy(file(from), file(to)).unwrap();
    }
}

const COMMA: &str = "a,b";
const QUOTES: &str = "the \"second\"";
const BOTH: &str = "\"t\",1";
const ODD: &str = "=two words;#%41&é'|";

#[test]
fn commas_and_quotes_survive_every_table() {
    let small = Small::new();
    let original = format!("train/{}", rows(small.path("data/train.csv"))[0][0]);
    // Three copies with other labels, which conflict, and one in the test set, which leaks.
    for (id, labels) in [(COMMA, "3 4"), (QUOTES, "5"), (ODD, "6")] {
        copy_images(&small, &original, &format!("train/{id}"));
        add_row(&small.path("data/train.csv"), [id, labels]);
    }
    copy_images(&small, &original, &format!("test/{BOTH}"));
    add_row(&small.path("data/sample_submission.csv"), [BOTH, "0"]);
    succeeds(&small.run(&["run", "--run", "ids"]));

    let column = |name: &str, column: usize| -> Vec<String> {
        rows(small.path(name)).into_iter().map(|mut row| row.swap_remove(column)).collect()
    };
    let has = |ids: &[String], id: &str| ids.iter().any(|other| other == id);
    for (table, at) in [("work/duplicates.csv", 0), ("work/conflicts.csv", 1)] {
        let ids = column(table, at);
        assert!([COMMA, QUOTES, ODD].iter().all(|id| has(&ids, id)), "{table}: {ids:?}");
    }
    assert!(has(&column("work/leaks.csv", 0), COMMA) && has(&column("work/leaks.csv", 1), BOTH));
    // Of the copies the one with most labels stays.
    let folds = column("work/folds.csv", 0);
    let stays = rows(small.path("work/duplicates.csv"))
        .into_iter()
        .find(|row| row[0] == COMMA)
        .map(|row| row[3].clone());
    assert!(has(&folds, &stays.unwrap()), "{folds:?}");
    for name in ["submission.csv", "submission_optimal_threshold.csv"] {
        assert!(has(&column(&format!("results/ids/{name}"), 0), BOTH), "{name}");
    }
}

#[test]
fn an_id_with_a_comma_is_trained_on_and_validated() {
    let small = Small::new();
    let mut table = rows(small.path("data/train.csv"));
    let old = std::mem::replace(&mut table[0][0], COMMA.into());
    let mut writer = csv::Writer::from_path(small.path("data/train.csv")).unwrap();
    writer.write_record(["Id", "Target"]).unwrap();
    table.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.flush().unwrap();
    copy_images(&small, &format!("train/{old}"), &format!("train/{COMMA}"));
    for channel in CHANNELS {
        fs::remove_file(small.path(&format!("data/train/{old}_{channel}.png"))).unwrap();
    }
    small.prepare();
    let folds = rows(small.path("work/folds.csv"));
    let row = folds.iter().find(|row| row[0] == COMMA).expect("it has no copy that could stay");
    let fold = row[2].clone();
    succeeds(&small.run(&["train", "--fold", &fold, "--run", "ids"]));
    let log = small.result("ids", &format!("fold_{fold}/training_logs/epoch_001_val.csv"));
    let log = rows(log);
    assert!(log.iter().any(|row| row[0] == COMMA), "{log:?}");
}

#[test]
fn plan_refuses_control_characters() {
    let small = Small::new();
    let old = rows(small.path("data/train.csv"))[0][0].clone();
    copy_images(&small, &format!("train/{old}"), "train/two\nlines");
    add_row(&small.path("data/train.csv"), ["two\nlines", "3"]);
    let out = small.run(&["plan"]);
    succeeds(&out);
    let problems = rows(small.path("work/problems.csv"));
    assert!(
        problems.iter().any(|row| {
            row[..3] == ["ids with control characters", "train", r"two\nlines"].map(String::from)
        }),
        "{problems:?}"
    );
    let log = small::stderr(&out);
    assert!(log.contains(r"1 ids with control characters in train: two\nlines"), "{log}");
    assert!(rows(small.path("work/manifest.csv")).iter().all(|row| !row[0].contains('\n')));
}

#[test]
fn plan_refuses_blanks_at_the_ends_of_an_id() {
    let small = Small::new();
    let old = rows(small.path("data/train.csv"))[0][0].clone();
    let ids = [" before", "after ", "in between"];
    for id in ids {
        copy_images(&small, &format!("train/{old}"), &format!("train/{id}"));
        copy_images(&small, &format!("train/{old}"), &format!("test/t{id}"));
        add_row(&small.path("data/train.csv"), [id, "3"]);
    }
    succeeds(&small.run(&["plan"]));
    let refused: Vec<String> = rows(small.path("work/problems.csv"))
        .into_iter()
        .filter(|row| row[0] == "ids with blanks at an end")
        .map(|row| format!("{}|{}", row[1], row[2]))
        .collect();
    assert_eq!(refused, ["test|tafter ", "train| before", "train|after "]);
    let listed = rows(small.path("work/manifest.csv"));
    assert!(listed.iter().any(|row| row[0] == "in between"));
    assert!(listed.iter().all(|row| row[0].trim() == row[0]));
}
