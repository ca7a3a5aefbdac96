//! Real images beside the clone: what `plan` and `preprocess` make of them.

use std::{fs, os::unix::fs::symlink, path::Path};

use atlas::data::manifest::Part;

use super::{
    needs,
    synthetic::{CHANNELS, Set, succeeds},
};

#[test]
#[cfg_attr(not(has_shared_data), ignore = "needs ../shared/data")]
fn real_samples_are_planned_and_preprocessed() {
    let data = needs::shared_data();
    let (set, external) = real(&data);
    let external = format!("data.external={}", external.display());
    let more = [
        "--set",
        &external,
        "--set",
        "preprocess.size=512",
        "--set",
        "preprocess.shard_samples=16",
    ];
    let out = set.run("plan", &[&["--json"][..], &more].concat());
    succeeds(&out);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&json["train"], &json["external"], &json["test"]),
        (&31.into(), &7.into(), &8.into()),
        "24 + 6 + the JPEG named .png"
    );
    let warnings = json["warnings"].to_string();
    for part in [
        "10814_51_A1_1 (green, yellow)",
        "11311_88_G2_1 (red, green, yellow)",
        "gray16_383_D2_1 (red, green, yellow)",
    ] {
        assert!(warnings.contains(part), "{warnings}");
    }
    assert_eq!(set.preprocess(&more)["samples"], 39);
    let store = set.store_of(Part::Train, 512).unwrap();
    let mut image = vec![0; 512 * 512 * 4];
    store.read(store.find("10580_1610_C1_1").unwrap(), &mut image).unwrap();
    let mean = |c: usize| {
        image.iter().skip(c).step_by(4).map(|&v| f64::from(v)).sum::<f64>() / (512.0 * 512.0)
    };
    // Means of the right planes: read as gray, they would be 5.50, 3.06, 1.71 and 7.80.
    for (c, want) in [16.24, 4.61, 13.96, (8.44 + 8.80) / 2.0].into_iter().enumerate() {
        assert!((mean(c) - want).abs() < 0.35, "{}: {} instead of {want}", CHANNELS[c], mean(c));
    }
    assert!(store.find("jpeg_bytes_named_png_57_F11_1").is_some());
}

/// Links 24 real samples as train, 8 as test, and all external and awkward ones.
fn real(data: &Path) -> (Set, std::path::PathBuf) {
    let set = Set::new(0, 0, 16);
    let table = fs::read_to_string(data.join("kaggle/train.csv")).unwrap();
    let mut ids: Vec<String> = fs::read_dir(data.join("kaggle/train"))
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix("_red.png").map(String::from))
        .collect();
    ids.sort();
    let (mut rows, mut submission) = ("Id,Target\n".to_string(), "Id,Predicted\n".to_string());
    for (i, id) in ids.iter().enumerate() {
        let part = if i < 24 { "train" } else { "test" };
        match part {
            "train" => {
                rows +=
                    &format!("{}\n", table.lines().find(|l| l.starts_with(id.as_str())).unwrap())
            }
            _ => submission += &format!("{id},0\n"),
        }
        for c in CHANNELS {
            let file = fs::canonicalize(data.join(format!("kaggle/train/{id}_{c}.png"))).unwrap();
            symlink(file, set.path(&format!("{part}/{id}_{c}.png"))).unwrap();
        }
    }
    fs::write(set.path("train.csv"), rows).unwrap();
    fs::write(set.path("sample_submission.csv"), submission).unwrap();
    let external = set.path("external");
    fs::create_dir_all(external.join("images")).unwrap();
    for folder in ["hpav18/images", "awkward"] {
        for entry in fs::read_dir(fs::canonicalize(data.join(folder)).unwrap()).unwrap() {
            let entry = entry.unwrap();
            symlink(entry.path(), external.join("images").join(entry.file_name())).unwrap();
        }
    }
    let labels = fs::read_to_string(data.join("hpav18/HPAv18RBGY_wodpl.csv")).unwrap();
    let labels =
        labels.trim_end().to_string() + "\njpeg_bytes_named_png_57_F11_1,3\ngray16_383_D2_1,2\n";
    fs::write(external.join("labels.csv"), labels).unwrap();
    (set, external)
}

#[test]
#[ignore = "needs ATLAS_PYTHON with h5py and OpenCV, ../shared/data; run by make test-all"]
fn h5py_finds_the_pixels_that_opencv_decodes() {
    let (python, data) = (needs::python(), needs::shared_data());
    let (set, external) = real(&data);
    let external = format!("data.external={}", external.display());
    // At 512 pixels the PNGs are stored as they are; at 2048 the external JPEGs are.
    for size in ["512", "2048"] {
        let size = format!("preprocess.size={size}");
        let more = ["--set", &external, "--set", &size, "--set", "preprocess.shard_samples=16"];
        set.plan(&more);
        set.preprocess(&more);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data_in/compare.py");
        let out = std::process::Command::new(&python)
            .arg(script)
            .arg(set.folder.path())
            .output()
            .unwrap();
        succeeds(&out);
        assert!(
            String::from_utf8_lossy(&out.stdout).contains("images equal"),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
    }
}
