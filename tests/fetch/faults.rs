//! Servers with faults: exactly the good files are kept.

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    server::{Answer, Request, Server},
    setup::{CHANNELS, JPEG, Setup, atlas_of, ends, jpeg, path, real, samples},
};

/// What a hostile server answers to a request for a file that consists of `bytes`. `old` is an
/// earlier version of file 2_blue.
fn faulty(r: &Request, bytes: &[u8], old: &[u8]) -> Answer {
    let whole = || Answer::file(r, JPEG, "e", bytes);
    let half = bytes.len() / 2;
    let rest = r.path.strip_prefix("/1/1_A1_").unwrap_or("");
    match (rest, r.earlier) {
        ("1_red.jpg", _) => Answer::status(404),
        ("1_green.jpg", 0) => Answer::status(429).with("Retry-After", "1"),
        ("1_blue.jpg", 0 | 1) => Answer::status(500),
        ("1_yellow.jpg", 0) => whole().cut(half),
        ("2_red.jpg", _) => Answer::file(r, "text/html; charset=utf-8", "e", b"<html>Sorry</html>"),
        ("2_green.jpg", 0) => whole().cut(half).stall(),
        ("2_blue.jpg", 0) => Answer::file(r, JPEG, "old", old).cut(old.len() / 2),
        // Cut at once each time: no attempt brings a byte.
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
        // Both ends are correct, but the middle is noise.
        ("4_blue.jpg", _) => {
            Answer::file(r, JPEG, "e", &[&bytes[..3], &[0xff; 500], &[0xff, 0xd9]].concat())
        }
        ("4_yellow.jpg", 0) => {
            Answer::status(503).with("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")
        }
        // Answers with a part that was not requested.
        ("5_red.jpg", 0) => whole().cut(half),
        ("5_red.jpg", 1) => {
            let mut answer = whole();
            answer.headers.retain(|(name, _)| *name != "Content-Range");
            answer.with("Content-Range", "bytes 0-9/10")
        }
        ("5_green.jpg", _) => Answer::status(302).with("Location", "green.jpg"),
        ("5_blue.jpg", 0) => Answer::status(302).with("Location", format!("{}?moved", r.path)),
        ("5_yellow.jpg", _) => whole().with("Content-Encoding", "gzip"),
        // Without a validator the part cannot be resumed.
        ("6_red.jpg", 0) => {
            let mut answer = whole().cut(half);
            answer.headers.retain(|(name, _)| *name != "ETag");
            answer
        }
        _ => whole(),
    }
}

/// Path on the server of a channel of sample `i`.
fn file(i: usize, channel: &str) -> String {
    path(&format!("1_1_A1_{i}_{channel}.jpg"))
}

#[test]
fn exactly_the_good_files_of_a_hostile_server_are_kept() {
    let (mut ids, mut good) = samples(8);
    if let Some((real, images)) = real() {
        ids.extend(real);
        good.extend(images);
    }
    let (served, old) = (good.clone(), jpeg(999));
    let server = Server::start(move |r| match served.get(&r.path) {
        Some(bytes) => faulty(r, bytes, &old),
        None => Answer::status(404),
    });
    let setup = Setup::new(&server.url);
    setup.table(&ids);
    let out = setup.fetch(&["external"]);
    // The server has no image ?moved, and no file green.jpg, where the redirect of 5_green leads.
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
    let all = ids.iter().flat_map(|id| CHANNELS.map(|c| path(&format!("{id}_{c}.jpg"))));
    bad.extend(all.filter(|path| !good.contains_key(path)));
    ends(&out, 1, &["atlas: 2 of"]);
    let mut want = good.clone();
    want.retain(|path, _| !bad.contains(path));
    let got = setup.images();
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "no file too many, no half file, none missing"
    );
    assert!(got == want, "byte by byte");
    setup.ledger_is_true("fetched-00000.csv", "images");
    failures_are_listed(&setup, &server.url, &bad);
    assert!(server.peak() <= 3, "{} connections", server.peak());
    requests_are_polite(&server.take_log(), good[&file(1, "yellow")].len() / 2);

    // A second run requests only the listed files.
    ends(&setup.fetch(&["external"]), 1, &[]);
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

fn failures_are_listed(setup: &Setup, url: &str, bad: &HashSet<String>) {
    let failed = setup.rows("failed-00000.csv");
    let listed: HashSet<String> =
        failed.iter().map(|r| path(r[0].strip_prefix("images/").unwrap())).collect();
    assert_eq!(listed, *bad);
    for (name, reason, attempts) in [
        ("1_red", "404", "1"),
        ("2_red", "text/html", "4"),
        ("3_red", " 0 of ", "4"),
        ("3_green", "(no end marker)", "4"),
        ("3_blue", "`<!DOCTYPE html>", "4"),
        ("4_green", "403", "1"),
        ("5_yellow", "gzip", "4"),
    ] {
        let row = failed.iter().find(|r| r[0] == format!("images/1_1_A1_{name}.jpg")).unwrap();
        assert!(
            row[2].contains(reason) && row[3] == attempts && row[1].starts_with(url),
            "{row:?}"
        );
    }
}

/// Ranges, validators and waits of the requests; `half` is the first part of 1_yellow in bytes.
fn requests_are_polite(log: &[Request], half: usize) {
    let of = |path: &str| log.iter().filter(|r| r.path == path).collect::<Vec<_>>();
    let resumed = of(&file(1, "yellow"));
    assert_eq!(
        (resumed.len(), resumed[1].header("range")),
        (2, Some(format!("bytes={half}-").as_str()))
    );
    assert_eq!(of(&file(2, "green"))[1].header("if-range"), Some("\"e\""), "also after a stall");
    assert_eq!(
        of(&file(2, "blue"))[1].header("if-range"),
        Some("\"old\""),
        "and the new file was sent as a whole"
    );
    let asked = of(&file(1, "green"));
    assert!(
        asked[1].at - asked[0].at >= Duration::from_secs(1),
        "Retry-After is kept, not our own shorter wait"
    );
    assert_eq!(of(&file(6, "red"))[1].header("range"), None);
    assert_eq!(of(&file(3, "yellow")).len(), 1, "gone is gone");
}

#[test]
fn a_large_file_that_is_broken_each_time_is_abandoned() {
    let (ids, _) = samples(1);
    let bytes = [&[0xff, 0xd8, 0xff][..], &vec![7; 9 << 20]].concat();
    let server = Server::start(move |r| match r.path.ends_with("_red.jpg") {
        true => Answer::file(r, JPEG, "e", &bytes),
        false => Answer::status(404),
    });
    let setup = Setup::new(&server.url);
    setup.table(&ids);
    ends(&setup.fetch(&["external"]), 65, &["4 of 4 files"]);
    let failed = setup.rows("failed-00000.csv");
    assert!(failed.iter().any(|r| r[2].contains("(no end marker)") && r[3] == "4"), "{failed:?}");
    assert_eq!(server.requests(), 3 + 4, "fetch.attempts for the broken one");
}

#[test]
fn a_body_without_end_is_cut_off_where_no_image_is_larger() {
    let (ids, good) = samples(1);
    let served = good.clone();
    let server = Server::start(move |r| {
        let mut answer = Answer::file(r, JPEG, "e", &served[&r.path]);
        let channel = r.path.rsplit('_').next().unwrap();
        answer.unsized_ = channel != "yellow.jpg";
        match channel {
            "red.jpg" => answer.body = [&answer.body[..], &vec![7; 3 << 20]].concat(),
            "green.jpg" => return answer.with("Content-Length", "1000000000000"),
            // The rest of a part is said to be huge.
            "blue.jpg" if r.earlier == 0 => return answer.cut(5000).stall(),
            "blue.jpg" => {
                answer.headers.retain(|(name, _)| *name != "Content-Range");
                answer.status = 206;
                return answer.with("Content-Range", "bytes 5000-999999999999/1000000000000");
            }
            _ => {}
        }
        answer
    });
    let setup = Setup::new(&server.url).set("preprocess.max_pixels_side=128");
    setup.table(&ids);
    ends(&setup.fetch(&["external"]), 65, &["3 of 4 files"]);
    let failed = setup.rows("failed-00000.csv");
    for (channel, reason) in
        [("red", "goes on sending"), ("green", "1000000000000 bytes"), ("blue", "1000000000000 ")]
    {
        let row = failed.iter().find(|r| r[0].ends_with(&format!("_{channel}.jpg"))).unwrap();
        assert!(row[2].contains(reason), "{row:?}");
        assert!(row[2].contains("preprocess.max_pixels_side = 128"), "{row:?}");
    }
    let there: Vec<String> = setup.list("images").into_keys().collect();
    assert_eq!(there, ["1_1_A1_0_yellow.jpg"], "no part remains");
    assert_eq!(server.requests(), 5, "none is asked for again, besides the rest of blue");
}

#[test]
fn a_few_missing_files_are_allowed_many_are_bad_data() {
    let (mut ids, mut good) = samples(6);
    good.remove(&path("1_1_A1_3_blue.jpg"));
    let server = Server::start(atlas_of(good));
    let setup = Setup::new(&server.url);
    ids.extend(
        ["0b6eb490-bbaf-11e8-b2ba", "1_si12_C1_1", "../../evil_1_1_1", "1_1_A1"].map(String::from),
    );
    setup.table(&ids);
    let out = setup.fetch(&["external"]);
    ends(&out, 0, &["failed-00000.csv"]);
    let failed = setup.rows("failed-00000.csv");
    assert_eq!(failed.len(), 5, "one 404 and four ids: {failed:?}");
    assert!(failed.iter().any(|r| r[0] == "../../evil_1_1_1" && r[1].is_empty() && r[3] == "0"));
    ends(
        &setup.fetch(&["external", "--set", "fetch.max_missing_fraction=0.04"]),
        65,
        &["failed-00000.csv", "1_1_A1_3_blue.jpg", "404"],
    );

    // Another list, by name; ids with a hash keep it in their file's name.
    fs::write(setup.data("list.txt"), "Id\n1_1_A1_2_cr5afd\n").unwrap();
    fs::remove_dir_all(setup.data("images")).unwrap();
    server.take_log();
    setup.fetched(&["external", "--list", setup.data("list.txt").to_str().unwrap()]);
    assert!(setup.data("images/1_1_A1_2_cr5afd_red.jpg").exists());
    assert!(server.take_paths().contains(&path("1_1_A1_2_red.jpg")));
    assert!(setup.rows("failed-00000.csv").is_empty());
    // Ids of the competition are not of the Atlas; a list with no others is the wrong one.
    fs::write(setup.data("list.txt"), "Id\n0b6eb490-bbaf-11e8-b2ba\n").unwrap();
    let out = setup.fetch(&["external", "--list", setup.data("list.txt").to_str().unwrap()]);
    ends(&out, 65, &["list.txt", "0b6eb490-bbaf-11e8-b2ba"]);
    ends(
        &setup.fetch(&["external", "--list", "/nowhere.csv"]),
        2,
        &["--list /nowhere.csv", "no such file"],
    );
    ends(&setup.fetch(&["external", "--set", "data.external="]), 2, &["data.external"]);
}

#[test]
fn the_job_ends_if_the_host_is_down_or_asks_to_wait() {
    let (ids, _) = samples(20);
    let server = Server::start(|_| Answer::status(500));
    let setup = Setup::new(&server.url).set("fetch.attempts=1");
    setup.table(&ids);
    ends(&setup.fetch(&["external"]), 1, &["20 files", "500"]);
    assert!(server.requests() < 30, "{} requests for 80 files", server.requests());
    let server = Server::start(|_| Answer::status(429).with("Retry-After", "7200"));
    let setup = setup.set(&format!("fetch.images_url={}", server.url));
    ends(&setup.fetch(&["external"]), 1, &["2 h 00 min"]);
    assert!(server.requests() <= 3, "{} requests", server.requests());
    let setup = setup.set("fetch.images_url=http://127.0.0.1:9").set("fetch.connections=1");
    ends(&setup.fetch(&["external"]), 1, &["20 files", "http://127.0.0.1:9/"]);
}

#[test]
fn refused_files_do_not_block_others() {
    let (ids, good) = samples(10);
    let (served, down) = (good.clone(), Arc::new(AtomicBool::new(true)));
    let is_down = down.clone();
    // Six samples are always refused; those after them fail in the first run.
    let server = Server::start(move |r| match r.path.as_bytes()[b"/1/1_A1_".len()] {
        b'0'..=b'5' => Answer::status(403),
        _ if is_down.load(Relaxed) => Answer::status(500),
        _ => Answer::file(r, JPEG, "e", &served[&r.path]),
    });
    let setup = Setup::new(&server.url).set("fetch.attempts=1").set("fetch.connections=1");
    setup.table(&ids);
    ends(&setup.fetch(&["external"]), 1, &["20 files"]);
    assert_eq!(setup.rows("failed-00000.csv").len(), 20);
    down.store(false, Relaxed);
    ends(&setup.fetch(&["external"]), 1, &["20 files"]);
    // The first 20 were tried last; those not reached again stay on the list.
    ends(&setup.fetch(&["external"]), 1, &["20 files"]);
    assert_eq!(setup.images().len(), 16, "all that the server gives");
    assert_eq!(setup.rows("failed-00000.csv").len(), 24);
    // The same page for every request.
    let server = Server::start(|r| Answer::file(r, "text/html", "e", b"<html>Maintenance"));
    fs::remove_dir_all(setup.data("images")).unwrap();
    let setup = setup.set(&format!("fetch.images_url={}", server.url));
    ends(&setup.fetch(&["external"]), 1, &["20 files", "text/html"]);
}
