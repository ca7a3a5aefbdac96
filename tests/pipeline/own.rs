//! What a finished run is good for elsewhere: its networks exported, and someone's own images
//! predicted.

use std::{collections::BTreeMap, fs, path::Path};

use atlas::{data::labels::NAMES, network::weights, scoring::prediction_file::Predictions};
use ndarray::Array2;
use ndarray_npy::ReadNpyExt;

use super::small::{Small, stderr, succeeds};

/// By id, labels and probabilities of a table.
fn table(path: &str) -> BTreeMap<String, (String, Vec<f32>)> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(String::from).collect();
    assert_eq!(
        (header[..2].join(","), &header[2..]),
        ("id,labels".into(), &NAMES.map(String::from)[..])
    );
    let row = |r: csv::StringRecord| {
        (
            r[0].to_string(),
            (r[1].to_string(), r.iter().skip(2).map(|p| p.parse().unwrap()).collect()),
        )
    };
    reader.records().map(|r| row(r.unwrap())).collect()
}

/// The thresholds of the method with the best cross-fitted score.
fn thresholds(run: &Path) -> Vec<f32> {
    let scores = fs::read_to_string(run.join("scores.csv")).unwrap();
    let score = |line: &str| line.split(',').nth(1).unwrap().parse::<f64>().unwrap();
    let (at, _) = scores
        .lines()
        .skip(1)
        .map(score)
        .enumerate()
        .fold((0, -1.0), |best, next| if next.1 >= best.1 { next } else { best });
    let table = fs::read_to_string(run.join("thresholds.csv")).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(2 + at).unwrap().parse().unwrap())
        .collect()
}

pub fn images(small: &Small, run: &Path) {
    let (data, out, skipped) =
        (small.path("own images"), small.path("own/out.csv"), small.path("own/out-skipped.csv"));
    fs::create_dir(&data).unwrap();
    let test: Vec<_> =
        fs::read_dir(small.path("data/test")).unwrap().map(|e| e.unwrap().path()).collect();
    test.iter()
        .for_each(|p| _ = fs::copy(p, Path::new(&data).join(p.file_name().unwrap())).unwrap());
    let predict = |more: &[&str]| {
        small.run(&[&["predict", "--images", &data, "--output", &out], more].concat())
    };

    // The same images give the same probabilities as the test set's, and the thresholds decide.
    let embeddings = small.path("own/e.npy");
    succeeds(&predict(&["--embeddings", &embeddings]));
    assert!(!Path::new(&skipped).exists());
    let (rows, want) =
        (table(&out), Predictions::read(&run.join("predictions/test-00000.h5")).unwrap());
    assert_eq!(rows.len(), want.ids.len());
    let thresholds = thresholds(run);
    for (id, p) in want.ids.iter().zip(want.probabilities.rows()) {
        let got = &rows[id].1;
        assert!(
            got.iter().zip(&p).all(|(a, b)| (a - b).abs() < 1e-5),
            "{id}: {got:?}, expected {p}"
        );
    }
    let decided = |(labels, got): &(String, Vec<f32>)| {
        let above: Vec<&str> =
            (0..28).filter(|&c| got[c] > thresholds[c]).map(|c| NAMES[c]).collect();
        match above[..] {
            [] => assert_eq!(
                *labels,
                NAMES[(0..28).rev().max_by(|&a, &b| got[a].total_cmp(&got[b])).unwrap()]
            ),
            _ => assert_eq!(*labels, above.join(";")),
        }
    };
    rows.values().for_each(decided);
    let npy = Array2::<f32>::read_npy(fs::File::open(&embeddings).unwrap()).unwrap();
    assert_eq!(npy.dim(), (rows.len(), 256));

    // One exported network alone: embeddings are those of the first fold, and its thresholds come
    // with it.
    let best = run.join("fold_0/model_checkpoints/best.safetensors");
    let exported = small.path("own/x.safetensors");
    succeeds(
        &small
            .atlas(&["weights", "export", best.to_str().unwrap(), "--output", &exported])
            .output()
            .unwrap(),
    );
    let hdf5 = small.path("own/e.h5");
    let alone = predict(&["--weights", &exported, "--embeddings", &hdf5]);
    succeeds(&alone);
    assert!(!stderr(&alone).contains("threshold"), "{}", stderr(&alone));
    table(&out).values().for_each(decided);
    let file = hdf5::File::open(&hdf5).unwrap();
    assert_eq!(file.dataset("embeddings").unwrap().read_2d::<f32>().unwrap(), npy);
    assert_eq!(file.dataset("ids").unwrap().size(), rows.len());
    let verified = small.atlas(&["verify", &hdf5]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(said.contains(&format!("embeddings of {} samples", rows.len())), "{said}");
    let alone = predict(&["--weights", best.to_str().unwrap()]);
    succeeds(&alone);
    assert!(stderr(&alone).contains("has no thresholds"), "{}", stderr(&alone));

    // What cannot be read is listed and skipped.
    let ids: Vec<&String> = rows.keys().collect();
    let file = |id: &str, channel: &str| format!("{data}/{id}_{channel}.png");
    fs::write(file(ids[0], "blue"), "not an image").unwrap();
    fs::remove_file(file(ids[1], "red")).unwrap();
    fs::write(format!("{data}/notes.txt"), "").unwrap();
    fs::write(format!("{data}/.DS_Store"), "").unwrap();
    fs::copy(file(ids[2], "red"), format!("{data}/._{}_red.png", ids[2])).unwrap();
    std::os::unix::fs::symlink("nowhere", format!("{data}/gone_red.png")).unwrap();
    let partly = predict(&["--json"]);
    succeeds(&partly);
    let told: serde_json::Value = serde_json::from_slice(&partly.stdout).unwrap();
    assert_eq!(
        (&told["predicted"], told["skipped"].as_array().unwrap().len()),
        (&(rows.len() - 2).into(), 2),
        "{told}"
    );
    let mut list = csv::Reader::from_path(&skipped).unwrap();
    let listed: Vec<_> = list.records().map(Result::unwrap).collect();
    let row = |id: &str| listed.iter().find(|r| &r[0] == id).unwrap();
    assert!(row(ids[1])[1].is_empty() && row(ids[1])[2].contains("red"), "{listed:?}");
    assert_eq!(row(ids[0])[1], file(ids[0], "blue"));
    for listed in ["notes.txt", "gone_red.png"] {
        assert!(stderr(&partly).contains(listed), "{}", stderr(&partly));
    }
    let fewer = table(&out);
    assert!(
        fewer.len() == rows.len() - 2 && fewer.iter().all(|(id, row)| row.0 == rows[id].0),
        "the others are as before"
    );

    // Nothing that can be read, and what is asked for wrongly.
    fs::remove_file(&out).unwrap();
    ids.iter().for_each(|id| fs::write(file(id, "green"), "no").unwrap());
    let none = predict(&[]);
    assert!(none.status.code() == Some(65) && stderr(&none).contains(&data), "{}", stderr(&none));
    assert!(!Path::new(&out).exists());
    for (words, what) in [
        (&["predict", "--images", "/nowhere", "--output", "/tmp/x.csv"][..], "--images /nowhere"),
        (
            &["predict", "--images", &data, "--output", &out, "--embeddings", "x.txt"],
            "--embeddings x.txt",
        ),
        (&["predict", "--images", &data], "--output"),
    ] {
        let out = small.run(words);
        assert!(
            out.status.code() == Some(2) && stderr(&out).contains(what),
            "{words:?}: {}",
            stderr(&out)
        );
    }
}

/// The card of a network of a run says what the run's files say.
pub fn card(small: &Small, run: &Path) {
    let exported = small.path("own/card.onnx");
    let best = run.join("fold_1/model_checkpoints/best.safetensors");
    succeeds(
        &small
            .atlas(&["weights", "export", best.to_str().unwrap(), "--output", &exported])
            .output()
            .unwrap(),
    );
    let page = fs::read_to_string(small.path("own/card.md")).unwrap();
    let provenance: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("provenance.json")).unwrap()).unwrap();
    let name = run.file_name().unwrap().to_str().unwrap();
    let commit = format!("| git_commit | {} |", provenance["git_commit"].as_str().unwrap());
    for part in
        [&format!("| run | {name} |"), "| fold | 1 |", &commit, "48 x 48", "mean average precision"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
    // The samples of the fold, counted from folds.csv.
    let folds = fs::read_to_string(small.path("work/folds.csv")).unwrap();
    let valid = folds.lines().skip(1).filter(|l| l.ends_with(",1")).count();
    assert!(page.contains(&format!(" {valid} samples")), "{page}");
    for (class, threshold) in thresholds(run).iter().enumerate() {
        assert!(
            page.contains(&format!("| {class} | {} | {threshold:.4} |", NAMES[class])),
            "{class} in {page}"
        );
    }
    let metadata = weights::read(Path::new(&small.path("own/x.safetensors"))).unwrap().1;
    assert_eq!((metadata["run"].as_str(), metadata["fold"].as_str()), (name, "0"));
}
