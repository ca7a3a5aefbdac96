//! Downloads: Kaggle's zips and the Atlas's XML.

use std::fs;

use atlas::{
    base::{progress::Progress, stop_request::Stop},
    fetch::{Ledger, UnpackTarget, read_atlas, unpack},
};

use crate::scratch;

/// Nothing may be written beside the folder.
pub fn zip(bytes: &[u8]) {
    let _ = fs::remove_dir_all(scratch::path("zip"));
    let data = scratch::folder("zip/data");
    let zip = scratch::file("zip/train.zip", bytes);
    let ledger = Ledger::open(&data, 0).expect("an empty folder");
    let _ = unpack(&ledger, &zip, UnpackTarget::Folder("train"), "url", false, &Stop::new());
    let names = |folder| {
        let entries = fs::read_dir(scratch::path(folder)).expect("a folder");
        let mut names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("zip"), ["data", "train.zip"], "unpacked to another place");
    let beside = names("zip/data");
    assert!(beside.iter().all(|n| n == "fetched-00000.csv" || n == "train"), "{beside:?}");
}

pub const XML: &[&str] = &[
    "<data>",
    "</data>",
    "<location>Nucleoli</location>",
    "<image imageType=\"sampleImage\">",
    "<imageUrl>",
    "<![CDATA[",
    "<!--",
    "&#x110000;",
    "&lt;",
    "<!DOCTYPE a [<!ENTITY b \"c\">]>",
    "<?xml",
];

pub fn xml(bytes: &[u8]) {
    let path = scratch::file("proteinatlas.xml", bytes);
    let _ = read_atlas(&path, &Progress::new("", "bytes", 0), &Stop::new());
}
