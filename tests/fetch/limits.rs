//! Shares of the work, connections and rates.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    server::{Answer, Server},
    setup::{JPEG, Setup, atlas_of, ends, samples},
};

#[test]
fn tasks_fetch_disjoint_parts() {
    let (ids, good) = samples(7);
    let server = Server::start(atlas_of(good.clone()));
    let setup = Setup::new(&server.url);
    setup.table(&ids);
    let mut out = setup.command(&["external"]);
    let out =
        out.env("SLURM_ARRAY_TASK_ID", "1").env("SLURM_ARRAY_TASK_COUNT", "1").output().unwrap();
    ends(&out, 0, &[]);
    let of_one = server.take_paths();
    let want: Vec<String> = good
        .keys()
        .filter(|p| ["1_1", "1_3", "1_5"].iter().any(|i| p.contains(&i.replace("1_", "A1_"))))
        .cloned()
        .collect();
    assert_eq!(
        of_one, want,
        "samples 1, 3 and 5 of two tasks (fetch.tasks), for any size of the array"
    );
    // For a pipeline that begins with the download, `status` knows that one of its tasks is done.
    let work = setup.sets.iter().find_map(|s| s.strip_prefix("paths.work=")).unwrap();
    fs::create_dir_all(format!("{work}/pipeline/one")).unwrap();
    fs::write(format!("{work}/pipeline/one/fetch"), "").unwrap();
    let mut status = std::process::Command::new(assert_cmd::cargo::cargo_bin("atlas"));
    let out = status
        .args(["status", "--missing", "--run", "one"])
        .args(setup.sets.iter().flat_map(|s| ["--set", s]))
        .output()
        .unwrap();
    ends(&out, 0, &[]);
    assert!(
        out.stdout.starts_with(b"fetch_kaggle 0-1\nfetch_external 0\n"),
        "{}",
        String::from_utf8_lossy(&out.stdout)
    );
    setup.fetched(&["external", "--task", "0", "--tasks", "2"]);
    let of_zero = server.take_paths();
    assert!(of_zero.iter().all(|p| !of_one.contains(p)));
    assert_eq!(of_zero.len() + of_one.len(), good.len());
    assert!(setup.images() == good);
    // With another number of tasks the files of all tasks are known.
    setup.fetched(&["external"]);
    assert_eq!(server.requests(), 0);

    let out =
        setup.command(&["external", "--json"]).env("SLURM_ARRAY_TASK_ID", "2").output().unwrap();
    ends(&out, 0, &[]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()["files"], 0);
    ends(&setup.fetch(&["external", "--task", "2"]), 2, &["--task 2 of 2: "]);
    ends(&setup.fetch(&["external", "--tasks", "2"]), 2, &["--tasks"]);
    ends(
        &setup.command(&["external"]).env("SLURM_ARRAY_TASK_ID", "x").output().unwrap(),
        2,
        &["SLURM_ARRAY_TASK_ID", "`x`"],
    );
}

#[test]
fn connections_and_rate_are_limited() {
    let (ids, good) = samples(6);
    let served = good.clone();
    let server = Server::start(move |r| Answer::file(r, JPEG, "e", &served[&r.path]).delay(30));
    let setup = Setup::new(&server.url);
    setup.table(&ids);
    setup.fetched(&["external"]);
    assert_eq!(server.peak(), 3, "as many as allowed are used, and never more");

    fs::remove_dir_all(setup.data("images")).unwrap();
    let setup = setup.set("fetch.requests_per_second=20").set("fetch.connections=8");
    let start = Instant::now();
    setup.fetched(&["external"]);
    assert!(
        start.elapsed() > Duration::from_millis(23 * 50),
        "24 requests at 20 a second took {:?}",
        start.elapsed()
    );
}
