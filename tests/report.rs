//! `atlas report` from outside: what it states about a run, when it is written again, and how it
//! renders in a browser.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

#[path = "report/large.rs"]
mod large;
#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, stderr, succeeds};

const SECTIONS: [&str; 11] = [
    "glance",
    "learning",
    "classes",
    "confusion",
    "curves",
    "calibration",
    "thresholds",
    "folds",
    "duplicates",
    "mistakes",
    "look",
];

/// The text between two marks.
fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(start).unwrap_or_else(|| panic!("no `{start}`"));
    rest.split_once(end).unwrap_or_else(|| panic!("no `{end}`")).0
}

#[test]
fn a_run_ends_with_a_report_that_agrees_with_its_files() {
    let small = Small::new();
    succeeds(&small.run(&["run", "--run", "a"]));
    let path = small.result("a", "report.html");
    let page = fs::read_to_string(&path).unwrap();
    for id in SECTIONS {
        assert!(
            page.contains(&format!("<section id=\"{id}\""))
                && page.contains(&format!("href=\"#{id}\"")),
            "{id}"
        );
    }
    for mark in ["src=\"http", "href=\"http", "src=\"/", "url(", "@import"] {
        assert!(!page.contains(mark), "the page loads something: {mark}");
    }
    // The score is that of scores.csv.
    let scores = fs::read_to_string(small.result("a", "scores.csv")).unwrap();
    let used = between(&page, "with thresholds\n(", ")");
    let score: f64 = scores
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{used},"))?.split(',').next()?.parse().ok())
        .unwrap();
    assert_eq!(between(&page, "<strong>", "</strong>"), format!("{score:.3}"));
    assert!(
        page.contains("Grad-CAM") && page.matches("data:image/jpeg").count() > 60,
        "maps and images"
    );

    // Nothing has changed: it stays.
    let modified = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    let again = small.run(&["report", "--run", "a"]);
    succeeds(&again);
    assert_eq!(modified(), before);

    // Without checkpoints and shards it says what is missing, and shows the rest.
    fs::remove_dir_all(small.path("work/shards")).unwrap();
    fs::remove_dir_all(small.result("a", "fold_0/model_checkpoints")).unwrap();
    succeeds(&small.run(&["report", "--run", "a"]));
    let page = fs::read_to_string(&path).unwrap();
    assert!(!page.contains("data:image/jpeg"));
    let look = between(&page, "<section id=\"look\"", "</section>");
    assert!(look.contains("shards"), "{look}");
    assert_eq!(between(&page, "<strong>", "</strong>"), format!("{score:.3}"));

    // Scores of other predictions are refused.
    fs::write(
        small.result("a", "scores.csv"),
        scores.replace(&format!("{used},0."), &format!("{used},0.9")),
    )
    .unwrap();
    let out = small.run(&["report", "--run", "a"]);
    assert!(
        out.status.code() == Some(65)
            && stderr(&out).contains("scores.csv")
            && stderr(&out).contains("atlas submit"),
        "{}",
        stderr(&out)
    );
    fs::remove_file(small.result("a", "scores.csv")).unwrap();
    let out = small.run(&["report", "--run", "a"]);
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("`atlas submit"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn what_is_not_known_of_wells_and_classes_is_not_stated() {
    // Official ids alone name no well, and few samples have few classes.
    let mut small = Small::new();
    let out = small.set("data.external=").run(&["run", "--run", "a", "--json"]);
    succeeds(&out);
    assert!(stderr(&out).contains("split.groups = well"), "{}", stderr(&out));
    let page = fs::read_to_string(small.result("a", "report.html")).unwrap();
    for section in ["Did the data leak?</h3>", "<section id=\"duplicates\""] {
        let card = between(&page, section, "</section>");
        assert!(card.contains("Wells: unknown") && card.contains(" ids names one"), "{card}");
    }
    // The scores over the classes present are those of scores.csv.
    let mut scores = csv::Reader::from_path(small.result("a", "scores.csv")).unwrap();
    let columns = scores.headers().unwrap().clone();
    let row = scores.records().next().unwrap().unwrap();
    let of = |name: &str| -> f64 {
        row[columns.iter().position(|column| column == name).unwrap()].parse().unwrap()
    };
    let (all, present) = (of("cross_fitted_macro_f1"), of("cross_fitted_macro_f1_present"));
    let classes = of("classes_present");
    assert!(classes < 28.0 && (all * 28.0 - present * classes).abs() < 1e-4, "{row:?}");
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["classes_present"], classes as u64);
    let glance = between(&page, "<section id=\"glance\"", "</section>");
    assert!(glance.contains(&format!("over the {classes} classes present")), "{glance}");
    let log = stderr(&out);
    assert!(log.contains(&format!("{} of 28 classes have no sample", 28.0 - classes)), "{log}");
    assert!(log.contains("fold 0: ") && log.contains("in the training part"), "{log}");

    // With ids of wells it says what it has seen.
    let folds = small.path("work/folds.csv");
    let table = fs::read_to_string(&folds).unwrap();
    let (header, rows) = table.split_once('\n').unwrap();
    let two: Vec<&str> = rows.lines().take(2).collect();
    let well = |row: &str, field: usize, fold: usize| {
        let group = row.split(',').nth(1).unwrap();
        format!("1_7_A1_{field},{group},{fold}\n")
    };
    let changed = [well(two[0], 1, 0), well(two[1], 2, 1)].concat();
    let rest: String = rows.lines().skip(2).map(|row| format!("{row}\n")).collect();
    fs::write(&folds, format!("{header}\n{changed}{rest}")).unwrap();
    succeeds(&small.run(&["report", "--run", "a"]));
    let page = fs::read_to_string(small.result("a", "report.html")).unwrap();
    let card = between(&page, "Did the data leak?</h3>", "</section>");
    assert!(card.contains("1 of 1 wells lie in more than one fold"), "{card}");
}

#[test]
fn runs_are_compared_side_by_side() {
    let mut small = Small::new();
    succeeds(&small.run(&["run", "--run", "a"]));
    let out = small.run(&["report", "--run", "a", "--compare", "b"]);
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("--compare b: "),
        "{}",
        stderr(&out)
    );
    succeeds(&small.set("train.seed=9").run(&["run", "--run", "b"]));
    succeeds(&small.run(&["report", "--run", "b", "--compare", "a"]));
    let page = fs::read_to_string(small.result("b", "report.html")).unwrap();
    let compared = between(&page, "<section id=\"compare\"", "</section>");
    let keys = between(compared, "Keys in which the runs differ</caption>", "</table>");
    assert!(keys.contains("train.seed") && keys.matches("<tr>").count() == 2, "{keys}");
    // The difference of the first run is none; that of the second stands on the same samples.
    let rows: Vec<&str> = between(compared, "<tbody>", "</tbody>").split("</tr>").collect();
    let score = |row: &str| between(row, "<td>", "</td>").parse::<f64>().unwrap();
    let difference =
        between(rows[1].split_once(" to ").unwrap().1, "<td>", " (").parse::<f64>().unwrap();
    assert!((difference - (score(rows[1]) - score(rows[0]))).abs() < 0.0011, "{}", rows[1]);

    // Both are drawn on the same resamples: the same predictions never differ, although the score
    // has an interval.
    succeeds(
        &Command::new("cp")
            .arg("-r")
            .arg(small.result("b", ""))
            .arg(small.result("c", ""))
            .output()
            .unwrap(),
    );
    succeeds(&small.run(&["report", "--run", "c", "--compare", "b"]));
    let page = fs::read_to_string(small.result("c", "report.html")).unwrap();
    let compared = between(&page, "<section id=\"compare\"", "</section>");
    let rows: Vec<&str> = between(compared, "<tbody>", "</tbody>").split("</tr>").collect();
    assert!(rows[1].contains("<td>0.000 (0.000 to 0.000)</td>"), "{}", rows[1]);
    let (low, high) = rows[1].split_once(" to ").unwrap();
    let (low, high) =
        (low.rsplit(['>', '(']).next().unwrap(), high.split(['<', ')']).next().unwrap());
    assert!(
        low.trim().parse::<f64>().unwrap() < high.trim().parse::<f64>().unwrap(),
        "{}",
        rows[1]
    );
}

/// Of a real run's size: 30,000 samples in five folds. Its time is printed; what it may weigh is
/// held.
#[test]
#[ignore = "writes 600 MB"]
fn a_large_run_has_a_small_report() {
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = large::make(dir.path(), 30_000, 600, 5, 12);
    let start = Instant::now();
    let outcome = atlas::views::report::report(&config, &run, &[]).unwrap();
    let (seconds, bytes) =
        (start.elapsed().as_secs_f64(), fs::metadata(&outcome.path).unwrap().len());
    println!(
        "a report of 30,000 samples in 5 folds of 12 epochs: {seconds:.1} s, {:.1} MB",
        bytes as f64 / 1e6
    );
    assert!(bytes < 15_000_000, "{bytes}");
    let page = fs::read_to_string(&outcome.path).unwrap();
    assert!(page.contains("30,000 samples") && page.contains("200 of 600 test samples"));
}

/// Sections, sorting, requests, console, accessibility and images of reports; see browser.mjs.
/// ATLAS_SHOTS names a folder for the screenshots.
fn browse(reports: &[(&str, PathBuf)]) {
    ["/usr/bin/chromium", "npm", "node"].iter().for_each(|name| needs::program(name));
    let dir = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report");
    fs::copy(here.join("package.json"), dir.path().join("package.json")).unwrap();
    let run = |program: &str, words: &[&std::ffi::OsStr]| {
        succeeds(&Command::new(program).args(words).current_dir(dir.path()).output().unwrap());
    };
    run("npm", &["install", "--silent", "--no-audit", "--no-fund"].map(AsRef::as_ref));
    let shots =
        std::env::var("ATLAS_SHOTS").map_or_else(|_| dir.path().to_path_buf(), PathBuf::from);
    for (name, report) in reports {
        let shots = shots.join(name);
        fs::create_dir_all(&shots).unwrap();
        run("node", &[here.join("browser.mjs").as_ref(), report.as_ref(), shots.as_ref()]);
    }
}

/// From images to the report, by the program.
fn reported(small: &mut Small) -> PathBuf {
    succeeds(&small.set("train.epochs=3").run(&["run", "--run", "r"]));
    small.result("r", "report.html")
}

/// ATLAS_REPORT names another report to check.
#[test]
#[ignore = "needs chromium and npm"]
fn a_browser_finds_nothing_wrong() {
    if let Ok(report) = std::env::var("ATLAS_REPORT") {
        return browse(&[("given", report.into())]);
    }
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = large::make(dir.path(), 600, 30, 2, 3);
    let large = atlas::views::report::report(&config, &run, &[]).unwrap().path;
    let mut small = Small::new();
    browse(&[("large", large), ("synthetic", reported(&mut small))]);
}

#[test]
#[ignore = "needs chromium, npm and ../shared/data"]
fn a_browser_finds_nothing_wrong_with_real_images() {
    let mut small = Small::real(&needs::shared_data());
    browse(&[("real", reported(&mut small))]);
}
