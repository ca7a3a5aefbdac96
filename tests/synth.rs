//! A synthetic set as a whole: layout, determinism, labels, planted copies, and images that show
//! their labels.

use std::{collections::HashMap, fs, path::Path};

use assert_cmd::Command;
use atlas::{
    base::rng::{Use, stream},
    data::labels::{CLASSES, Labels, read_table},
    synth::{
        SynthOptions, SynthOutcome,
        cell::CellStyle,
        draw::Noise,
        generate, patterns,
        plan::{Subset, plan},
        sample::paint,
        scene::Scene,
        stains::microtubules,
    },
};

fn options() -> SynthOptions {
    SynthOptions {
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
fn layout_is_complete_repeatable_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert!(matches!(generate(&a, &options()).unwrap(), SynthOutcome::Generated { duplicates: 9 }));
    generate(&b, &options()).unwrap();
    let samples = files(&a);
    assert_eq!(samples, files(&b), "the same options give the same bytes");
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
                    samples.contains_key(&format!("{folder}/{id}_{colour}.{end}")),
                    "{table}: {id} {colour}"
                );
            }
        }
    }
    assert_eq!(samples.len(), 4 * (60 + 20 + 14) + 7);

    // Finished: nothing is changed, not even a removed file is written again.
    fs::remove_file(a.join("contact_sheet.png")).unwrap();
    assert!(matches!(generate(&a, &options()).unwrap(), SynthOutcome::Present));
    assert!(!a.join("contact_sheet.png").exists());
    // Other options: refused.
    let other = SynthOptions { seed: 4, ..options() };
    let refused = generate(&a, &other).err().unwrap();
    assert!(
        refused.exit_code() == 2 && refused.to_string().contains(&a.display().to_string()),
        "{refused}"
    );
    // Interrupted: generated again.
    fs::rename(a.join("synth.json"), a.join("synth.started.json")).unwrap();
    assert!(matches!(generate(&a, &options()).unwrap(), SynthOutcome::Generated { .. }));
    assert_eq!(files(&a), samples);
}

#[test]
fn external_files_have_only_their_own_colour() {
    let dir = tempfile::tempdir().unwrap();
    generate(
        dir.path(),
        &SynthOptions { samples: 4, test: 0, external: 4, duplicates: 0.0, ..options() },
    )
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
    let options = SynthOptions { samples: 100, test: 40, external: 40, size: 96, ..options() };
    let samples = plan(&options).unwrap();
    let copies: Vec<usize> = (0..samples.len()).filter(|&i| samples[i].copy_of.is_some()).collect();
    for (subset, count) in [(Subset::Train, 10), (Subset::Test, 4), (Subset::External, 4)] {
        assert_eq!(copies.iter().filter(|&&i| samples[i].subset == subset).count(), count);
    }
    let mut originals: Vec<usize> = copies.iter().map(|&i| samples[i].copy_of.unwrap()).collect();
    assert!(
        originals
            .iter()
            .all(|&o| samples[o].subset == Subset::Train && samples[o].copy_of.is_none())
    );
    originals.sort_unstable();
    originals.dedup();
    assert_eq!(originals.len(), copies.len(), "every group is a pair");

    let planes = |i: usize| atlas::synth::render(&options, &samples, i).unwrap().planes;
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
        let (a, b) = (planes(copy), planes(samples[copy].copy_of.unwrap()));
        assert_ne!(a, b);
        assert!(
            correlation(&a[2], &b[2]) > 0.93,
            "{}: {}",
            samples[copy].id,
            correlation(&a[2], &b[2])
        );
    }
    // Fields of one well share labels, but are different images.
    let siblings = (0..samples.len() - 1).filter(|&i| {
        samples[i].well == samples[i + 1].well && samples[i].subset == Subset::External
    });
    let mut pairs = 0;
    for i in siblings {
        assert_eq!(samples[i].labels, samples[i + 1].labels);
        assert!(correlation(&planes(i)[2], &planes(i + 1)[2]) < 0.7);
        pairs += 1;
    }
    assert!(pairs > 15, "{pairs} sibling pairs");
}

#[test]
fn rare_classes_are_raised_and_totals_stay() {
    let options = SynthOptions {
        samples: 1200,
        test: 200,
        external: 0,
        min_per_class: 20,
        duplicates: 0.03,
        ..options()
    };
    let samples = plan(&options).unwrap();
    for (subset, total, floor) in [(Subset::Train, 1200, 20), (Subset::Test, 200, 4)] {
        let of: Vec<Labels> =
            samples.iter().filter(|m| m.subset == subset).map(|m| m.labels).collect();
        assert_eq!(of.len(), total);
        for class in 0..CLASSES {
            let count = of.iter().filter(|l| l.contains(class)).count();
            assert!(count >= floor, "class {class}: {count} in {subset:?}");
        }
        let common = of.iter().filter(|l| l.contains(0)).count() as f64 / total as f64;
        assert!((0.3..0.5).contains(&common), "class 0 stays common: {common}");
    }
}

#[test]
fn real_frequencies_without_a_floor() {
    let samples =
        plan(&SynthOptions { samples: 20_000, test: 0, external: 0, duplicates: 0.0, ..options() })
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
            samples.iter().filter(|m| classes.iter().all(|&c| m.labels.contains(c))).count() as f64;
        let expected = f64::from(ought) * 20_000.0 / 31_072.0;
        assert!(
            (is - expected).abs() < 4.0 * expected.sqrt() + 1.0,
            "{classes:?}: {is} instead of {expected:.0}"
        );
    }
}

/// Every class draws something, in the right part of the cell, and unlike every other class.
#[test]
fn every_class_is_at_its_location_and_differs_from_the_others() {
    // These give a scene with dividing and touching cells.
    let all = Labels::from_classes([16, 17, 22]).unwrap();
    for seed in 0..3 {
        let rng = &mut stream(Use::Synth, 9, 2, seed);
        let style = CellStyle::new(rng);
        let scene = Scene::new(192, all, &style, rng);
        let noise = Noise::new(rng);
        let red = microtubules(&scene, &noise, rng);
        let layers: Vec<Vec<f32>> = (0..CLASSES)
            .map(|class| patterns::draw(class, &scene, &noise, &red, rng).data)
            .collect();
        for (class, layer) in layers.iter().enumerate() {
            let total: f32 = layer.iter().sum();
            let bright = layer.iter().filter(|v| **v > 0.4).count();
            // Cytosol may fill the whole cytoplasm, which in a sheet of cells is most of the image,
            // but no more.
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

/// Another label gives the same scene another green image.
#[test]
fn labels_reach_the_green_channel() {
    let paint = |class: usize| {
        let labels = Labels::from_classes([class]).unwrap();
        paint(
            96,
            labels,
            &CellStyle::new(&mut stream(Use::Synth, 9, 1, 0)),
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
