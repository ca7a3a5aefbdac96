//! `atlas hash` against Python's imagehash.
use std::{fs, path::Path, process::Output};

use atlas::data::{
    image::Plane,
    phash::{ahash, composite, phash},
};

fn atlas(args: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("atlas").unwrap().args(args).output().unwrap()
}

#[path = "common/needs.rs"]
mod needs;

/// The image that tests/golden/phash.py describes.
fn synthetic(width: usize, height: usize, c: usize, [a, b, s, top]: [usize; 4]) -> Plane {
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        (((x * a + y * b + c * 50) ^ ((x * y) >> s)) & 255).min(top) as u8
    };
    Plane { width, height, pixels: (0..width * height).map(pixel).collect() }
}

#[test]
fn synthetic_images_hash_as_in_python() {
    let mut reader = csv::Reader::from_path(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/phash.csv"),
    )
    .unwrap();
    let mut rows = 0;
    for row in reader.records().map(Result::unwrap) {
        let n = |i: usize| row[i].parse::<usize>().unwrap();
        let planes: Vec<Plane> =
            (0..n(2)).map(|c| synthetic(n(0), n(1), c, [n(3), n(4), n(5), n(6)])).collect();
        let plane = if planes.len() == 1 {
            planes[0].clone()
        } else {
            composite([&planes[0], &planes[1], &planes[2]]).unwrap()
        };
        assert_eq!(
            format!("{:016x} {:016x}", phash(&plane), ahash(&plane)),
            format!("{} {}", &row[7], &row[8]),
            "{row:?}"
        );
        rows += 1;
    }
    assert!(rows >= 25);
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_images_hash_as_in_python() {
    let data = needs::shared_data();
    let mut golden = csv::Reader::from_path(data.join("golden/phash_per_file.csv")).unwrap();
    let rows: Vec<_> = golden.records().map(Result::unwrap).collect();
    let paths: Vec<String> =
        rows.iter().map(|r| data.join(&r[0]).to_string_lossy().into_owned()).collect();
    let out =
        atlas(&[&["hash"][..], &paths.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text.lines().count(), rows.len());
    let mut png = 0;
    for (line, row) in text.lines().zip(&rows) {
        let hex = |t: &str| u64::from_str_radix(t, 16).unwrap();
        let mut fields = line.splitn(3, ' ');
        let (p, a) = (hex(fields.next().unwrap()), hex(fields.next().unwrap()));
        assert!(fields.next().unwrap().ends_with(&row[0]));
        let (dp, da) = ((p ^ hex(&row[5])).count_ones(), (a ^ hex(&row[6])).count_ones());
        let most = if &row[1] == "PNG" { 0 } else { 2 };
        png += u32::from(&row[1] == "PNG");
        assert!(dp <= most && da <= most, "{line}: {dp} and {da} bits off");
    }
    assert_eq!(png, 128);
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn the_stack_of_a_sample_hashes_as_the_original_did() {
    let data = needs::shared_data();
    let mut golden = csv::Reader::from_path(data.join("golden/phash_rgby.csv")).unwrap();
    let rows: Vec<_> = golden.records().map(Result::unwrap).collect();
    let file = |id: &str, c: &str| {
        data.join(format!("kaggle/train/{id}_{c}.png")).to_string_lossy().into_owned()
    };
    let paths: Vec<String> = rows
        .iter()
        .flat_map(|r| ["red", "green", "blue", "yellow"].map(|c| file(&r[0], c)))
        .collect();
    let out = atlas(
        &[&["hash", "--stack"][..], &paths.iter().map(String::as_str).collect::<Vec<_>>()].concat(),
    );
    let text = String::from_utf8(out.stdout).unwrap();
    let got: Vec<&str> = text.lines().map(|l| &l[..16]).collect();
    assert_eq!(got, rows.iter().map(|r| &r[1]).collect::<Vec<_>>());
    assert_eq!(got.len(), 32);
}

#[test]
fn a_bad_file_is_named_and_the_others_are_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.png");
    let mut encoder = png::Encoder::new(fs::File::create(&good).unwrap(), 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&synthetic(8, 8, 0, [31, 17, 0, 255]).pixels)
        .unwrap();
    let bad = dir.path().join("page.jpg");
    fs::write(&bad, "<html>404</html>").unwrap();
    let out = atlas(&["hash", bad.to_str().unwrap(), good.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&out.stderr).contains("page.jpg: "));
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 1);
    // One over which the decoder panics: no more than a bad file.
    let panics = dir.path().join("palette.png");
    let mut encoder = png::Encoder::new(fs::File::create(&panics).unwrap(), 1, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![1, 2, 3, 4]);
    encoder.write_header().unwrap().write_image_data(&[0]).unwrap();
    let out = atlas(&["hash", panics.to_str().unwrap(), good.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(65) && text.contains("palette.png: "), "{text}");
    assert!(!text.contains("panicked at") && !text.contains("report it"), "{text}");
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 1);
    // A missing one too; where that is all, the command line is to blame.
    for (bad, code, named) in [(None, 2, "FILE /nowhere.png: "), (Some(&bad), 65, "page.jpg: ")] {
        let files = ["/nowhere.png", good.to_str().unwrap()]
            .into_iter()
            .chain(bad.map(|b| b.to_str().unwrap()));
        let out = atlas(&["hash"].into_iter().chain(files).collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(code) && text.lines().last().unwrap().contains(named),
            "{text}"
        );
        assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 1);
    }
    assert_eq!(atlas(&["hash", "--stack", good.to_str().unwrap()]).status.code(), Some(2));
    let json = atlas(&["hash", "--json", good.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["hashes"][0]["phash"].as_str().unwrap().len(), 16);
}
