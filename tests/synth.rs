//! The synthetic set as a whole: layout, determinism, labels, planted copies, and images that carry
//! their labels.

use std::{collections::HashMap, fs, path::Path};

use assert_cmd::Command;
use atlas::{
    base::rng::{Use, stream},
    data::labels::{CLASSES, Labels, read_table},
    synth::{
        Options, Outcome,
        draw::Noise,
        make, patterns,
        plan::{Place, plan},
        sample::paint,
        scene::{Scene, Style},
        stains::microtubules,
    },
};

fn options() -> Options {
    Options {
        samples: 60,
        test: 20,
        external: 14,
        size: 64,
        seed: 3,
        duplicates: 0.1,
        min_per_class: 0,
    }
}

/// Every file below a folder with its content.
fn files(folder: &Path) -> HashMap<String, Vec<u8>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|(n, b)| (format!("{name}/{n}"), b)));
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn the_layout_is_complete_reproducible_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert!(matches!(make(&a, &options()).unwrap(), Outcome::Made { duplicates: 9 }));
    make(&b, &options()).unwrap();
    let made = files(&a);
    assert_eq!(made, files(&b), "the same options make the same bytes");
    for (table, rows, folder, end) in [
        ("train.csv", 60, "train", "png"),
        ("truth.csv", 20, "test", "png"),
        ("sample_submission.csv", 20, "test", "png"),
        ("external/HPAv18_made.csv", 14, "external/images", "jpg"),
    ] {
        let (read, problems) = read_table(&a.join(table)).unwrap();
        assert_eq!((read.len(), problems.len()), (rows, 0), "{table}");
        for (id, labels) in &read {
            assert!(!labels.is_empty());
            for colour in ["red", "green", "blue", "yellow"] {
                assert!(
                    made.contains_key(&format!("{folder}/{id}_{colour}.{end}")),
                    "{table}: {id} {colour}"
                );
            }
        }
    }
    assert_eq!(made.len(), 4 * (60 + 20 + 14) + 7);

    // Finished: nothing is touched, not even a file that somebody removed.
    fs::remove_file(a.join("contact_sheet.png")).unwrap();
    assert!(matches!(make(&a, &options()).unwrap(), Outcome::Present));
    assert!(!a.join("contact_sheet.png").exists());
    // Other options: refused.
    let other = Options { seed: 4, ..options() };
    let refused = make(&a, &other).err().unwrap();
    assert!(
        refused.exit_code() == 2 && refused.to_string().contains(&a.display().to_string()),
        "{refused}"
    );
    // Interrupted: made again.
    fs::rename(a.join("synth.json"), a.join("synth.started.json")).unwrap();
    assert!(matches!(make(&a, &options()).unwrap(), Outcome::Made { .. }));
    assert_eq!(files(&a), made);
}

#[test]
fn external_files_carry_signal_in_their_own_colour_only() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &Options { samples: 4, test: 0, external: 4, duplicates: 0.0, ..options() })
        .unwrap();
    let (rows, _) = read_table(&dir.path().join("external/HPAv18_made.csv")).unwrap();
    for (colour, own) in [
        ("red", [true, false, false]),
        ("green", [false, true, false]),
        ("blue", [false, false, true]),
        ("yellow", [true, true, false]),
    ] {
        let path = dir.path().join(format!("external/images/{}_{colour}.jpg", rows[0].0));
        let image = image::open(path).unwrap().into_rgb8();
        for (channel, own) in own.into_iter().enumerate() {
            let mean = image.pixels().map(|p| f64::from(p.0[channel])).sum::<f64>() / (64.0 * 64.0);
            assert_eq!(mean > 3.0, own, "{colour}, channel {channel}: mean {mean}");
        }
    }
}

#[test]
fn copies_are_pairs_of_near_duplicates() {
    let options = Options { samples: 100, test: 40, external: 40, size: 96, ..options() };
    let made = plan(&options).unwrap();
    let copies: Vec<usize> = (0..made.len()).filter(|&i| made[i].copy_of.is_some()).collect();
    for (place, count) in [(Place::Train, 10), (Place::Test, 4), (Place::External, 4)] {
        assert_eq!(copies.iter().filter(|&&i| made[i].place == place).count(), count);
    }
    let mut originals: Vec<usize> = copies.iter().map(|&i| made[i].copy_of.unwrap()).collect();
    assert!(originals.iter().all(|&o| made[o].place == Place::Train && made[o].copy_of.is_none()));
    originals.sort_unstable();
    originals.dedup();
    assert_eq!(originals.len(), copies.len(), "every group is a pair");

    let planes = |i: usize| atlas::synth::render(&options, &made, i).unwrap().planes;
    let correlation = |a: &[u8], b: &[u8]| {
        let mean = |v: &[u8]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
        let (ma, mb) = (mean(a), mean(b));
        let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
            (ab, aa, bb) = (ab + x * y, aa + x * x, bb + y * y);
        }
        ab / (aa * bb).sqrt()
    };
    for &copy in &copies {
        let (a, b) = (planes(copy), planes(made[copy].copy_of.unwrap()));
        assert_ne!(a, b);
        assert!(
            correlation(&a[2], &b[2]) > 0.93,
            "{}: {}",
            made[copy].id,
            correlation(&a[2], &b[2])
        );
    }
    // Fields of one well share labels, but are images of their own.
    let siblings = (0..made.len() - 1)
        .filter(|&i| made[i].well == made[i + 1].well && made[i].place == Place::External);
    let mut pairs = 0;
    for i in siblings {
        assert_eq!(made[i].labels, made[i + 1].labels);
        assert!(correlation(&planes(i)[2], &planes(i + 1)[2]) < 0.7);
        pairs += 1;
    }
    assert!(pairs > 15, "{pairs} sibling pairs");
}

#[test]
fn rare_classes_reach_the_minimum_and_totals_stay() {
    let options = Options {
        samples: 1200,
        test: 200,
        external: 0,
        min_per_class: 20,
        duplicates: 0.03,
        ..options()
    };
    let made = plan(&options).unwrap();
    for (place, total, floor) in [(Place::Train, 1200, 20), (Place::Test, 200, 4)] {
        let of: Vec<Labels> = made.iter().filter(|m| m.place == place).map(|m| m.labels).collect();
        assert_eq!(of.len(), total);
        for class in 0..CLASSES {
            let count = of.iter().filter(|l| l.contains(class)).count();
            assert!(count >= floor, "class {class}: {count} in {place:?}");
        }
        let common = of.iter().filter(|l| l.contains(0)).count() as f64 / total as f64;
        assert!((0.3..0.5).contains(&common), "class 0 stays common: {common}");
    }
}

#[test]
fn real_frequencies_without_a_floor() {
    let made =
        plan(&Options { samples: 20_000, test: 0, external: 0, duplicates: 0.0, ..options() })
            .unwrap();
    // Counts of the competition's 31,072 training samples.
    for (classes, ought) in [
        (vec![0], 12_885),
        (vec![25], 8228),
        (vec![0, 25], 3631),
        (vec![0, 21], 1343),
        (vec![9, 10], 28),
        (vec![27], 11),
    ] {
        let is =
            made.iter().filter(|m| classes.iter().all(|&c| m.labels.contains(c))).count() as f64;
        let expected = f64::from(ought) * 20_000.0 / 31_072.0;
        assert!(
            (is - expected).abs() < 4.0 * expected.sqrt() + 1.0,
            "{classes:?}: {is} instead of {expected:.0}"
        );
    }
}

/// Every class draws something, in the part of the cell that its name says, and unlike every other
/// class.
#[test]
fn every_class_has_its_place_in_the_cell_and_its_own_pattern() {
    // so that the scene has dividing and touching cells
    let all = Labels::from_classes([16, 17, 22]).unwrap();
    for seed in 0..3 {
        let rng = &mut stream(Use::Synth, 9, 2, seed);
        let style = Style::new(rng);
        let scene = Scene::new(192, all, &style, rng);
        let noise = Noise::new(rng);
        let red = microtubules(&scene, &noise, rng);
        let layers: Vec<Vec<f32>> = (0..CLASSES)
            .map(|class| patterns::draw(class, &scene, &noise, &red, rng).data)
            .collect();
        for (class, layer) in layers.iter().enumerate() {
            let total: f32 = layer.iter().sum();
            let bright = layer.iter().filter(|v| **v > 0.4).count();
            // Cytosol may fill the cytoplasm, which in a sheet of cells is most of the image, and
            // nothing else.
            let cytoplasm = scene.pixels.iter().filter(|p| p.cell != u16::MAX && p.n > 1.0).count();
            let room = if class == 25 { cytoplasm + 1 } else { layer.len() * 7 / 10 };
            assert!(bright > 25 && bright < room, "class {class}: {bright} bright pixels");
            let nucleus: f32 =
                layer.iter().zip(&scene.pixels).filter(|(_, p)| p.n < 1.08).map(|(v, _)| v).sum();
            let inside = nucleus / total;
            match class {
                0..=5 => assert!(inside > 0.75, "class {class}: {inside} in the nucleus"),
                6..=11 | 13..=15 | 18..=27 => {
                    assert!(inside < 0.35, "class {class}: {inside} in the nucleus")
                }
                _ => {}
            }
            for (other, b) in layers.iter().enumerate().take(class) {
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
                let alike = dot(layer, b) / (dot(layer, layer) * dot(b, b)).sqrt();
                assert!(alike < 0.9, "classes {class} and {other}: cosine {alike}");
            }
        }
    }
}

/// The label reaches the image: without its pattern, the same scene's green is another.
#[test]
fn labels_reach_the_green_channel() {
    let paint = |class: usize| {
        let labels = Labels::from_classes([class]).unwrap();
        paint(
            96,
            labels,
            &Style::new(&mut stream(Use::Synth, 9, 1, 0)),
            &mut stream(Use::Synth, 9, 2, 0),
        )
        .planes
    };
    let (nuclear, rim) = (paint(0), paint(21));
    let mean = |green: &[u8], inside: &dyn Fn(u8) -> bool| {
        let chosen: Vec<f64> = green
            .iter()
            .zip(&nuclear[2])
            .filter(|(_, b)| inside(**b))
            .map(|(g, _)| f64::from(*g))
            .collect();
        chosen.iter().sum::<f64>() / chosen.len() as f64
    };
    let ratio = |green: &[u8]| mean(green, &|b| b > 40) / mean(green, &|b| b < 20);
    assert!(ratio(&nuclear[1]) > 4.0 * ratio(&rim[1]), "{} {}", ratio(&nuclear[1]), ratio(&rim[1]));
}

#[test]
fn wrong_options_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let out = dir.path().to_str().unwrap();
    for (args, option) in [
        (vec!["--samples", "0", "--test", "5"], "--samples"),
        (vec!["--samples", "5", "--test", "5", "--size", "8"], "--size"),
        (vec!["--samples", "5", "--test", "5", "--duplicates", "0.9"], "--duplicates"),
        (vec!["--samples", "50", "--test", "5", "--min-per-class", "40"], "--min-per-class"),
        (vec!["--samples", "5", "--test", "5"], "--out"), // the folder holds other files
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_atlas"))
            .args(["synth", "--out", out])
            .args(&args)
            .output()
            .unwrap();
        let text = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(option) && text.lines().count() == 1, "{args:?}: {text}");
    }
    assert_eq!(files(dir.path()).len(), 1, "nothing was written");
}
