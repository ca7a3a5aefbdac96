//! `atlas split` from outside, on bare tables: the real label tables and synthetic ones.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use assert_cmd::Command;
use serde_json::json;

#[path = "common/needs.rs"]
mod needs;

fn split(labels: &Path, out: &Path, sets: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("atlas").unwrap();
    command.arg("split").arg("--labels").arg(labels).arg("--out").arg(out).arg("--json");
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let result = command.output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (result.status.code().unwrap(), text(result.stdout), text(result.stderr))
}

fn table(path: &Path) -> Vec<Vec<String>> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .skip(1)
        .map(|l| l.split(',').map(|f| f.trim().to_string()).collect())
        .collect()
}

/// Largest absolute and mean relative deviation of class counts from a fifth, and the spread of the
/// sizes, by its own count.
fn measure(labels: &Path, folds: &Path) -> (f64, f64, usize) {
    let target: HashMap<String, String> =
        table(labels).into_iter().map(|r| (r[0].clone(), r[1].clone())).collect();
    let (mut count, mut total, mut size) = (vec![[0f64; 28]; 5], [0f64; 28], [0usize; 5]);
    let rows = table(folds);
    assert_eq!(rows.len(), target.len());
    for row in rows {
        let fold: usize = row[2].parse().unwrap();
        size[fold] += 1;
        for class in target[&row[0]].split_whitespace() {
            let class: usize = class.parse().unwrap();
            count[fold][class] += 1.0;
            total[class] += 1.0;
        }
    }
    let off: Vec<(f64, f64)> = count
        .iter()
        .flat_map(|c| {
            (0..28)
                .map(|k| ((c[k] - total[k] / 5.0).abs(), (total[k] / 5.0).max(1.0)))
                .collect::<Vec<_>>()
        })
        .collect();
    let spread = size.iter().max().unwrap() - size.iter().min().unwrap();
    (
        off.iter().map(|o| o.0).fold(0.0, f64::max),
        off.iter().map(|o| o.0 / o.1).sum::<f64>() / off.len() as f64,
        spread,
    )
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_training_table_is_split_to_the_sample() {
    let labels = needs::shared_data().join("kaggle/train.csv");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("folds.csv");
    for sets in [
        ["split.groups=none", "split.seed=0"],
        ["split.groups=none", "split.seed=4233"],
        ["split.groups=none", "split.order=2"],
    ] {
        let (code, json, err) = split(&labels, &out, &sets);
        assert_eq!(code, 0, "{err}");
        let (largest, mean, spread) = measure(&labels, &out);
        assert!(
            largest <= 1.0 && mean <= 0.02 && spread <= 2,
            "{sets:?}: {largest} {mean} {spread}"
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!((json["max_abs_count_deviation"].as_f64().unwrap() - largest).abs() < 1e-9);
        assert!((json["mean_rel_deviation"].as_f64().unwrap() - mean).abs() < 1e-9);
    }
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_wells_and_antibodies_are_not_divided() {
    let labels = needs::shared_data().join("hpav18/HPAv18RBGY_wodpl.csv");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("folds.csv");
    let well = |id: &str| id.rsplit_once('_').unwrap().0.to_string();
    let antibody = |id: &str| id.split_once('_').unwrap().0.to_string();
    for (level, key, most) in
        [("well", &well as &dyn Fn(&str) -> String, 0.015), ("antibody", &antibody, 0.05)]
    {
        let (code, _, err) = split(&labels, &out, &[&format!("split.groups={level}")]);
        assert_eq!(code, 0, "{err}");
        let mut fold_of = BTreeMap::new();
        for row in table(&out) {
            assert_eq!(
                fold_of.entry(key(&row[0])).or_insert(row[2].clone()),
                &row[2],
                "{level}: {row:?}"
            );
        }
        let (_, mean, spread) = measure(&labels, &out);
        assert!(mean <= most && spread <= 20, "{level}: {mean} {spread}");
    }
}

#[test]
fn equal_seeds_give_equal_files_and_problems_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (labels, out) = (dir.path().join("labels.csv"), dir.path().join("folds.csv"));
    let rows: String = (0..60)
        .map(|i| format!("1{}_7_A{}_{},{} {}\n", i / 20, i / 3, i % 3, i % 7, 7 + i % 3))
        .collect();
    fs::write(&labels, format!("Id,Target\n{rows}")).unwrap();
    let text = |sets: &[&str]| {
        let (code, _, err) = split(&labels, &out, sets);
        assert_eq!(code, 0, "{err}");
        fs::read_to_string(&out).unwrap()
    };
    assert_eq!(text(&["split.seed=1"]), text(&["split.seed=1"]));
    assert_ne!(text(&["split.seed=1"]), text(&["split.seed=2"]));
    assert!(text(&[]).starts_with("id,group,fold\n10_7_A0_0,0,"));
    let shuffled =
        text(&["split.method=shuffle", "split.holdout=0.2", "split.groups=none", "split.folds=4"]);
    let times: Vec<usize> = shuffled
        .lines()
        .skip(1)
        .map(|l| l.rsplit_once(',').unwrap().1.split_whitespace().count())
        .collect();
    assert_eq!((times.len(), times.iter().sum::<usize>()), (60, 48));
    assert!(times.contains(&0));

    // What no id says cannot keep samples together, and is said.
    let warned = |sets: &[&str]| {
        let (code, json, err) = split(&labels, &out, sets);
        assert_eq!(code, 0, "{err}");
        (serde_json::from_str::<serde_json::Value>(&json).unwrap(), err)
    };
    let (json, err) = warned(&["split.groups=well"]);
    let known = json!({ "level": "well", "ids": 60, "recognised": 60, "different": 22 });
    assert!(json["known"] == known && !err.contains("split.groups"), "{json}: {err}");
    let table = fs::read_to_string(&labels).unwrap();
    let other: String = table.replace("_7_", "-7-");
    fs::write(&labels, &other).unwrap();
    for level in ["well", "antibody"] {
        let (json, err) = warned(&[&format!("split.groups={level}")]);
        assert_eq!((&json["known"]["recognised"], &json["groups"]), (&0.into(), &60.into()));
        let parts = ["60 ids", &format!("split.groups = {level}"), "antibody_plate_well_field"];
        assert!(parts.iter().all(|part| err.contains(part)), "{err}");
    }
    assert!(!warned(&["split.groups=none"]).1.contains("split.groups"));
    // A class whose samples one fold holds out, and classes that are nowhere.
    fs::write(&labels, other + "last,Aggresome\n").unwrap();
    let (json, err) = warned(&["split.groups=none"]);
    assert_eq!(json["warnings"].as_array().unwrap().len(), 2, "{json}");
    assert!(err.contains("Aggresome (fold ") && err.contains("17 of 28 classes"), "{err}");
    fs::write(&labels, table).unwrap();

    // Too few groups: the table is named, and only what can be done is advised.
    let many = fs::read(&labels).unwrap();
    let few = b"Id,Target\n10_7_A0_0,0\n10_7_A0_1,1\n11_7_A0_0,1\n".to_vec();
    let one = b"Id,Target\n10_7_A0_0,0\n".to_vec();
    // The advice follows the last colon.
    for (table, method, level, groups, needed, folds, none) in [
        (&many, "folds", "antibody", 3, 4, Some(" 3"), true),
        (&few, "folds", "well", 2, 4, Some(" 2"), false),
        (&one, "shuffle", "well", 1, 2, None, false),
        (&one, "folds", "none", 1, 4, None, false),
    ] {
        fs::write(&labels, table).unwrap();
        let sets =
            [&format!("split.groups={level}"), &format!("split.method={method}"), "split.folds=4"];
        let (code, _, err) = split(&labels, &out, &sets);
        assert!(
            code == 65
                && ["labels.csv: ", &format!(" {groups} "), &format!(" {needed} ")]
                    .iter()
                    .all(|part| err.contains(part)),
            "{code}: {err}"
        );
        let advice = err.rsplit_once(": ").unwrap().1;
        assert_eq!(advice.contains("split.folds"), folds.is_some(), "{err}");
        assert!(folds.is_none_or(|f| advice.contains(f)), "{err}");
        assert_eq!(advice.contains("split.groups=none"), none, "{err}");
    }
    fs::write(&labels, &few).unwrap();
    assert_eq!(
        split(&labels, &out, &["split.method=shuffle", "split.folds=4"]).0,
        0,
        "two groups suffice"
    );
    fs::write(&labels, &many).unwrap();
    let (code, _, err) = split(&labels, &out, &["split.groups=wells"]);
    assert!(code == 2 && err.contains("`well`"), "{code}: {err}");
    fs::write(&labels, "Id,Target\na,1\na,2\n").unwrap();
    let (code, _, err) = split(&labels, &out, &[]);
    assert!(code == 65 && err.contains("line 3: id a "), "{code}: {err}");
    fs::write(&labels, "Id,Target\n").unwrap();
    assert_eq!(split(&labels, &out, &[]).0, 65);
    let (code, _, err) = split(&dir.path().join("none.csv"), &out, &[]);
    assert!(code == 2 && err.contains("--labels") && err.contains("none.csv"), "{code}: {err}");
}
