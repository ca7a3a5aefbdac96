//! `atlas fetch` from outside, against servers with every fault that a server can have.
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Write,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

#[path = "fetch/made.rs"]
mod made;
#[path = "fetch/server.rs"]
mod server;

use atlas::{
    base::{progress::Progress, stop::Stop},
    fetch::{Ledger, Target, read_atlas, unpack},
};
use made::{Entry, Pictures, Place, ends, jpeg, path, samples, zip};
use server::{Answer, Request, Server};

const JPEG: &str = "image/jpeg";

/// Serves `pictures` in the Atlas's layout; the rest is 404.
fn atlas_of(pictures: Pictures) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |r| match pictures.get(&r.path) {
        Some(bytes) => Answer::file(r, JPEG, &r.path, bytes),
        None => Answer::status(404),
    }
}

/// Waits for something that another process does.
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
fn of_a_hostile_server_exactly_the_good_files_are_kept() {
    let (mut ids, mut good) = samples(8);
    if let Some((real, pictures)) = made::real() {
        ids.extend(real);
        good.extend(pictures);
    }
    let file = |i: usize, channel: &str| path(&format!("1_1_A1_{i}_{channel}.jpg"));
    // What the server has there at first, before it changes.
    let (changing, old) = (file(2, "blue"), jpeg(999));
    let served = good.clone();
    let server = Server::start(move |r| {
        let Some(bytes) = served.get(&r.path) else { return Answer::status(404) };
        let whole = || Answer::file(r, JPEG, "e", bytes);
        let half = bytes.len() / 2;
        let rest = r.path.strip_prefix("/1/1_A1_").unwrap_or("");
        match (rest, r.earlier) {
            ("1_red.jpg", _) => Answer::status(404),
            ("1_green.jpg", 0) => Answer::status(429).with("Retry-After", "1"),
            ("1_blue.jpg", 0 | 1) => Answer::status(500),
            ("1_yellow.jpg", 0) => whole().cut(half),
            ("2_red.jpg", _) => {
                Answer::file(r, "text/html; charset=utf-8", "e", b"<html>Sorry</html>")
            }
            ("2_green.jpg", 0) => whole().cut(half).stall(),
            ("2_blue.jpg", 0) => Answer::file(r, JPEG, "old", &old).cut(old.len() / 2),
            // Cut at once each time: no attempt brings anything.
            ("3_red.jpg", _) => whole().cut(0),
            ("3_green.jpg", _) => Answer::file(r, JPEG, "e", &bytes[..half]),
            ("3_blue.jpg", _) => Answer::file(r, JPEG, "e", b"<!DOCTYPE html><p>404 not found"),
            ("3_yellow.jpg", _) => Answer::status(410),
            ("4_red.jpg", 0) => {
                let mut answer = whole().cut(half);
                answer.unsized_ = true;
                answer
            }
            ("4_green.jpg", _) => Answer::status(403),
            // Whole by its ends, but the middle is noise.
            ("4_blue.jpg", _) => {
                Answer::file(r, JPEG, "e", &[&bytes[..3], &[0xff; 500], &[0xff, 0xd9]].concat())
            }
            ("4_yellow.jpg", 0) => {
                Answer::status(503).with("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")
            }
            // Goes on with a part that was not asked for.
            ("5_red.jpg", 0) => whole().cut(half),
            ("5_red.jpg", 1) => {
                let mut answer = whole();
                answer.headers.retain(|(name, _)| *name != "Content-Range");
                answer.with("Content-Range", "bytes 0-9/10")
            }
            ("5_green.jpg", _) => Answer::status(302).with("Location", "green.jpg"),
            ("5_blue.jpg", 0) => Answer::status(302).with("Location", format!("{}?moved", r.path)),
            ("5_yellow.jpg", _) => whole().with("Content-Encoding", "gzip"),
            // A server without validators: what came before cannot be gone on with.
            ("6_red.jpg", 0) => {
                let mut answer = whole().cut(half);
                answer.headers.retain(|(name, _)| *name != "ETag");
                answer
            }
            _ => whole(),
        }
    });
    let place = Place::new(&server.url);
    place.table(&ids);
    let out = place.fetch(&["external"]);
    // The path with ?moved is none of the server's pictures, and 5_green has no file where it
    // leads.
    let mut bad: HashSet<String> = [
        (1, "red"),
        (2, "red"),
        (3, "red"),
        (3, "green"),
        (3, "blue"),
        (3, "yellow"),
        (4, "green"),
        (4, "blue"),
        (5, "green"),
        (5, "blue"),
        (5, "yellow"),
    ]
    .map(|(i, channel)| file(i, channel))
    .into();
    let all = ids.iter().flat_map(|id| made::CHANNELS.map(|c| path(&format!("{id}_{c}.jpg"))));
    bad.extend(all.filter(|path| !good.contains_key(path)));
    ends(&out, 1, &["atlas: 2 of", "could not be fetched", "run it again"]);
    let want: Pictures = good
        .iter()
        .filter(|(path, _)| !bad.contains(*path))
        .map(|(p, b)| (p.clone(), b.clone()))
        .collect();
    let got = place.images();
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "no file too many, no half file, none missing"
    );
    assert!(got == want, "byte by byte");
    place.ledger_is_true("fetched-00000.csv", "images");
    let failed = place.rows("failed-00000.csv");
    let listed: HashSet<String> =
        failed.iter().map(|r| path(r[0].strip_prefix("images/").unwrap())).collect();
    assert_eq!(listed, bad);
    for (name, reason, attempts) in [
        ("1_red", "404", "1"),
        ("2_red", "text/html", "4"),
        ("3_red", "after 0 of", "4"),
        ("3_green", "cut short", "4"),
        ("3_blue", "neither JPEG nor PNG; it begins with `<!DOCTYPE html>", "4"),
        ("4_green", "403", "1"),
        ("5_yellow", "gzip", "4"),
    ] {
        let row = failed.iter().find(|r| r[0] == format!("images/1_1_A1_{name}.jpg")).unwrap();
        assert!(
            row[2].contains(reason) && row[3] == attempts && row[1].starts_with(&server.url),
            "{row:?}"
        );
    }
    assert!(server.peak() <= 3, "{} connections", server.peak());
    let log = server.take_log();
    let of = |path: &str| log.iter().filter(|r| r.path == path).collect::<Vec<_>>();
    let resumed = of(&file(1, "yellow"));
    let half = good[&file(1, "yellow")].len() / 2;
    assert_eq!(
        (resumed.len(), resumed[1].header("range")),
        (2, Some(format!("bytes={half}-").as_str()))
    );
    assert_eq!(of(&file(2, "green"))[1].header("if-range"), Some("\"e\""), "after a stall, too");
    assert_eq!(of(&changing)[1].header("if-range"), Some("\"old\""), "and the new file came whole");
    let asked = of(&file(1, "green"));
    assert!(
        asked[1].at - asked[0].at >= Duration::from_secs(1),
        "Retry-After is kept, not our own shorter wait"
    );
    assert_eq!(of(&file(6, "red"))[1].header("range"), None);
    assert_eq!(of(&file(3, "yellow")).len(), 1, "gone is gone");

    // Again: only what is on the list is asked for.
    ends(&place.fetch(&["external"]), 1, &[]);
    let asked: HashSet<String> = server
        .take_log()
        .into_iter()
        .map(|r| r.path)
        .filter(|p| !p.ends_with("/1/green.jpg"))
        .collect();
    assert_eq!(
        asked.iter().map(|p| p.trim_end_matches("?moved").to_string()).collect::<HashSet<_>>(),
        bad
    );
}

#[test]
fn a_large_file_that_is_broken_each_time_is_given_up() {
    let (ids, _) = samples(1);
    let bytes = [&[0xff, 0xd8, 0xff][..], &vec![7; 9 << 20]].concat();
    let server = Server::start(move |r| match r.path.ends_with("_red.jpg") {
        true => Answer::file(r, JPEG, "e", &bytes),
        false => Answer::status(404),
    });
    let place = Place::new(&server.url);
    place.table(&ids);
    ends(&place.fetch(&["external"]), 65, &["4 of 4 files"]);
    assert!(
        place.rows("failed-00000.csv").iter().any(|r| r[2].contains("cut short") && r[3] == "4")
    );
    assert_eq!(server.requests(), 3 + 4, "fetch.attempts for the broken one");
}

#[test]
fn the_part_of_another_process_is_left_alone() {
    let (ids, good) = samples(1);
    let server = Server::start(atlas_of(good));
    let place = Place::new(&server.url);
    place.table(&ids);
    fs::create_dir(place.data("images")).unwrap();
    let part = place.data("images/1_1_A1_0_red.jpg.part");
    let other = fs::File::create(&part).unwrap();
    other.lock().unwrap();
    ends(&place.fetch(&["external"]), 1, &["another process is fetching it"]);
    assert!(part.exists());
    drop(other);
    place.fetched(&["external"]);
    assert!(!part.exists());
}

#[test]
fn killed_it_goes_on_with_what_is_missing() {
    let (ids, good) = samples(10);
    let (served, calm) = (good.clone(), Arc::new(AtomicBool::new(false)));
    let calmed = calm.clone();
    let server = Server::start(move |r| match served.get(&r.path) {
        Some(bytes) if !calmed.load(Relaxed) && r.path.ends_with("_yellow.jpg") => {
            // A part, and then nothing for a long time: this is where the kill finds it.
            Answer::file(r, JPEG, &r.path, bytes).cut(bytes.len() / 3).stall().delay(50)
        }
        Some(bytes) => Answer::file(r, JPEG, &r.path, bytes).delay(10),
        None => Answer::status(404),
    });
    let place = Place::new(&server.url).set("fetch.read_timeout_seconds=30");
    place.table(&ids);
    let mut child =
        place.command(&["external"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // Three connections, each of which ends in a yellow file.
    let parts = || {
        place
            .images()
            .iter()
            .filter(|(p, b)| p.ends_with("_yellow.jpg.part") && !b.is_empty())
            .count()
    };
    until("three connections hang", || parts() == 3);
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    let there: HashSet<String> =
        place.images().into_keys().filter(|p| p.ends_with(".jpg")).collect();
    assert!(there.len() >= 6, "{there:?}");
    let first = server.take_log();
    assert!(first.len() < good.len());

    calm.store(true, Relaxed);
    let json = place.fetched(&["external"]);
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
        "the three parts are gone on with"
    );
    assert!(place.images() == good, "all there, byte by byte, and no parts left");
    assert_eq!(
        (json["fetched"].as_u64(), json["there"].as_u64()),
        (Some(missing.len() as u64), Some(40))
    );
    place.ledger_is_true("fetched-00000.csv", "images");

    assert_eq!(place.fetched(&["external"])["present"], 40);
    assert_eq!(server.requests(), 0, "nothing left to ask for");
}

#[test]
fn tasks_fetch_disjoint_parts() {
    let (ids, good) = samples(7);
    let server = Server::start(atlas_of(good.clone()));
    let place = Place::new(&server.url);
    place.table(&ids);
    let mut out = place.command(&["external"]);
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
        "samples 1, 3 and 5 of two tasks (fetch.tasks), whatever the array's size"
    );
    // Of a pipeline that began with the download, `status` knows that one of its tasks is done.
    let work = place.sets.iter().find_map(|s| s.strip_prefix("paths.work=")).unwrap();
    fs::create_dir_all(format!("{work}/pipeline/one")).unwrap();
    fs::write(format!("{work}/pipeline/one/fetch"), "").unwrap();
    let mut status = std::process::Command::new(assert_cmd::cargo::cargo_bin("atlas"));
    let out = status
        .args(["status", "--missing", "--run", "one"])
        .args(place.sets.iter().flat_map(|s| ["--set", s]))
        .output()
        .unwrap();
    ends(&out, 0, &[]);
    assert!(
        out.stdout.starts_with(b"fetch_kaggle 0-1\nfetch_external 0\n"),
        "{}",
        String::from_utf8_lossy(&out.stdout)
    );
    place.fetched(&["external", "--task", "0", "--tasks", "2"]);
    let of_zero = server.take_paths();
    assert!(of_zero.iter().all(|p| !of_one.contains(p)));
    assert_eq!(of_zero.len() + of_one.len(), good.len());
    assert!(place.images() == good);
    // Another number of tasks: what others have fetched is known.
    place.fetched(&["external"]);
    assert_eq!(server.requests(), 0);

    let out =
        place.command(&["external", "--json"]).env("SLURM_ARRAY_TASK_ID", "2").output().unwrap();
    ends(&out, 0, &[]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()["files"], 0);
    ends(
        &place.fetch(&["external", "--task", "2"]),
        2,
        &["--task 2 of 2: tasks count from 0 to 1"],
    );
    ends(&place.fetch(&["external", "--tasks", "2"]), 2, &["--tasks without --task"]);
    ends(
        &place.command(&["external"]).env("SLURM_ARRAY_TASK_ID", "x").output().unwrap(),
        2,
        &["SLURM_ARRAY_TASK_ID is `x`"],
    );
}

#[test]
fn connections_and_rate_are_limited() {
    let (ids, good) = samples(6);
    let served = good.clone();
    let server = Server::start(move |r| Answer::file(r, JPEG, "e", &served[&r.path]).delay(30));
    let place = Place::new(&server.url);
    place.table(&ids);
    place.fetched(&["external"]);
    assert_eq!(server.peak(), 3, "as many as allowed are used, and never more");

    fs::remove_dir_all(place.data("images")).unwrap();
    let place = place.set("fetch.requests_per_second=20").set("fetch.connections=8");
    let start = Instant::now();
    place.fetched(&["external"]);
    assert!(
        start.elapsed() > Duration::from_millis(23 * 50),
        "24 requests at 20 a second took {:?}",
        start.elapsed()
    );
}

#[test]
fn a_signal_stops_it_at_once_and_loses_nothing() {
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
    let place = Place::new(&server.url).set("fetch.read_timeout_seconds=60");
    place.table(&ids);
    let child =
        place.command(&["external"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    until("one hangs and the others are done", || {
        let images = place.images();
        images.len() == 13 && // with the mark of the part
             images.iter().any(|(p, b)| p.ends_with(".part") && b.len() == 4000)
    });
    let start = Instant::now();
    signal(&child, libc::SIGTERM);
    let out = child.wait_with_output().unwrap();
    ends(&out, 75, &["stopped with 11 of 12 files there; run it again"]);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it does not wait for the stalled connection"
    );
    server.take_log();
    calm.store(true, Relaxed);
    place.fetched(&["external"]);
    let log = server.take_log();
    assert_eq!((log.len(), log[0].header("range")), (1, Some("bytes=4000-")));
    assert!(place.images() == good);
}

#[test]
fn what_is_there_is_taken_in_or_replaced() {
    let (ids, good) = samples(3);
    let server = Server::start(atlas_of(good.clone()));
    let place = Place::new(&server.url);
    place.table(&ids);
    let image = |name: &str| place.data(&format!("images/1_1_A1_{name}.jpg"));
    fs::create_dir(place.data("images")).unwrap();
    fs::write(image("0_red"), &good[&path("1_1_A1_0_red.jpg")]).unwrap();
    fs::write(image("0_green"), made::png(1)).unwrap();
    fs::write(image("0_blue"), "<html>error page of another downloader</html>").unwrap();
    fs::write(image("0_yellow"), &good[&path("1_1_A1_0_yellow.jpg")][..3000]).unwrap();
    let json = place.fetched(&["external"]);
    assert_eq!((&json["adopted"], &json["fetched"]), (&2.into(), &10.into()));
    let asked = server.take_paths();
    assert!(
        !asked.contains(&path("1_1_A1_0_red.jpg")) && asked.contains(&path("1_1_A1_0_blue.jpg"))
    );
    assert_eq!(
        fs::read(image("0_green")).unwrap(),
        made::png(1),
        "a good picture stays, whoever brought it"
    );
    place.ledger_is_true("fetched-00000.csv", "images");

    // One byte of a picture changes on the disk: only --verify sees it. A changed size is seen
    // always.
    let mut bytes = fs::read(image("1_red")).unwrap();
    bytes[2000] ^= 1;
    fs::write(image("1_red"), bytes).unwrap();
    fs::write(image("1_green"), "").unwrap();
    place.fetched(&["external"]);
    assert_eq!(server.take_paths(), [path("1_1_A1_1_green.jpg")]);
    place.fetched(&["external", "--verify"]);
    assert_eq!(server.take_paths(), [path("1_1_A1_1_red.jpg")]);
    assert_eq!(fs::read(image("1_red")).unwrap(), good[&path("1_1_A1_1_red.jpg")]);
}

#[test]
fn few_may_be_missing_many_are_bad_data() {
    let (mut ids, mut good) = samples(6);
    good.remove(&path("1_1_A1_3_blue.jpg"));
    let server = Server::start(atlas_of(good));
    let place = Place::new(&server.url);
    ids.extend(
        ["0b6eb490-bbaf-11e8-b2ba", "1_si12_C1_1", "../../evil_1_1_1", "1_1_A1"].map(String::from),
    );
    place.table(&ids);
    let out = place.fetch(&["external"]);
    ends(&out, 0, &["1 files are not to be had"]);
    let failed = place.rows("failed-00000.csv");
    assert_eq!(failed.len(), 5, "one 404 and four ids: {failed:?}");
    assert!(failed.iter().any(|r| r[0] == "../../evil_1_1_1" && r[1].is_empty() && r[3] == "0"));
    ends(
        &place.fetch(&["external", "--set", "fetch.max_missing_fraction=0.04"]),
        65,
        &["failed-00000.csv", "1_1_A1_3_blue.jpg", "404"],
    );

    // Another list, by name; ids with a hash keep it in their file's name.
    fs::write(place.data("list.txt"), "Id\n1_1_A1_2_cr5afd\n").unwrap();
    fs::remove_dir_all(place.data("images")).unwrap();
    server.take_log();
    place.fetched(&["external", "--list", place.data("list.txt").to_str().unwrap()]);
    assert!(place.data("images/1_1_A1_2_cr5afd_red.jpg").exists());
    assert!(server.take_paths().contains(&path("1_1_A1_2_red.jpg")));
    assert!(place.rows("failed-00000.csv").is_empty());
    // Ids of the competition are none of the Atlas; where no other is there, the list is the wrong
    // one.
    fs::write(place.data("list.txt"), "Id\n0b6eb490-bbaf-11e8-b2ba\n").unwrap();
    let out = place.fetch(&["external", "--list", place.data("list.txt").to_str().unwrap()]);
    ends(&out, 65, &["list.txt", "none of the 1 ids is an image of the Atlas"]);
    ends(
        &place.fetch(&["external", "--list", "/nowhere.csv"]),
        2,
        &["--list /nowhere.csv", "no such file"],
    );
    ends(&place.fetch(&["external", "--set", "data.external="]), 2, &["data.external is not set"]);
}

#[test]
fn a_host_that_is_down_or_wants_peace_is_left_alone() {
    let (ids, _) = samples(20);
    let server = Server::start(|_| Answer::status(500));
    let place = Place::new(&server.url).set("fetch.attempts=1");
    place.table(&ids);
    ends(&place.fetch(&["external"]), 1, &["20 files in a row failed", "the server answers 500"]);
    assert!(server.requests() < 30, "{} requests for 80 files", server.requests());
    let server = Server::start(|_| Answer::status(429).with("Retry-After", "7200"));
    let place = place.set(&format!("fetch.images_url={}", server.url));
    ends(&place.fetch(&["external"]), 1, &["asks to come back in 2 h 00 min"]);
    assert!(server.requests() <= 3, "{} requests", server.requests());
    let place = place.set("fetch.images_url=http://127.0.0.1:9").set("fetch.connections=1");
    ends(&place.fetch(&["external"]), 1, &["in a row failed", "http://127.0.0.1:9/"]);
}

#[test]
fn refused_files_do_not_keep_others_from_coming() {
    let (ids, good) = samples(10);
    let (served, down) = (good.clone(), Arc::new(AtomicBool::new(true)));
    let is_down = down.clone();
    // Six samples are refused for ever; what is behind them fails once.
    let server = Server::start(move |r| match r.path.as_bytes()[b"/1/1_A1_".len()] {
        b'0'..=b'5' => Answer::status(403),
        _ if is_down.load(Relaxed) => Answer::status(500),
        _ => Answer::file(r, JPEG, "e", &served[&r.path]),
    });
    let place = Place::new(&server.url).set("fetch.attempts=1").set("fetch.connections=1");
    place.table(&ids);
    ends(&place.fetch(&["external"]), 1, &["20 files in a row failed"]);
    assert_eq!(place.rows("failed-00000.csv").len(), 20);
    down.store(false, Relaxed);
    ends(&place.fetch(&["external"]), 1, &["20 files in a row failed"]);
    // The first 20 came last; those not reached again stay on the list.
    ends(&place.fetch(&["external"]), 1, &["20 files in a row failed"]);
    assert_eq!(place.images().len(), 16, "all that the server gives");
    assert_eq!(place.rows("failed-00000.csv").len(), 24);
    // A page for whatever is asked for.
    let server = Server::start(|r| Answer::file(r, "text/html", "e", b"<html>Maintenance"));
    fs::remove_dir_all(place.data("images")).unwrap();
    let place = place.set(&format!("fetch.images_url={}", server.url));
    ends(&place.fetch(&["external"]), 1, &["20 files in a row failed", "text/html"]);
}

const XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<proteinAtlas>
<entry version="18">
  <name>AAA</name>
  <antibody id="HPA010580">
    <cellExpression source="HPA" technology="ICC/IF">
      <subAssay type="human">
        <data>
          <cellLine>A-431</cellLine>
          <location GOId="GO:0005654" status="main">Nucleoplasm</location>
          <location status="additional">Rods &amp; Rings</location>
          <location>Vesicles</location>
          <assayImage>
            <image imageType="sampleImage"><imageUrl>http://v18.proteinatlas.org/images/10580/1610_C1_1_blue_red_green.jpg</imageUrl></image>
            <image imageType="sampleImage"><imageUrl>http://v18.proteinatlas.org/images/10580/1610_C1_2_blue_red_green.jpg</imageUrl></image>
            <image imageType="selected"><imageUrl>http://v18.proteinatlas.org/images/10580/selected.jpg</imageUrl></image>
          </assayImage>
        </data>
        <data>
          <location>Vesicles</location>
          <assayImage><image imageType="sampleImage"><imageUrl>http://v18.proteinatlas.org/images/10580/1756_B1_1_blue_red_green.jpg</imageUrl></image></assayImage>
        </data>
        <data>
          <assayImage><image imageType="sampleImage"><imageUrl>http://v18.proteinatlas.org/images/10580/1757_B1_1_blue_red_green.jpg</imageUrl></image></assayImage>
        </data>
      </subAssay>
    </cellExpression>
    <cellExpression technology="IHC">
      <subAssay><data><location>Cytosol</location><assayImage>
        <image imageType="sampleImage"><imageUrl>http://v18.proteinatlas.org/images/10580/9_A_1_1.jpg</imageUrl></image>
      </assayImage></data></subAssay>
    </cellExpression>
  </antibody>
</entry>
<entry>
  <antibody>
    <cellExpression technology="ICC/IF"><subAssay><data>
      <location>Golgi Apparatus</location><location/>
      <assayImage><image imageType="sampleImage"><imageUrl>https://images.proteinatlas.org/10580/1610_C1_2_blue_red_green.jpg</imageUrl></image>
      <image imageType="sampleImage"><imageUrl>nowhere</imageUrl></image></assayImage>
    </data></subAssay></cellExpression>
  </antibody>
</entry>
</proteinAtlas>
"#;

fn gz(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text).unwrap();
    gz.finish().unwrap()
}

#[test]
fn the_table_comes_from_the_atlas_xml() {
    let server = Server::start(|r| Answer::file(r, "application/x-gzip", "e", &gz(XML.as_bytes())));
    let place = Place::new(&server.url)
        .set(&format!("fetch.xml_url={}/download/proteinatlas.xml.gz", server.url));
    let want = "Id,Target\n10580_1610_C1_1,0 27\n10580_1610_C1_2,0 7 27\n";
    let table = || fs::read_to_string(place.data("proteinatlas.csv")).unwrap();
    let xml = place.data("atlas.xml");
    fs::write(&xml, XML).unwrap();
    let out = place.fetch(&["external", "--xml", xml.to_str().unwrap(), "--json"]);
    ends(&out, 0, &["`Vesicles` is none of the 28 classes; 3 images name it"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&json["images"], &json["unlabelled"], &json["foreign"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert_eq!(table(), want);

    // From the server, where it is kept.
    fs::remove_file(place.data("proteinatlas.csv")).unwrap();
    place.fetched(&["external", "--xml"]);
    place.fetched(&["external", "--xml"]);
    assert_eq!(server.take_paths(), ["/download/proteinatlas.xml.gz"], "once");
    assert_eq!(table(), want);

    // And is what `fetch external` takes the ids from.
    ends(&place.fetch(&["external"]), 65, &["8 of 8 files are not to be had"]);
    assert!(server.take_paths().contains(&"/10580/1610_C1_2_yellow.jpg".into()));

    let broken = |bytes: &[u8]| {
        fs::write(&xml, bytes).unwrap();
        let error =
            read_atlas(&xml, &Progress::new("read XML", "bytes", 0), &Stop::new()).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        error.to_string()
    };
    for (bytes, what) in [
        (XML.as_bytes()[..900].to_vec(), "it ends within an element"),
        (gz(XML.as_bytes())[..300].to_vec(), "no whole XML"),
        (b"<?xml version=\"1.0\"?><a></b>".to_vec(), "no whole XML"),
        (b"<?xml version=\"1.0\"?><a></a>".to_vec(), "names no immunofluorescence image"),
    ] {
        let error = broken(&bytes);
        assert!(error.contains("atlas.xml") && error.contains(what), "{error}");
    }
    ends(&place.fetch(&["external", "--xml", xml.to_str().unwrap()]), 65, &["atlas.xml"]);
    assert_eq!(table(), want, "the old table stays");
    fs::rename(place.data("proteinatlas.csv"), place.data("mine.csv")).unwrap();
    ends(&place.fetch(&["external", "--xml"]), 2, &["mine.csv is there already"]);
}

/// The four files of the competition by name.
fn competition() -> BTreeMap<&'static str, Vec<u8>> {
    let part = |part: &str, n: usize| -> Vec<u8> {
        let entries: Vec<Entry> =
            (0..n).map(|i| Entry::new(&format!("{part}{i}_red.png"), made::png(i))).collect();
        zip(&entries)
    };
    [
        ("train.zip", part("train", 6)),
        ("test.zip", part("test", 3)),
        ("train.csv", b"Id,Target\ntrain0,16 0\n".to_vec()),
        ("sample_submission.csv", b"Id,Predicted\ntest0,0\n".to_vec()),
    ]
    .into()
}

/// Kaggle as far as it matters: asks for `header`, and sends to the storage.
fn kaggle(header: &'static str, storage: String) -> Server {
    Server::start(move |r| match r.header("authorization") {
        Some(h) if h == header => {
            let file = r
                .path
                .strip_prefix(
                    "/api/v1/competitions/data/download/human-protein-atlas-image-classification/",
                )
                .unwrap();
            Answer::status(302)
                .with("Location", format!("{storage}/signed/{file}?X-Goog-Signature=abc"))
        }
        Some("Bearer norules") => Answer::status(403),
        _ => Answer::status(401),
    })
}

fn storage(files: BTreeMap<&'static str, Vec<u8>>, cut: bool) -> Server {
    Server::start(move |r| {
        let name = r.path.trim_start_matches("/signed/").split('?').next().unwrap();
        let answer = Answer::file(r, "application/octet-stream", name, &files[name]);
        if cut && r.earlier == 0 { answer.cut(files[name].len() / 2) } else { answer }
    })
}

#[test]
fn kaggle_files_come_whole_and_unpacked() {
    let storage = storage(competition(), true);
    let kaggle = kaggle("Bearer secret", storage.url.clone());
    let place = Place::new(&kaggle.url);
    let run = |task: &str, more: &[&str]| {
        let args = [&["kaggle", "--json", "--task", task], more].concat();
        let out = place.command(&args).env("KAGGLE_API_TOKEN", "secret").output().unwrap();
        ends(&out, 0, &[]);
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    assert_eq!(run("0", &[])["unpacked"], 6);
    assert!(
        !place.data("test").exists() && !place.data("sample_submission.csv").exists(),
        "of the other task"
    );
    assert_eq!(run("1", &[])["unpacked"], 3);
    let pictures = |part: &str, n: usize| -> BTreeMap<String, Vec<u8>> {
        (0..n).map(|i| (format!("{part}{i}_red.png"), made::png(i))).collect()
    };
    assert!(
        place.list("train") == pictures("train", 6) && place.list("test") == pictures("test", 3)
    );
    assert_eq!(fs::read(place.data("train.csv")).unwrap(), competition()["train.csv"]);
    assert!(!place.data("train.zip").exists(), "nobody needs it twice");
    place.ledger_is_true_of_kaggle();
    let log = storage.take_log();
    assert!(
        log.iter().all(|r| r.header("authorization").is_none()),
        "the credentials are Kaggle's alone"
    );
    let halves: Vec<_> = log
        .iter()
        .filter(|r| r.path.contains("train.zip"))
        .map(|r| r.header("range").map(String::from))
        .collect();
    assert_eq!(
        halves,
        [None, Some(format!("bytes={}-", competition()["train.zip"].len() / 2))],
        "resumed, not begun anew"
    );
    assert!(log.iter().all(|r| r.header("accept-encoding") == Some("identity")));

    // All there: no request, and no credentials needed.
    kaggle.take_log();
    ends(&place.fetch(&["kaggle"]), 0, &[]);
    assert_eq!(kaggle.requests(), 0);
    // A picture is gone: its zip comes again, the rest stays.
    fs::remove_file(place.data("train/train3_red.png")).unwrap();
    let old = fs::metadata(place.data("train/train2_red.png")).unwrap().modified().unwrap();
    assert_eq!(run("0", &[])["unpacked"], 1);
    assert!(place.list("train") == pictures("train", 6));
    assert_eq!(fs::metadata(place.data("train/train2_red.png")).unwrap().modified().unwrap(), old);
    // A byte of a picture changes: --verify brings it back.
    let mut bytes = made::png(4);
    bytes[40] ^= 1;
    fs::write(place.data("train/train4_red.png"), bytes).unwrap();
    assert_eq!(run("0", &[])["unpacked"], 0);
    assert_eq!(run("0", &["--verify"])["unpacked"], 1);
    assert!(place.list("train") == pictures("train", 6));
}

impl Place {
    fn ledger_is_true_of_kaggle(&self) {
        self.ledger_is_true_where("fetched-00000.csv", "train");
        self.ledger_is_true_where("fetched-00001.csv", "test");
    }

    /// Rows of the zips themselves have no file any more.
    fn ledger_is_true_where(&self, name: &str, folder: &str) {
        let text = fs::read_to_string(self.data(name)).unwrap();
        let kept: String = text
            .lines()
            .filter(|l| !l.starts_with(&format!("{folder}.zip,")))
            .map(|l| format!("{l}\n"))
            .collect();
        fs::write(self.data("copy.csv"), kept).unwrap();
        self.ledger_is_true("copy.csv", folder);
        fs::remove_file(self.data("copy.csv")).unwrap();
    }
}

#[test]
fn kaggle_credentials_in_their_order() {
    let files = competition();
    let storage = storage(files.clone(), false);
    let bearer = kaggle("Bearer first", storage.url.clone());
    let basic = kaggle("Basic dXNlcjprZXk=", storage.url.clone()); // user:key
    let place = Place::new(&bearer.url);
    let run = |server: &Server, variables: &[(&str, &str)]| {
        let set = format!("fetch.kaggle_url={}/api/v1", server.url);
        let mut command =
            place.command(&["kaggle", "--task", "2", "--tasks", "4", "--set", &set, "--verify"]);
        let _ = fs::remove_file(place.data("train.csv"));
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let none = run(&bearer, &[]);
    ends(&none, 2, &["no Kaggle credentials", "KAGGLE_API_TOKEN", "kaggle.json"]);
    assert_eq!(bearer.requests(), 0);
    fs::create_dir(place.folder.path().join(".kaggle")).unwrap();
    let file = |name: &str, text: &str| {
        fs::write(place.folder.path().join(".kaggle").join(name), text).unwrap()
    };
    let user = [("KAGGLE_USERNAME", "user"), ("KAGGLE_KEY", "key")];
    file("kaggle.json", r#"{"username":"user","key":"key"}"#);
    ends(&run(&basic, &[]), 0, &[]);
    file("kaggle.json", r#"{"username":"user"}"#);
    ends(&run(&basic, &[]), 2, &["kaggle.json: expected"]);
    ends(&run(&basic, &user), 0, &[]);
    file("access_token", "first\n");
    ends(&run(&bearer, &user), 0, &[]);
    ends(&run(&bearer, &[("KAGGLE_API_TOKEN", "first")]), 0, &[]);
    // The variable comes before the file.
    ends(
        &run(&bearer, &[("KAGGLE_API_TOKEN", "other")]),
        2,
        &["401", "from KAGGLE_API_TOKEN", "https://www.kaggle.com/settings"],
    );
    let rules =
        "https://www.kaggle.com/competitions/human-protein-atlas-image-classification/rules";
    bearer.take_log();
    ends(
        &run(&bearer, &[("KAGGLE_API_TOKEN", "norules")]),
        2,
        &["403", "rules must be accepted", "browser", rules],
    );
    assert_eq!(bearer.requests(), 1, "no second attempt");
    let out = run(&bearer, &[("KAGGLE_API_TOKEN", "a\nb")]);
    ends(&out, 2, &["characters"]);
    // To another machine credentials go over https only.
    let set = "fetch.kaggle_url=http://kaggle.example/api/v1";
    ends(
        &place
            .command(&["kaggle", "--set", set])
            .env("KAGGLE_API_TOKEN", "first")
            .output()
            .unwrap(),
        2,
        &["https only"],
    );
    // A table in a zip of its own is unpacked.
    let packed = Server::start(move |r| {
        Answer::file(
            r,
            "application/zip",
            "e",
            &zip(&[Entry::new("train.csv", files["train.csv"].clone())]),
        )
    });
    ends(&run(&packed, &user), 0, &[]);
    assert_eq!(fs::read(place.data("train.csv")).unwrap(), competition()["train.csv"]);
    assert!(!place.data("train.csv.zip").exists());
    // What is missing there is bad data.
    ends(&run(&Server::start(|_| Answer::status(404)), &user), 65, &["train.csv", "404"]);
    ends(
        &run(&Server::start(|r| Answer::file(r, "text/csv", "e", b"<html>")), &user),
        65,
        &["no CSV with a column Id"],
    );
}

/// Unpacks a zip without a server.
fn unpacked(zip: &[u8]) -> (Place, atlas::base::Result<usize>) {
    let place = Place::new("http://localhost");
    let path = place.data("train.zip");
    fs::write(&path, zip).unwrap();
    let ledger = Ledger::open(&place.data(""), 0).unwrap();
    let result = unpack(&ledger, &path, Target::Folder("train"), "url", false, &Stop::new());
    (place, result)
}

#[test]
fn evil_zips_write_nothing() {
    let good = || Entry::new("good_red.png", made::png(1));
    let evil = |name: &str| Entry::new(name, b"evil".to_vec());
    let link = Entry { mode: 0o120_777, ..Entry::new("link_red.png", b"/etc/passwd".to_vec()) };
    let device = Entry { mode: 0o020_666, ..evil("device_red.png") };
    let bomb = Entry { declared: 1000, ..Entry::new("bomb_red.png", vec![0; 5_000_000]) };
    let honest = Entry::new("bomb_red.png", vec![0; 30_000_000]);
    let claims = Entry { declared: 1 << 30, ..evil("claims_red.png") };
    let short = Entry { declared: 5000, ..evil("short_red.png") };
    let cases = [
        (evil("../evil_red.png"), "is no plain file name"),
        (evil("/tmp/evil_red.png"), "is no plain file name"),
        (evil("train/../../evil_red.png"), "is no plain file name"),
        (evil("a/evil_red.png"), "is no plain file name"),
        (evil("..\\evil_red.png"), "is no plain file name"),
        (evil("train/.."), "is no plain file name"),
        (link, "is a link or a device"),
        (device, "is a link or a device"),
        (honest, "more than any zip of images"),
        (claims, "claims 1073741824 bytes"),
        (bomb, "the entry bomb_red.png: File is larger than its declared uncompressed size"),
        (short, "the entry short_red.png: holds 4 of the 5000 bytes"),
    ];
    for (entry, what) in cases {
        let name = entry.name.clone();
        let (place, error) = unpacked(&zip(&[good(), entry]));
        let error = error.unwrap_err();
        assert!(
            error.to_string().contains(what) && error.to_string().contains("train.zip"),
            "{name}: {error}"
        );
        assert_eq!(error.exit_code(), 65);
        let train: Vec<String> = place.list("train").into_keys().collect();
        // What breaks while it is unpacked leaves the whole files before it.
        assert_eq!(
            train,
            if what.starts_with("the entry") { vec!["good_red.png"] } else { vec![] },
            "{name}"
        );
        for outside in [
            place.data("evil_red.png"),
            place.folder.path().join("evil_red.png"),
            Path::new("/tmp/evil_red.png").into(),
        ] {
            assert!(!outside.exists(), "{name}");
        }
    }
    // A wrong CRC.
    let mut broken = zip(&[Entry::new("a_red.png", made::png(1))]);
    let at = broken.windows(4).position(|w| w == b"PK\x01\x02").unwrap() + 16;
    broken[at] ^= 1;
    let storage = storage(BTreeMap::from([("train.zip", broken)]), false);
    let kaggle = kaggle("Bearer t", storage.url.clone());
    let place = Place::new(&kaggle.url);
    let out = place
        .command(&["kaggle", "--task", "0", "--tasks", "4"])
        .env("KAGGLE_API_TOKEN", "t")
        .output()
        .unwrap();
    ends(&out, 65, &["a_red.png", "it was removed, run again"]);
    assert!(place.list("train").is_empty() && !place.data("train.zip").exists());
}
