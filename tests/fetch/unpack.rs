//! Zips that must not be trusted.

use std::{collections::BTreeMap, fs, path::Path};

use atlas::{
    base::stop_request::Stop,
    fetch::{Ledger, UnpackTarget, unpack},
};

use crate::{
    kaggle::{kaggle, storage},
    setup::{Entry, Setup, ends, png, zip},
};

/// Unpacks a zip without a server.
fn unpacked(zip: &[u8]) -> (Setup, atlas::base::Result<usize>) {
    let setup = Setup::new("http://localhost");
    let path = setup.data("train.zip");
    fs::write(&path, zip).unwrap();
    let ledger = Ledger::open(&setup.data(""), 0).unwrap();
    let result = unpack(&ledger, &path, UnpackTarget::Folder("train"), "url", false, &Stop::new());
    (setup, result)
}

#[test]
fn malicious_zips_write_nothing() {
    let good = || Entry::new("good_red.png", png(1));
    let evil = |name: &str| Entry::new(name, b"evil".to_vec());
    let link = Entry { mode: 0o120_777, ..Entry::new("link_red.png", b"/etc/passwd".to_vec()) };
    let device = Entry { mode: 0o020_666, ..evil("device_red.png") };
    let bomb = Entry { declared: 1000, ..Entry::new("bomb_red.png", vec![0; 5_000_000]) };
    let honest = Entry::new("bomb_red.png", vec![0; 30_000_000]);
    let claims = Entry { declared: 1 << 30, ..evil("claims_red.png") };
    let short = Entry { declared: 5000, ..evil("short_red.png") };
    let cases = [
        (evil("../evil_red.png"), "evil_red.png` is no plain file name", false),
        (evil("/tmp/evil_red.png"), "evil_red.png` is no plain file name", false),
        (evil("train/../../evil_red.png"), "evil_red.png` is no plain file name", false),
        (evil("a/evil_red.png"), "evil_red.png` is no plain file name", false),
        (evil("..\\evil_red.png"), "evil_red.png` is no plain file name", false),
        (evil("train/.."), "train/..` is no plain file name", false),
        (link, "link_red.png` is a link or a device", false),
        (device, "device_red.png` is a link or a device", false),
        (honest, "claims to hold 300", false),
        (claims, "claims 1073741824 bytes", false),
        (bomb, "bomb_red.png", true),
        (short, "5000", true),
    ];
    for (entry, part, unpacked_before) in cases {
        let name = entry.name.clone();
        let (setup, error) = unpacked(&zip(&[good(), entry]));
        let error = error.unwrap_err();
        assert!(
            error.to_string().contains(part) && error.to_string().contains("train.zip"),
            "{name}: {error}"
        );
        assert_eq!(error.exit_code(), 65);
        let train: Vec<String> = setup.list("train").into_keys().collect();
        // If an entry fails during unpacking, the complete files before it stay.
        assert_eq!(train, if unpacked_before { vec!["good_red.png"] } else { vec![] }, "{name}");
        for outside in [
            setup.data("evil_red.png"),
            setup.folder.path().join("evil_red.png"),
            Path::new("/tmp/evil_red.png").into(),
        ] {
            assert!(!outside.exists(), "{name}");
        }
    }
    // A wrong CRC.
    let mut broken = zip(&[Entry::new("a_red.png", png(1))]);
    let at = broken.windows(4).position(|w| w == b"PK\x01\x02").unwrap() + 16;
    broken[at] ^= 1;
    let storage = storage(BTreeMap::from([("train.zip", broken)]), false);
    let kaggle = kaggle("Bearer t", storage.url.clone());
    let setup = Setup::new(&kaggle.url);
    let out = setup
        .command(&["kaggle", "--task", "0", "--tasks", "4"])
        .env("KAGGLE_API_TOKEN", "t")
        .output()
        .unwrap();
    ends(&out, 65, &["a_red.png"]);
    assert!(setup.list("train").is_empty() && !setup.data("train.zip").exists());
}
