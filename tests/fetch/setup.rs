//! Images, folders and zips for the tests of `atlas fetch`.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sha2::{Digest, Sha256};

use crate::server::{Answer, Request};

pub const CHANNELS: [&str; 4] = ["red", "green", "blue", "yellow"];

/// Files by their path on the server.
pub type Images = BTreeMap<String, Vec<u8>>;

pub const JPEG: &str = "image/jpeg";

/// Serves `images` in the Atlas's layout; all else is 404.
pub fn atlas_of(images: Images) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |r| match images.get(&r.path) {
        Some(bytes) => Answer::file(r, JPEG, &r.path, bytes),
        None => Answer::status(404),
    }
}

/// A coloured JPEG that differs by `seed`, some 10 kB.
pub fn jpeg(seed: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..96 * 96 * 3usize)
        .map(|i| ((i * (7 + seed % 50)) ^ (i / 96 * 31) ^ seed) as u8)
        .collect();
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode(&pixels, 96, 96, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

pub fn png(seed: usize) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let pixels: Vec<u8> = (0..32 * 32usize).map(|i| ((i * 3) ^ seed) as u8).collect();
    image::GrayImage::from_raw(32, 32, pixels)
        .unwrap()
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// Ids `1_1_A1_i` and their images by path on the server.
pub fn samples(n: usize) -> (Vec<String>, Images) {
    let ids: Vec<String> = (0..n).map(|i| format!("1_1_A1_{i}")).collect();
    let mut images = BTreeMap::new();
    for (i, id) in ids.iter().enumerate() {
        for (c, channel) in CHANNELS.iter().enumerate() {
            images.insert(path(&format!("{id}_{channel}.jpg")), jpeg(4 * i + c));
        }
    }
    (ids, images)
}

/// Where the server has a file of images/.
pub fn path(name: &str) -> String {
    format!("/{}", name.replacen('_', "/", 1))
}

/// The real samples, if they are there; some lack channels.
pub fn real() -> Option<(Vec<String>, Images)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/hpav18/images");
    let names: Vec<String> = fs::read_dir(&folder)
        .ok()?
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let ids: Vec<String> =
        names.iter().filter_map(|n| n.strip_suffix("_blue.jpg")).map(String::from).collect();
    Some((ids, names.iter().map(|n| (path(n), fs::read(folder.join(n)).unwrap())).collect()))
}

/// A data folder, and the program's options for it.
pub struct Setup {
    pub folder: tempfile::TempDir,
    pub sets: Vec<String>,
}

impl Setup {
    /// For a server at `url`; with short waits, so that the tests are fast.
    pub fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let sets = [
            format!("data.external={}", data.display()),
            format!("data.kaggle={}", data.display()),
            format!("paths.work={}", folder.path().join("work").display()),
            format!("fetch.images_url={url}"),
            format!("fetch.kaggle_url={url}/api/v1"),
        ];
        let keys = "fetch.requests_per_second=1000 fetch.backoff_seconds=0.02 fetch.attempts=4 \
                    fetch.connections=3 fetch.read_timeout_seconds=0.6 \
                    fetch.connect_timeout_seconds=2 fetch.tasks=2";
        Self {
            folder,
            sets: sets.into_iter().chain(keys.split_whitespace().map(String::from)).collect(),
        }
    }

    pub fn set(mut self, key: &str) -> Self {
        self.sets.push(key.into());
        self
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    pub fn table(&self, ids: &[String]) {
        let rows: String = ids.iter().map(|id| format!("{id},3 25\n")).collect();
        fs::write(self.data("ids.csv"), format!("Id,Target\n{rows}")).unwrap();
    }

    /// `atlas fetch SOURCE ...`, without credentials, proxies or an array.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("atlas"));
        command.args(["fetch", args[0]]);
        for set in &self.sets {
            command.args(["--set", set]);
        }
        command.args(&args[1..]);
        for name in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "KAGGLE_API_TOKEN",
            "KAGGLE_USERNAME",
            "KAGGLE_KEY",
            "KAGGLE_CONFIG_DIR",
            "XDG_CONFIG_HOME",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.env_remove("SLURM_ARRAY_TASK_ID").env("HOME", self.folder.path());
        command
    }

    pub fn fetch(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// As [`fetch`](Self::fetch), must succeed; returns the JSON summary.
    pub fn fetched(&self, args: &[&str]) -> serde_json::Value {
        let out = self.fetch(&[args, &["--json"]].concat());
        ends(&out, 0, &[]);
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// Names and content of images/, by path on the server.
    pub fn images(&self) -> Images {
        self.list("images").into_iter().map(|(name, bytes)| (path(&name), bytes)).collect()
    }

    pub fn list(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.data(folder)) else { return BTreeMap::new() };
        let files = entries.map(|e| e.unwrap()).filter(|e| e.path().is_file());
        files.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }

    /// Rows of a CSV of the data folder.
    pub fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let mut reader = csv::Reader::from_path(self.data(name)).unwrap();
        let mut rows: Vec<Vec<String>> =
            reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
        rows.sort();
        rows
    }

    /// Every file of the ledger is there and has its hash, and every file of `folder` is in it.
    pub fn ledger_is_true(&self, name: &str, folder: &str) {
        let rows = self.rows(name);
        for row in rows.iter().filter(|r| !r[2].is_empty()) {
            let bytes = fs::read(self.data(&row[0])).unwrap();
            let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(
                (bytes.len().to_string(), hash),
                (row[1].clone(), row[2].clone()),
                "{}",
                row[0]
            );
        }
        for file in self.list(folder).into_keys() {
            assert!(rows.iter().any(|r| r[0] == format!("{folder}/{file}")), "{file}");
        }
    }

    pub fn ledger_is_true_of_kaggle(&self) {
        self.ledger_is_true_where("fetched-00000.csv", "train");
        self.ledger_is_true_where("fetched-00001.csv", "test");
    }

    /// The zips themselves, which have rows, are removed.
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

/// Asserts the exit code, and that standard error holds all of `parts`.
pub fn ends(out: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{}{text}", String::from_utf8_lossy(&out.stdout));
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// An entry of a zip, valid or not.
pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
    /// The uncompressed size that the zip declares.
    pub declared: u32,
    pub mode: u32,
}

impl Entry {
    pub fn new(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { name: name.into(), declared: bytes.len() as u32, bytes, mode: 0o100_644 }
    }
}

/// A zip with these entries, deflated; written here since no library writes invalid ones.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(&entry.bytes).unwrap();
        let packed = deflate.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&entry.bytes);
        let mut common = Vec::new();
        for half in [20u16, 0, 8, 0, 0x21] {
            common.extend(half.to_le_bytes()); // version, flags, deflate, time, date
        }
        for word in [crc.sum(), packed.len() as u32, entry.declared] {
            common.extend(word.to_le_bytes());
        }
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let offset = zip.len() as u32;
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(entry.name.as_bytes());
        zip.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x03"); // made on Unix
        directory.extend(&common);
        directory.extend([0; 6]); // no comment, disk, attributes
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let (start, n) = (zip.len() as u32, entries.len() as u16);
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend(n.to_le_bytes());
    zip.extend(n.to_le_bytes());
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}
