//! `atlas evaluate` from outside: the real predictions against golden scores, every file format,
//! what does not fit.

use std::{fs, path::Path};

use assert_cmd::Command;

#[path = "common/needs.rs"]
mod needs;

fn evaluate(predictions: &Path, truth: &Path, more: &[&str]) -> (i32, serde_json::Value, String) {
    let mut command = Command::cargo_bin("atlas").unwrap();
    let out = command
        .arg("evaluate")
        .arg("--predictions")
        .arg(predictions)
        .arg("--truth")
        .arg(truth)
        .arg("--json")
        .args(more)
        .output()
        .unwrap();
    let json = serde_json::from_slice(&out.stdout).unwrap_or_default();
    (out.status.code().unwrap(), json, String::from_utf8(out.stderr).unwrap())
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_predictions_score_as_scikit_learn_says() {
    let data = needs::shared_data();
    let golden = fs::read_to_string(data.join("golden/macro_f1.csv")).unwrap();
    for row in golden.lines().skip(1) {
        let row: Vec<&str> = row.split(',').collect();
        let number = |i: usize| row[i].parse::<f64>().unwrap();
        let file = |name: &str| data.join("predictions").join(format!("{name}.npy"));
        for (threshold, column) in [("0.5", 3), ("0.2", 4)] {
            let (code, json, err) =
                evaluate(&file(row[0]), &file(row[1]), &["--threshold", threshold]);
            assert_eq!(code, 0, "{err}");
            assert!(
                (json["macro_f1"].as_f64().unwrap() - number(column)).abs() < 1e-6,
                "{} at {threshold}",
                row[0]
            );
        }
        let (_, json, _) = evaluate(&file(row[0]), &file(row[1]), &["--fit"]);
        let (crossed, inside) = (&json["cross_fitted_macro_f1"], &json["in_sample_macro_f1"]);
        assert!(
            (inside["optimum"].as_f64().unwrap() - number(7)).abs() < 1e-5,
            "the optimum of each class"
        );
        assert!(
            inside["constant"].as_f64().unwrap() >= number(5) - 1e-6,
            "no worse than the best of a grid"
        );
        assert_eq!(crossed["half"], json["macro_f1"]);
        for method in ["optimum", "proportion", "shrunken", "constant"] {
            let (crossed, inside) =
                (crossed[method].as_f64().unwrap(), inside[method].as_f64().unwrap());
            assert!(
                crossed < inside + 0.01 && crossed > 0.4,
                "{} {method}: {crossed} {inside}",
                row[0]
            );
        }
    }
}

/// Three samples, and the scores that belong to them: class 1 right twice, class 2 right once and
/// missed once.
const TRUTH: &str = "Id,Target\na,1 2\nb,1\nc,2\n";

fn check(json: &serde_json::Value) {
    assert!(
        (json["macro_f1"].as_f64().unwrap() - (1.0 + 2.0 / 3.0) / 28.0).abs() < 1e-12,
        "{json}"
    );
    let present = json["macro_f1_present"].as_f64().unwrap();
    assert!((present - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12, "{json}");
    assert_eq!(json["classes_present"], 2);
    assert!((json["micro_f1"].as_f64().unwrap() - 6.0 / 7.0).abs() < 1e-12, "{json}");
    assert_eq!(json["per_class"][2]["recall"], 0.5);
    assert_eq!(json["per_class"].as_array().unwrap().len(), 28);
}

#[test]
fn all_formats_give_the_same_score() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("truth.csv"), TRUTH).unwrap();
    fs::write(file("submission.csv"), "Id,Predicted\nb,1\na,2 1\nc,\n").unwrap();
    let p = |c: usize, one: f64, two: f64| [0.1, one, two].get(c).copied().unwrap_or(0.1);
    let rows = [("b", 0.9, 0.5), ("a", 0.8, 0.7), ("c", 0.2, 0.5)];

    let header: String = (0..28).rev().map(|c| format!(",{c}")).collect();
    let line = |r: &(&str, f64, f64)| {
        (0..28).rev().fold(r.0.to_string(), |line, c| format!("{line},{}", p(c, r.1, r.2)))
    };
    fs::write(
        file("matrix.csv"),
        format!("Id{header}\n{}\n", rows.iter().map(line).collect::<Vec<_>>().join("\n")),
    )
    .unwrap();

    let values =
        ndarray::Array2::from_shape_fn((3, 28), |(i, c)| p(c, rows[i].1, rows[i].2) as f32);
    let hdf5_file = hdf5::File::create(file("p.h5")).unwrap();
    let ids: Vec<hdf5::types::VarLenUnicode> = rows.iter().map(|r| r.0.parse().unwrap()).collect();
    hdf5_file.new_dataset_builder().with_data(&ids).create("ids").unwrap();
    hdf5_file.new_dataset_builder().with_data(&values).create("probabilities").unwrap();
    hdf5_file.close().unwrap();

    for name in ["submission.csv", "matrix.csv", "p.h5"] {
        let (code, json, err) = evaluate(&file(name), &file("truth.csv"), &[]);
        assert_eq!(code, 0, "{name}: {err}");
        check(&json);
    }
    // Without ids, rows stand in the order of the truth.
    let ordered = values.select(ndarray::Axis(0), &[1, 0, 2]);
    let bytes: Vec<u8> = ordered.t().iter().flat_map(|v| f64::from(*v).to_be_bytes()).collect();
    let header =
        format!("{:<117}\n", "{'descr': '>f8', 'fortran_order': True, 'shape': (3, 28), }");
    let npy = [
        b"\x93NUMPY\x01\x00".as_slice(),
        &(header.len() as u16).to_le_bytes(),
        header.as_bytes(),
        &bytes,
    ]
    .concat();
    fs::write(file("p.npy"), npy).unwrap();
    let (code, json, err) = evaluate(&file("p.npy"), &file("truth.csv"), &[]);
    assert_eq!(code, 0, "{err}");
    check(&json);
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    let want = ["classes_present", "macro_f1", "macro_f1_present", "map", "micro_f1", "per_class"];
    assert_eq!(keys, want);
    let (_, json, _) =
        evaluate(&file("p.npy"), &file("truth.csv"), &["--fit", "constant", "--folds", "3"]);
    assert!(json["cross_fitted_macro_f1"].is_f64() && json["in_sample_macro_f1"].is_f64());
}

#[test]
fn names_of_classes_are_as_good_as_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("numbers.csv"), "Id,Target\na,1 2\nb,1\nc,2\n").unwrap();
    let named = "Id,Target\na,Nucleoli|nuclear membrane\nb,NUCLEAR MEMBRANE\nc,2;Nucleoli\n";
    fs::write(file("names.csv"), named).unwrap();
    fs::write(file("p.csv"), "Id,Predicted\na,Nuclear membrane;Nucleoli\nb,1\nc,2\n").unwrap();
    for truth in ["numbers.csv", "names.csv"] {
        let (code, json, err) = evaluate(&file("p.csv"), &file(truth), &[]);
        assert_eq!((code, &json["macro_f1_present"]), (0, &1.0.into()), "{truth}: {err}");
    }
    fs::write(file("names.csv"), named.replace("NUCLEAR ", "nuclear_")).unwrap();
    let (code, _, err) = evaluate(&file("p.csv"), &file("names.csv"), &[]);
    let parts = ["names.csv", "line 3", "`nuclear_MEMBRANE`", "`Nuclear membrane`?"];
    assert!(code == 65 && parts.iter().all(|part| err.contains(part)), "{code}: {err}");
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("truth.csv"), TRUTH).unwrap();
    let case = |text: &str| {
        fs::write(file("p.csv"), text).unwrap();
        let (code, _, err) = evaluate(&file("p.csv"), &file("truth.csv"), &[]);
        (code, err.lines().last().unwrap_or_default().to_string())
    };
    let matrix = |value: &str| {
        format!(
            "Id{}\n{}",
            ",p".repeat(28),
            ["a", "b", "c"].map(|id| format!("{id}{}\n", format!(",{value}").repeat(28))).concat()
        )
    };
    for (text, parts) in [
        ("Id,Predicted\na,1\nb,1\n".into(), &["1 (c)"][..]),
        ("Id,Predicted\na,1\nb,1\nc,1\nd,1\n".into(), &["1 (d)"]),
        ("Id,Predicted\na,1\nb,28\nc,1\n".into(), &["id b", "`28`"]),
        (matrix("NaN"), &["id a, class 0: NaN"]),
        (matrix("1.5"), &["id a, class 0: 1.5"]),
        (matrix("x"), &["line 2: `x`"]),
        ("Id,a,b\n".into(), &["3 columns", "Id,Predicted", "28"]),
        ("Id;Predicted\na;1\n".into(), &["line 1", "`Id;Predicted`", "commas"]),
        ("Id,Predicted\na,1,2\nb,1\nc,1\n".into(), &["line 2", "`a,1,2`", "3"]),
    ] {
        let (code, message) = case(&text);
        assert!(
            code == 65 && parts.iter().all(|p| message.contains(p)) && message.contains("p.csv"),
            "{code}: {message}; expected {parts:?}"
        );
    }
    let utf16 = "Id,Predicted\na,1\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    for (bytes, part) in [(utf16, "UTF-16"), (b"Id,Predicted\n\xe9,1\n".to_vec(), "line 2: ")] {
        fs::write(file("p.csv"), bytes).unwrap();
        let (code, _, err) = evaluate(&file("p.csv"), &file("truth.csv"), &[]);
        assert!(code == 65 && [part, "p.csv", "UTF-8"].iter().all(|p| err.contains(p)), "{err}");
    }
    case("Id,Predicted\na,1\nb,1\nc,1\n");
    for (more, parts) in [
        (vec!["--fit", "best"], ["--fit best", "half"]),
        (vec!["--fit", "--folds", "1"], ["--folds 1", "2 to 3"]),
        (vec!["--threshold", "x"], ["--threshold x", ""]),
        (vec!["--threshold", "50"], ["--threshold 50", "0 to 1"]),
        (vec!["--threshold", "0.1", "--fit"], ["--threshold", "--fit"]),
    ] {
        let (code, _, err) = evaluate(&file("p.csv"), &file("truth.csv"), &more);
        assert!(code == 2 && parts.iter().all(|part| err.contains(part)), "{code}: {err}");
    }
    fs::write(file("p.npy"), b"\x93NUMPY\x01\x00\x46\x00{'descr'").unwrap();
    let (code, _, err) = evaluate(&file("p.npy"), &file("truth.csv"), &[]);
    assert!(code == 65 && err.contains("p.npy"), "{err}");
    fs::write(file("empty.csv"), "Id,Target\n").unwrap();
    assert_eq!(evaluate(&file("p.csv"), &file("empty.csv"), &[]).0, 65);
    fs::write(file("none.csv"), "Id,Target\na,\nb,\nc,\n").unwrap();
    let (code, json, err) = evaluate(&file("p.csv"), &file("none.csv"), &[]);
    assert!(code == 0 && err.contains("none.csv") && err.contains("3 samples"), "{code}: {err}");
    assert_eq!((&json["classes_present"], &json["macro_f1_present"]), (&0.into(), &0.0.into()));
    fs::remove_file(file("none.csv")).unwrap();
    for (predictions, truth, option) in [
        ("none.csv", "truth.csv", "--predictions"),
        ("p.csv", "none.csv", "--truth"),
        ("p.csv", "", "--truth"), // a folder
    ] {
        let (code, _, err) = evaluate(&file(predictions), &file(truth), &[]);
        assert!(code == 2 && err.contains(option), "{code}: {err}");
    }
}
