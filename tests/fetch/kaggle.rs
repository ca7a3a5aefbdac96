//! The competition's files from Kaggle.

use std::{collections::BTreeMap, fs};

use crate::{
    server::{Answer, Server},
    setup::{Entry, Setup, ends, png, zip},
};

/// The four files of the competition by name.
fn competition() -> BTreeMap<&'static str, Vec<u8>> {
    let part = |part: &str, n: usize| -> Vec<u8> {
        let entries: Vec<Entry> =
            (0..n).map(|i| Entry::new(&format!("{part}{i}_red.png"), png(i))).collect();
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

/// A server like Kaggle's: requires `header`, and redirects to the storage.
pub fn kaggle(header: &'static str, storage: String) -> Server {
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

pub fn storage(files: BTreeMap<&'static str, Vec<u8>>, cut: bool) -> Server {
    Server::start(move |r| {
        let name = r.path.trim_start_matches("/signed/").split('?').next().unwrap();
        let answer = Answer::file(r, "application/octet-stream", name, &files[name]);
        if cut && r.earlier == 0 { answer.cut(files[name].len() / 2) } else { answer }
    })
}

#[test]
fn kaggle_files_are_complete_and_unpacked() {
    let storage = storage(competition(), true);
    let kaggle = kaggle("Bearer secret", storage.url.clone());
    let setup = Setup::new(&kaggle.url);
    let run = |task: &str, more: &[&str]| {
        let args = [&["kaggle", "--json", "--task", task], more].concat();
        let out = setup.command(&args).env("KAGGLE_API_TOKEN", "secret").output().unwrap();
        ends(&out, 0, &[]);
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    assert_eq!(run("0", &[])["unpacked"], 6);
    assert!(
        !setup.data("test").exists() && !setup.data("sample_submission.csv").exists(),
        "of the other task"
    );
    assert_eq!(run("1", &[])["unpacked"], 3);
    let images = |part: &str, n: usize| -> BTreeMap<String, Vec<u8>> {
        (0..n).map(|i| (format!("{part}{i}_red.png"), png(i))).collect()
    };
    assert!(setup.list("train") == images("train", 6) && setup.list("test") == images("test", 3));
    assert_eq!(fs::read(setup.data("train.csv")).unwrap(), competition()["train.csv"]);
    assert!(!setup.data("train.zip").exists(), "it is not kept");
    setup.ledger_is_true_of_kaggle();
    let log = storage.take_log();
    assert!(
        log.iter().all(|r| r.header("authorization").is_none()),
        "only Kaggle gets the credentials"
    );
    let halves: Vec<_> = log
        .iter()
        .filter(|r| r.path.contains("train.zip"))
        .map(|r| r.header("range").map(String::from))
        .collect();
    assert_eq!(
        halves,
        [None, Some(format!("bytes={}-", competition()["train.zip"].len() / 2))],
        "resumed, not restarted"
    );
    assert!(log.iter().all(|r| r.header("accept-encoding") == Some("identity")));

    // All there: no request, and no credentials needed.
    kaggle.take_log();
    ends(&setup.fetch(&["kaggle"]), 0, &[]);
    assert_eq!(kaggle.requests(), 0);
    // An image is removed: its zip is fetched again, the rest stays.
    fs::remove_file(setup.data("train/train3_red.png")).unwrap();
    let old = fs::metadata(setup.data("train/train2_red.png")).unwrap().modified().unwrap();
    assert_eq!(run("0", &[])["unpacked"], 1);
    assert!(setup.list("train") == images("train", 6));
    assert_eq!(fs::metadata(setup.data("train/train2_red.png")).unwrap().modified().unwrap(), old);
    // A byte of an image changes: --verify restores it.
    let mut bytes = png(4);
    bytes[40] ^= 1;
    fs::write(setup.data("train/train4_red.png"), bytes).unwrap();
    assert_eq!(run("0", &[])["unpacked"], 0);
    assert_eq!(run("0", &["--verify"])["unpacked"], 1);
    assert!(setup.list("train") == images("train", 6));
}

#[test]
fn kaggles_files_are_found_where_its_program_keeps_them() {
    let storage = storage(competition(), false);
    let basic = kaggle("Basic dXNlcjprZXk=", storage.url.clone()); // user:key
    let bearer = kaggle("Bearer token", storage.url.clone());
    let setup = Setup::new(&basic.url);
    let fetch = |server: &Server, code: i32, variables: &[(&str, &str)]| {
        let _ = fs::remove_file(setup.data("train.csv"));
        let set = format!("fetch.kaggle_url={}/api/v1", server.url);
        let words = ["kaggle", "--task", "2", "--tasks", "4", "--verify", "--set", &set];
        let out = setup.command(&words).envs(variables.iter().copied()).output().unwrap();
        ends(&out, code, &[]);
        String::from_utf8(out.stderr).unwrap()
    };
    let home = setup.folder.path();
    let write = |file: &str, text: &str| {
        let path = home.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let key = r#"{"username":"user","key":"key"}"#;
    let elsewhere = home.join("elsewhere").display().to_string();
    write(".config/kaggle/kaggle.json", key);
    fetch(&basic, 0, &[]);
    let none = fetch(&basic, 2, &[("XDG_CONFIG_HOME", &elsewhere)]);
    assert!(none.contains(&format!("{elsewhere}/kaggle")), "where they were looked for: {none}");
    write("elsewhere/kaggle/kaggle.json", key);
    fetch(&basic, 0, &[("XDG_CONFIG_HOME", &elsewhere)]);
    fetch(&basic, 2, &[("KAGGLE_CONFIG_DIR", &elsewhere)]);

    // An empty token, or one that cannot be read, hides nothing.
    write(".kaggle/access_token", "\n");
    let out = fetch(&basic, 0, &[]);
    assert!(out.contains("access_token is empty"), "{out}");
    fetch(&basic, 0, &[("KAGGLE_API_TOKEN", " ")]);
    write(".config/kaggle/access_token", "token\n");
    fetch(&bearer, 0, &[]);
}

#[test]
fn kaggle_credentials_in_their_order() {
    let files = competition();
    let storage = storage(files.clone(), false);
    let bearer = kaggle("Bearer first", storage.url.clone());
    let basic = kaggle("Basic dXNlcjprZXk=", storage.url.clone()); // user:key
    let setup = Setup::new(&bearer.url);
    let run = |server: &Server, variables: &[(&str, &str)]| {
        let set = format!("fetch.kaggle_url={}/api/v1", server.url);
        let mut command =
            setup.command(&["kaggle", "--task", "2", "--tasks", "4", "--set", &set, "--verify"]);
        let _ = fs::remove_file(setup.data("train.csv"));
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let none = run(&bearer, &[]);
    ends(&none, 2, &["KAGGLE_API_TOKEN", "kaggle.json"]);
    assert_eq!(bearer.requests(), 0);
    fs::create_dir(setup.folder.path().join(".kaggle")).unwrap();
    let file = |name: &str, text: &str| {
        fs::write(setup.folder.path().join(".kaggle").join(name), text).unwrap()
    };
    let user = [("KAGGLE_USERNAME", "user"), ("KAGGLE_KEY", "key")];
    file("kaggle.json", r#"{"username":"user","key":"key"}"#);
    ends(&run(&basic, &[]), 0, &[]);
    file("kaggle.json", r#"{"username":"user"}"#);
    ends(&run(&basic, &[]), 2, &["kaggle.json: "]);
    ends(&run(&basic, &user), 0, &[]);
    file("access_token", "first\n");
    ends(&run(&bearer, &user), 0, &[]);
    ends(&run(&bearer, &[("KAGGLE_API_TOKEN", "first")]), 0, &[]);
    // The variable takes precedence over the file.
    ends(
        &run(&bearer, &[("KAGGLE_API_TOKEN", "other")]),
        2,
        &["401", "KAGGLE_API_TOKEN", "https://www.kaggle.com/settings"],
    );
    let rules =
        "https://www.kaggle.com/competitions/human-protein-atlas-image-classification/rules";
    bearer.take_log();
    ends(&run(&bearer, &[("KAGGLE_API_TOKEN", "norules")]), 2, &["403", rules]);
    assert_eq!(bearer.requests(), 1, "no second attempt");
    let out = run(&bearer, &[("KAGGLE_API_TOKEN", "a\nb")]);
    ends(&out, 2, &["KAGGLE_API_TOKEN"]);
    // To another machine credentials go over https only.
    let set = "fetch.kaggle_url=http://kaggle.example/api/v1";
    ends(
        &setup
            .command(&["kaggle", "--set", set])
            .env("KAGGLE_API_TOKEN", "first")
            .output()
            .unwrap(),
        2,
        &["fetch.kaggle_url = http://kaggle.example", "https"],
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
    assert_eq!(fs::read(setup.data("train.csv")).unwrap(), competition()["train.csv"]);
    assert!(!setup.data("train.csv.zip").exists());
    // A file that Kaggle lacks is bad data.
    ends(&run(&Server::start(|_| Answer::status(404)), &user), 65, &["train.csv", "404"]);
    ends(
        &run(&Server::start(|r| Answer::file(r, "text/csv", "e", b"<html>")), &user),
        65,
        &["train.csv", "CSV", "Id"],
    );
}
