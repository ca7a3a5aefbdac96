//! Interrupted downloads, and files that are already there.

use std::{
    collections::HashSet,
    fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    server::{Answer, Server},
    setup::{JPEG, Setup, atlas_of, ends, path, png, samples},
};

/// Waits until another process has done something.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &std::process::Child, signal: i32) {
    // SAFETY: a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn the_part_of_another_process_is_not_touched() {
    let (ids, good) = samples(1);
    let server = Server::start(atlas_of(good));
    let setup = Setup::new(&server.url);
    setup.table(&ids);
    fs::create_dir(setup.data("images")).unwrap();
    let part = setup.data("images/1_1_A1_0_red.jpg.part");
    let other = fs::File::create(&part).unwrap();
    other.lock().unwrap();
    ends(&setup.fetch(&["external"]), 1, &["atlas: 1 of 4"]);
    assert!(part.exists());
    drop(other);
    setup.fetched(&["external"]);
    assert!(!part.exists());
}

#[test]
fn a_killed_job_resumes_with_what_is_missing() {
    let (ids, good) = samples(10);
    let (served, calm) = (good.clone(), Arc::new(AtomicBool::new(false)));
    let calmed = calm.clone();
    let server = Server::start(move |r| match served.get(&r.path) {
        Some(bytes) if !calmed.load(Relaxed) && r.path.ends_with("_yellow.jpg") => {
            // A part, and then nothing for a long time: the kill happens here.
            Answer::file(r, JPEG, &r.path, bytes).cut(bytes.len() / 3).stall().delay(50)
        }
        Some(bytes) => Answer::file(r, JPEG, &r.path, bytes).delay(10),
        None => Answer::status(404),
    });
    let setup = Setup::new(&server.url).set("fetch.read_timeout_seconds=30");
    setup.table(&ids);
    let mut child =
        setup.command(&["external"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // Three connections, each of which ends in a yellow file.
    let parts = || {
        setup
            .images()
            .iter()
            .filter(|(p, b)| p.ends_with("_yellow.jpg.part") && !b.is_empty())
            .count()
    };
    until("three connections hang", || parts() == 3);
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    let there: HashSet<String> =
        setup.images().into_keys().filter(|p| p.ends_with(".jpg")).collect();
    assert!(there.len() >= 6, "{there:?}");
    let first = server.take_log();
    assert!(first.len() < good.len());

    calm.store(true, Relaxed);
    let json = setup.fetched(&["external"]);
    let log = server.take_log();
    let asked: HashSet<String> = log.iter().map(|r| r.path.clone()).collect();
    let missing: HashSet<String> = good.keys().filter(|p| !there.contains(*p)).cloned().collect();
    assert_eq!(
        (asked, log.len()),
        (missing.clone(), missing.len()),
        "each missing file once, nothing else"
    );
    assert_eq!(
        log.iter().filter(|r| r.header("range").is_some()).count(),
        3,
        "the three parts are resumed"
    );
    assert!(setup.images() == good, "all there, byte by byte, and no parts remain");
    assert_eq!(
        (json["fetched"].as_u64(), json["there"].as_u64()),
        (Some(missing.len() as u64), Some(40))
    );
    setup.ledger_is_true("fetched-00000.csv", "images");

    assert_eq!(setup.fetched(&["external"])["present"], 40);
    assert_eq!(server.requests(), 0, "nothing remains to be requested");
}

#[test]
fn a_signal_stops_the_job_at_once_and_nothing_is_lost() {
    let (ids, good) = samples(3);
    let (served, calm) = (good.clone(), Arc::new(AtomicBool::new(false)));
    let calmed = calm.clone();
    let server = Server::start(move |r| {
        let answer = Answer::file(r, JPEG, "e", &served[&r.path]);
        if r.path.ends_with("2_blue.jpg") && !calmed.load(Relaxed) {
            answer.cut(4000).stall()
        } else {
            answer
        }
    });
    let setup = Setup::new(&server.url).set("fetch.read_timeout_seconds=60");
    setup.table(&ids);
    let child =
        setup.command(&["external"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    until("one hangs and the others are done", || {
        let images = setup.images();
        images.len() == 13 && // with the mark of the part
             images.iter().any(|(p, b)| p.ends_with(".part") && b.len() == 4000)
    });
    let start = Instant::now();
    signal(&child, libc::SIGTERM);
    let out = child.wait_with_output().unwrap();
    ends(&out, 75, &["11 of 12 files"]);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it does not wait for the stalled connection"
    );
    server.take_log();
    calm.store(true, Relaxed);
    setup.fetched(&["external"]);
    let log = server.take_log();
    assert_eq!((log.len(), log[0].header("range")), (1, Some("bytes=4000-")));
    assert!(setup.images() == good);
}

#[test]
fn existing_files_are_adopted_or_replaced() {
    let (ids, good) = samples(3);
    let server = Server::start(atlas_of(good.clone()));
    let setup = Setup::new(&server.url);
    setup.table(&ids);
    let image = |name: &str| setup.data(&format!("images/1_1_A1_{name}.jpg"));
    fs::create_dir(setup.data("images")).unwrap();
    fs::write(image("0_red"), &good[&path("1_1_A1_0_red.jpg")]).unwrap();
    fs::write(image("0_green"), png(1)).unwrap();
    fs::write(image("0_blue"), "<html>error page of another downloader</html>").unwrap();
    fs::write(image("0_yellow"), &good[&path("1_1_A1_0_yellow.jpg")][..3000]).unwrap();
    let json = setup.fetched(&["external"]);
    assert_eq!((&json["adopted"], &json["fetched"]), (&2.into(), &10.into()));
    let asked = server.take_paths();
    assert!(
        !asked.contains(&path("1_1_A1_0_red.jpg")) && asked.contains(&path("1_1_A1_0_blue.jpg"))
    );
    assert_eq!(
        fs::read(image("0_green")).unwrap(),
        png(1),
        "a good image of another program stays"
    );
    setup.ledger_is_true("fetched-00000.csv", "images");

    // One byte of an image changes on the disk: only --verify detects it. A changed size is always
    // detected.
    let mut bytes = fs::read(image("1_red")).unwrap();
    bytes[2000] ^= 1;
    fs::write(image("1_red"), bytes).unwrap();
    fs::write(image("1_green"), "").unwrap();
    setup.fetched(&["external"]);
    assert_eq!(server.take_paths(), [path("1_1_A1_1_green.jpg")]);
    setup.fetched(&["external", "--verify"]);
    assert_eq!(server.take_paths(), [path("1_1_A1_1_red.jpg")]);
    assert_eq!(fs::read(image("1_red")).unwrap(), good[&path("1_1_A1_1_red.jpg")]);
}
