//! `atlas dedup` from outside: synthetic fields with planted copies, real images, bare hashes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use assert_cmd::Command;
use atlas::{
    base::rng::{self, Rng, Use},
    data::{
        image::{Plane, read_channel, resize},
        labels::Labels,
        manifest::{Manifest, Part, Pool, Sample, Source},
        phash::phash,
        shard::{self, Entry, Writer},
    },
};
use rand::RngExt;

#[path = "common/needs.rs"]
mod needs;

fn atlas(args: &[&str]) -> (i32, String, String) {
    let out = Command::cargo_bin("atlas").unwrap().args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// A sample with its four planes.
struct SyntheticSample {
    id: String,
    part: Part,
    labels: &'static str,
    planes: [Plane; 4],
}

/// Writes the manifest and one shard per part, as `plan` and `preprocess` would.
fn write_work(work: &Path, samples: &[SyntheticSample], size: usize) {
    let source = |id: &str| if id.contains('_') { Source::External } else { Source::Official };
    let listed = |part: Part| samples.iter().filter(move |s| s.part == part);
    let all = listed(Part::Train).chain(listed(Part::Test)).map(|s| Sample {
        id: s.id.clone(),
        source: source(&s.id),
        part: s.part,
        labels: Labels::parse(s.labels).unwrap(),
        files: Pool::default().files(&s.id, ["made.png"; 4]),
        shard: 0,
    });
    let manifest = Manifest { samples: all.collect() };
    manifest.write(work).unwrap();
    for part in [Part::Train, Part::Test] {
        let path = shard::path(work, part, 0);
        if listed(part).count() == 0 {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = Writer::create(&path, part, listed(part).count(), size).unwrap();
        for s in listed(part) {
            let hashes = std::array::from_fn(|c| phash(&s.planes[c]));
            let small: Vec<Plane> = s.planes.iter().map(|p| resize(p, size)).collect();
            let pixels =
                (0..size * size).flat_map(|i| small.iter().map(move |p| p.pixels[i])).collect();
            writer
                .push(Entry::new(s.id.clone(), Labels::parse(s.labels).unwrap(), hashes, pixels))
                .unwrap();
        }
        writer.finish(manifest.hash()).unwrap();
    }
}

/// A field of cells: in each a wide and some narrow spots of light per channel, on a dark ground.
fn field(rng: &mut Rng, side: usize) -> [Plane; 4] {
    let cells: Vec<[f32; 3]> = (0..12)
        .map(|_| [rng.random::<f32>(), rng.random::<f32>(), 0.5 + rng.random::<f32>()])
        .collect();
    std::array::from_fn(|channel| {
        let mut light = vec![4.0f32; side * side];
        for cell in &cells {
            for spot in 0..5 {
                let width =
                    side as f32 * if spot == 0 { 0.06 } else { 0.015 + 0.01 * channel as f32 };
                let mut offset = || 0.12 * (rng.random::<f32>() - 0.5);
                let centre = [cell[0], cell[1]].map(|c| c * side as f32);
                let centre = [centre[0] + offset() * side as f32, centre[1]];
                let reach = |c: f32| {
                    (c - 3.0 * width).max(0.0) as usize
                        ..((c + 3.0 * width).max(0.0) as usize).min(side)
                };
                for y in reach(centre[0]) {
                    for x in reach(centre[1]) {
                        let d = (y as f32 - centre[0]).powi(2) + (x as f32 - centre[1]).powi(2);
                        light[y * side + x] += 60.0 * cell[2] * (-d / (width * width)).exp();
                    }
                }
            }
        }
        Plane {
            width: side,
            height: side,
            pixels: light.iter().map(|l| l.min(255.0) as u8).collect(),
        }
    })
}

/// A near-duplicate: shifted by up to 2 pixels at 512, up to a fifth brighter or darker, noise of
/// sigma 2, JPEG 85 to 95.
fn copy_of(planes: &[Plane; 4], rng: &mut Rng) -> [Plane; 4] {
    let side = planes[0].width;
    let most = (2 * side / 512) as i64;
    let shift: [i64; 2] = std::array::from_fn(|_| rng.random_range(-most..=most));
    let gain = 0.8 + 0.4 * rng.random::<f32>();
    let quality = rng.random_range(85..=95);
    std::array::from_fn(|c| {
        let at = |y: i64, x: i64| {
            planes[c].pixels
                [y.clamp(0, side as i64 - 1) as usize * side + x.clamp(0, side as i64 - 1) as usize]
        };
        let noisy = (0..side * side).map(|i| {
            let value =
                f32::from(at((i / side) as i64 + shift[0], (i % side) as i64 + shift[1])) * gain;
            let noise: f32 = (0..12).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * 2.0;
            (value + noise).round().clamp(0.0, 255.0) as u8
        });
        let pixels: Vec<u8> = noisy.collect();
        let mut jpeg = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality);
        image::ImageEncoder::write_image(
            encoder,
            &pixels,
            side as u32,
            side as u32,
            image::ExtendedColorType::L8,
        )
        .unwrap();
        let pixels = image::load_from_memory(&jpeg).unwrap().into_luma8().into_raw();
        Plane { width: side, height: side, pixels }
    })
}

/// Rows of a table of the work folder, without the header.
fn rows(work: &Path, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(work.join(name)).unwrap();
    text.lines().skip(1).map(|l| l.split(',').map(String::from).collect()).collect()
}

fn groups(work: &Path) -> BTreeSet<BTreeSet<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows(work, "duplicates.csv") {
        groups.entry(row[1].clone()).or_default().insert(row[0].clone());
    }
    groups.into_values().collect()
}

#[test]
fn planted_copies_are_found_and_sibling_fields_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let mut rng = rng::stream(Use::Synth, 11, 0, 0);
    let (mut samples, mut planted) = (Vec::new(), BTreeSet::new());
    for i in 0..120 {
        // Three fields per well, which share labels and nothing else.
        samples.push(SyntheticSample {
            id: format!("1{}_{}_A1_{}", i / 30, i / 3, i % 3),
            part: Part::Train,
            labels: "0 25",
            planes: field(&mut rng, 256),
        });
    }
    for i in 0..40 {
        let planes = copy_of(&samples[i * 2].planes, &mut rng);
        let (id, part) = (format!("{i:08}-0000"), if i < 30 { Part::Train } else { Part::Test });
        if part == Part::Train {
            planted.insert(BTreeSet::from([id.clone(), samples[i * 2].id.clone()]));
        }
        samples.push(SyntheticSample {
            id,
            part,
            labels: if i < 5 { "0" } else { "0 25" },
            planes,
        });
    }
    write_work(&work, &samples, 128);
    const SIZE: &str = "preprocess.size=128";
    let set = format!("paths.work={}", work.display());
    let (code, out, err) = atlas(&["dedup", "--set", &set, "--set", SIZE, "--json"]);
    assert_eq!(code, 0, "{err}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(groups(&work), planted);
    assert_eq!(
        (&found["removed"], &found["leaks"], &found["conflicts"]),
        (&30.into(), &10.into(), &5.into()),
        "{found}"
    );
    assert_eq!(found["done_before"], false);
    for row in rows(&work, "duplicates.csv") {
        assert_eq!(row[2] == "1", !row[0].contains('_'), "official before external: {row:?}");
        assert!(row[3].ends_with("-0000"), "{row:?}");
    }
    assert_eq!(rows(&work, "conflicts.csv").len(), 10);
    for row in rows(&work, "leaks.csv") {
        let copied: usize = row[1][..8].parse().unwrap();
        assert_eq!(row[0], samples[copied * 2].id, "{row:?}");
    }

    let before = fs::metadata(work.join("duplicates.csv")).unwrap().modified().unwrap();
    let (_, out, _) = atlas(&["dedup", "--set", &set, "--set", SIZE, "--json"]);
    assert!(out.contains("\"done_before\":true"), "{out}");
    assert_eq!(fs::metadata(work.join("duplicates.csv")).unwrap().modified().unwrap(), before);
    fs::write(work.join("leaks.csv"), "changed by hand\n").unwrap();
    let (_, out, _) = atlas(&["dedup", "--set", &set, "--set", SIZE, "--json"]);
    assert!(out.contains("\"done_before\":false") && rows(&work, "leaks.csv").len() == 10, "{out}");

    // The folds hold what stays, and a well goes together through its removed members too.
    let (code, _, err) = atlas(&["split", "--set", &set, "--set", SIZE, "--set", "split.folds=2"]);
    assert_eq!(code, 0, "{err}");
    let folds = rows(&work, "folds.csv");
    assert_eq!(folds.len(), 120);
    assert!(folds.iter().filter(|r| r[0].contains("-0000")).count() == 30);
    let mut fold_of_well = BTreeMap::new();
    for row in &folds {
        let id = match row[0].split_once("-0000") {
            Some((copy, _)) => &samples[copy.parse::<usize>().unwrap() * 2].id,
            None => &row[0],
        };
        let well = id.rsplit_once('_').unwrap().0.to_string();
        assert_eq!(fold_of_well.entry(well).or_insert(row[2].clone()), &row[2], "{row:?}");
    }
}

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_images_form_no_false_group() {
    let data = needs::shared_data();
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let read = |folder: &str, end: &str| -> Vec<SyntheticSample> {
        let names = fs::read_dir(data.join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        let ids: BTreeSet<String> = names
            .filter_map(|n| n.strip_suffix(&format!("_red.{end}")).map(String::from))
            .collect();
        let file = |id: &str, c: &str| data.join(folder).join(format!("{id}_{c}.{end}"));
        let whole = |id: &String| ["green", "blue", "yellow"].iter().all(|c| file(id, c).exists());
        let planes = |id: &str| {
            std::array::from_fn(|c| {
                read_channel(&file(id, atlas::data::manifest::CHANNELS[c]), c, 8192).unwrap()
            })
        };
        ids.into_iter()
            .filter(whole)
            .map(|id| SyntheticSample { planes: planes(&id), id, part: Part::Train, labels: "0" })
            .collect()
    };
    let mut samples = read("kaggle/train", "png");
    samples.extend(read("hpav18/images", "jpg"));
    assert_eq!(samples.len(), 38);
    let mut rng = rng::stream(Use::Synth, 12, 0, 0);
    let mut planted = BTreeSet::new();
    for i in 0..32 {
        let id = format!("copy{i}");
        planted.insert(BTreeSet::from([id.clone(), samples[i].id.clone()]));
        let planes = copy_of(&samples[i].planes, &mut rng);
        samples.push(SyntheticSample { id, part: Part::Train, labels: "0", planes });
    }
    write_work(&work, &samples, 256);
    let set = format!("paths.work={}", work.display());
    let (code, _, err) = atlas(&["dedup", "--set", &set, "--set", "preprocess.size=256"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(groups(&work), planted);
}

#[test]
fn the_bare_table_gives_groups_and_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (table, out) = (file("h.csv"), file("g.csv"));
    // a - b - c is a chain: a and c are 6 bits apart, and still one group.
    fs::write(&table, "id,red,green,blue,yellow\na,0,0,0,0\nx,ff,0,0,0\nb,7,0,0,ffff\nc,7,7,0,0\n")
        .unwrap();
    let (code, stdout, err) =
        atlas(&["dedup", "--hashes", &table, "--out", &out, "--set", "dedup.radius=3", "--json"]);
    assert_eq!((code, stdout.contains("\"groups\":2")), (0, true), "{err}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "id,group\na,a\nx,x\nb,a\nc,a\n");

    fs::write(&table, "id,red,green,blue,yellow\na,0,0,0\n").unwrap();
    let (code, _, err) = atlas(&["dedup", "--hashes", &table, "--out", &out]);
    assert!(code == 65 && err.contains("line 2"), "{code}: {err}");
    let (code, _, err) = atlas(&["dedup", "--hashes", &file("none.csv"), "--out", &out]);
    assert!(code == 2 && err.contains("--hashes") && err.contains("none.csv"), "{code}: {err}");
    let (code, _, err) = atlas(&["dedup", "--hashes", &table]);
    assert!(code == 2 && err.contains("--out"), "{code}: {err}");
    let (code, _, err) = atlas(&["dedup", "--set", "dedup.radius=65"]);
    assert!(code == 2 && err.contains("dedup.radius") && err.contains("64"), "{code}: {err}");
    let (code, _, err) = atlas(&["dedup", "--set", &format!("paths.work={}", file("none"))]);
    assert!(code == 65 && err.contains("atlas plan"), "{code}: {err}");
}
