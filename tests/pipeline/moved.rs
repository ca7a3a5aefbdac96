//! A run is told by its configuration and its samples, not by where things are.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{
    json,
    small::{Small, stderr, succeeds},
};

/// The names of the runs in a results folder.
fn runs(results: &str) -> Vec<String> {
    let names = fs::read_dir(results).unwrap().map(|e| e.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.starts_with('2')).collect()
}

#[test]
fn other_spellings_and_places_of_the_same_data_are_the_same_run() {
    let small = Small::new();
    let set = |key: &str, path: &str| format!("--set={key}={}", small.path(path));
    json(&small.run(&["run", "--json"]));
    let [run] = &runs(&small.path("results"))[..] else { panic!("one run was made") };
    let metrics = |results: &str| {
        fs::read(Path::new(results).join(run).join("fold_0/metrics.jsonl")).unwrap()
    };
    let trained = metrics(&small.path("results"));

    symlink(small.path("data"), small.path("link")).unwrap();
    for data in ["data/", "./data", "data/../data//", "link"] {
        let again = small.run(&["run", "--json", &set("data.kaggle", data), "--set=threads=1"]);
        assert!(json(&again)["run"].as_str().unwrap().ends_with(run.as_str()), "{data}");
    }
    assert_eq!(runs(&small.path("results")), [run.as_str()]);

    // The whole project goes to another place.
    fs::create_dir(small.path("there")).unwrap();
    for name in ["data", "work", "results"] {
        fs::rename(small.path(name), small.path(&format!("there/{name}"))).unwrap();
    }
    let config = small.path(&format!("there/results/{run}/config.toml"));
    for job in ["report", "submit", "status"] {
        let out = small.atlas(&[job, "--config", &config]).output().unwrap();
        succeeds(&out);
    }
    let places = [
        set("paths.work", "there/work"),
        set("paths.results", "there/results"),
        set("data.kaggle", "there/data"),
        set("data.external", "there/data/external"),
    ];
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let there = |words: &[&str]| small.run(&[words, &places[..]].concat());
    for words in [&["report"][..], &["submit"], &["run"]] {
        succeeds(&there(words));
    }
    assert_eq!(runs(&small.path("there/results")), [run.as_str()]);
    assert!(metrics(&small.path("there/results")) == trained, "no step was trained again");

    // Another label is other data.
    let table = small.path("there/data/train.csv");
    let text = fs::read_to_string(&table).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let (first, rest) = rows.split_once('\n').unwrap();
    let id = first.split(',').next().unwrap();
    fs::write(&table, format!("{header}\n{id},27\n{rest}")).unwrap();
    succeeds(&there(&["plan"]));
    let out = there(&["report"]);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    let named = format!("--run={run}");
    for part in ["manifest.csv", "training_samples_xxh3", &named] {
        assert!(stderr(&out).contains(part), "`{part}` is not in: {}", stderr(&out));
    }
    // Named, it is the run; that the shards are of the old manifest is told.
    let out = there(&["predict", &named]);
    assert_eq!(out.status.code(), Some(65), "{}", stderr(&out));
    for part in ["test-00000.h5", "another manifest", "`atlas preprocess"] {
        assert!(stderr(&out).contains(part), "`{part}` is not in: {}", stderr(&out));
    }
}
