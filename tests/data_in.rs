//! `atlas plan` and `atlas preprocess` from outside.
use std::{fs, os::unix::fs::symlink};

use atlas::data::{
    manifest::{Manifest, Part},
    shard::quarantined,
};

#[path = "common/needs.rs"]
mod needs;
#[path = "data_in/as_found.rs"]
mod as_found;
#[path = "data_in/odd_data.rs"]
mod odd_data;
#[path = "data_in/real.rs"]
mod real;
#[path = "data_in/synthetic.rs"]
mod synthetic;
use synthetic::{CHANNELS, Set, atlas, fails, succeeds};

#[test]
fn plan_reports_every_fault_in_one_go() {
    let set = Set::new(6, 3, 16);
    fs::remove_file(set.path("train/train-001_blue.png")).unwrap();
    fs::remove_file(set.path("train/train-001_yellow.png")).unwrap();
    fs::remove_file(set.path("test/test-001_red.png")).unwrap();
    fs::copy(set.path("train/train-000_red.png"), set.path("train/train-000_red.tif")).unwrap();
    fs::write(set.path("train/notes.txt"), "").unwrap();
    let table = fs::read_to_string(set.path("train.csv"))
        .unwrap()
        .replace("train-002,2 25", "train-002,2 31");
    let table = table.replace("train-003,3 25\n", "") + "ghost,1\ntrain-004,7\n";
    fs::write(set.path("train.csv"), table).unwrap();

    let out = set.run("plan", &["--set", "preprocess.shard_samples=2"]);
    succeeds(&out);
    let mut reader = csv::Reader::from_path(set.work().join("problems.csv")).unwrap();
    let problems: Vec<String> = reader
        .records()
        .map(Result::unwrap)
        .map(|r| format!("{}|{}|{}|{}", &r[0], &r[1], &r[2], r[3].rsplit('/').next().unwrap()))
        .collect();
    assert_eq!(
        problems,
        [
            "files that are no channel of a sample|train|notes.txt|expected \
                <id>_<red|green|blue|yellow>.<png|jpg|tif>[.gz]",
            "images without labels|train|train-003|",
            "labels without images|train|ghost|",
            "missing channels|test|test-001|red",
            "missing channels|train|train-001|blue, yellow",
            "repeated ids|train|train-004|train.csv, line 8: id train-004 is repeated (first in \
                line 5)",
            "two files for a channel|train|train-000|train-000_red.png counts, train-000_red.tif \
                does not",
            "unknown classes|train|train-002|train.csv, line 4: id train-002: unknown class `31` \
                (expected 0 to 27, or a name such as Nucleoplasm, several with blanks, `;` or `|` \
                between)",
        ]
    );
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("train-001 (blue, yellow)"), "{text}");
    let manifest = Manifest::read(&set.work()).unwrap();
    let ids: Vec<_> = manifest.samples.iter().map(|s| (s.id.as_str(), s.part, s.shard)).collect();
    use Part::*;
    let want = [
        ("train-000", Train, 0),
        ("train-004", Train, 0),
        ("train-005", Train, 1),
        ("test-002", Test, 0),
        ("test-000", Test, 0),
    ];
    assert_eq!(
        ids, want,
        "complete samples only; the test part in the order of the sample submission"
    );
    assert!(String::from_utf8_lossy(&out.stdout).contains("core-hours"));
}

#[test]
fn an_id_that_is_in_several_places_counts_once() {
    let set = Set::new(3, 2, 16);
    fs::create_dir_all(set.path("external/images")).unwrap();
    let copy = |from: &str, to: &str| {
        for c in CHANNELS {
            fs::copy(set.path(&format!("{from}_{c}.png")), set.path(&format!("{to}_{c}.png")))
                .unwrap();
        }
    };
    for id in ["train-001", "1_1_A1_1", "x_2"] {
        copy("train/train-000", &format!("external/images/{id}"));
    }
    fs::write(
        set.path("external/all.csv"),
        "Id,Target\nx_2,4\nnot-there,1\ntrain-001,3\n1_1_A1_1,5\nzz,1\n",
    )
    .unwrap();
    for id in ["train-002", "x_2", "extra"] {
        copy("test/test-000", &format!("test/{id}"));
    }
    let submission =
        fs::read_to_string(set.path("sample_submission.csv")).unwrap() + "train-002,0\nx_2,0\n";
    fs::write(set.path("sample_submission.csv"), submission).unwrap();
    succeeds(
        &set.run("plan", &["--set", &format!("data.external={}", set.path("external").display())]),
    );
    let problems = fs::read_to_string(set.work().join("problems.csv")).unwrap();
    let want = "kind,place,id,detail\n\
                images not in sample_submission.csv,test,extra,left out\n\
                labels without images,external,not-there,\n\
                labels without images,external,zz,\n\
                repeated ids,external,train-001,the official sample counts\n\
                repeated ids,test,train-002,in the train part too\n\
                repeated ids,test,x_2,in the train part too\n";
    assert_eq!(problems, want);
    let manifest = Manifest::read(&set.work()).unwrap();
    let ids: Vec<_> =
        manifest.samples.iter().map(|s| (s.id.as_str(), s.labels.to_string())).collect();
    assert_eq!(
        ids[..3].iter().map(|s| s.0).collect::<Vec<_>>(),
        ["train-000", "train-001", "train-002"]
    );
    assert_eq!(ids[3..5], [("1_1_A1_1", "5".to_string()), ("x_2", "4".to_string())]);
    assert_eq!(manifest.samples[4].file(3), set.path("external/images/x_2_yellow.png"));
    assert_eq!(manifest.count(Part::Test), 2);
}

#[test]
fn plan_names_what_is_missing() {
    fails(&atlas(&["plan"]), 2, &["data.kaggle"]);
    fails(&atlas(&["plan", "--set", "data.kaggle=/nowhere"]), 2, &["/nowhere", "data.kaggle"]);
    fails(&atlas(&["plan", "--set", "data.kagle=/x"]), 2, &["data.kagle", "`kaggle`"]);
    fails(&atlas(&["plan", "--set", "preprocess.size=big"]), 2, &["--set preprocess.size=big"]);
    let empty = Set::new(0, 0, 16);
    fails(&empty.run("plan", &[]), 65, &[&empty.folder.path().display().to_string()]);
    let set = Set::new(2, 1, 16);
    fails(&set.run("preprocess", &[]), 65, &["manifest.csv", "`atlas plan"]);
    fs::remove_dir_all(set.path("test")).unwrap();
    fs::remove_file(set.path("sample_submission.csv")).unwrap();
    let out = set.run("plan", &["--json"]);
    succeeds(&out);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let warnings = json["warnings"].to_string();
    assert!(
        warnings.contains("/test ") && warnings.contains("/sample_submission.csv "),
        "{warnings}"
    );
    assert_eq!((&json["train"], &json["test"]), (&2.into(), &0.into()));
    fs::remove_file(set.path("train.csv")).unwrap();
    fails(&set.run("plan", &[]), 2, &["train.csv"]);
}

#[test]
fn the_same_images_in_other_formats_give_the_same_shards() {
    let run = |set: &Set| {
        set.plan(&["--set", "preprocess.shard_samples=2"]);
        set.preprocess(&[]);
        set.shards()
    };
    let first = run(&Set::new(3, 1, 48));
    assert_eq!(
        first.iter().map(|s| s.0.as_str()).collect::<Vec<_>>(),
        ["test-00000.h5", "train-00000.h5", "train-00001.h5"]
    );
    // a time stamp in the files would show
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for set in [
        Set::with(3, 1, 48, "png", synthetic::png16),
        Set::with(3, 1, 48, "tif", synthetic::tiff),
        Set::with(3, 1, 48, "tif.gz", synthetic::tiff16_gz),
    ] {
        let other = run(&set);
        for (a, b) in first.iter().zip(&other) {
            assert!(a == b, "{}: {} and {} bytes", a.0, a.1.len(), b.1.len());
        }
        assert_eq!(first.len(), other.len());
    }
}

#[test]
fn tasks_make_the_same_shards_as_one_go_and_a_second_run_does_nothing() {
    let set = Set::new(7, 3, 32);
    set.plan(&["--set", "preprocess.shard_samples=2", "--set", "preprocess.tasks=2"]);
    let first = set.preprocess(&[]);
    assert_eq!(
        (&first["shards"], &first["built"], &first["samples"]),
        (&6.into(), &6.into(), &10.into())
    );
    let whole = set.shards();
    assert_eq!(set.preprocess(&[])["built"], 0);
    fs::remove_dir_all(set.work().join("shards")).unwrap();
    assert_eq!(set.preprocess(&["--task", "1"])["built"], 3);
    let names: Vec<_> = set.shards().into_iter().map(|s| s.0).collect();
    assert_eq!(names, ["test-00001.h5", "train-00001.h5", "train-00003.h5"]);
    let (kaggle, work) = (
        format!("data.kaggle={}", set.folder.path().display()),
        format!("paths.work={}", set.work().display()),
    );
    let out = assert_cmd::Command::cargo_bin("atlas")
        .unwrap()
        .env("SLURM_ARRAY_TASK_ID", "0")
        .args(["preprocess", "--set", &kaggle, "--set", &work, "--set", "preprocess.size=32"])
        .output()
        .unwrap();
    succeeds(&out);
    assert!(set.shards() == whole);
    fails(&set.run("preprocess", &["--task", "2"]), 2, &["--task 2"]);
    // Another size makes them again; so does a shard that is broken.
    assert_eq!(set.preprocess(&["--set", "preprocess.size=16"])["built"], 6);
    assert_eq!(set.preprocess(&[])["built"], 6);
    let victim = set.work().join("shards/train-00001.h5");
    let bytes = fs::read(&victim).unwrap();
    fs::write(&victim, &bytes[..bytes.len() - 100]).unwrap();
    assert_eq!(set.preprocess(&[])["built"], 1);
    assert!(set.shards() == whole);
}

#[test]
fn bad_files_are_left_out_up_to_the_limit() {
    let set = Set::new(8, 2, 32);
    let bad = set.path("train/train-003_blue.png");
    let good = fs::read(&bad).unwrap();
    synthetic::broken_palette(&bad, 32);
    synthetic::png(&set.path("test/test-001_green.png"), 16, &synthetic::pattern(16, 1));
    set.plan(&["--set", "preprocess.shard_samples=4"]);
    // One of ten is more than 1 %: the list is written, the shard is not.
    fails(
        &set.run("preprocess", &[]),
        65,
        &["quarantine-00000.csv", "train-003_blue.png", "max_bad_fraction"],
    );
    assert!(set.shards().is_empty());
    let result = set.preprocess(&["--set", "preprocess.max_bad_fraction=0.2"]);
    assert_eq!((&result["samples"], &result["bad"]), (&8.into(), &2.into()));
    let lists: Vec<_> = (0..3).map(|unit| quarantined(&set.work(), unit).unwrap()).collect();
    assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(lists[0][0].id, "train-003");
    assert!(lists[0][0].reason.contains("broken PNG"), "{:?}", lists[0]);
    assert!(
        lists[2][0].file.ends_with("test-001_green.png")
            && ["16x16", "red", "32x32"].iter().all(|part| lists[2][0].reason.contains(part))
    );
    let store = set.store(Part::Train).unwrap();
    assert_eq!((store.len(), store.find("train-003"), store.find("train-004")), (7, None, Some(3)));
    let mut image = vec![0; 32 * 32 * 4];
    store.read(3, &mut image).unwrap();
    assert!(
        image.chunks(4).map(|p| p[1]).eq(synthetic::pattern(32, 17)),
        "the pixels moved up with their id"
    );
    // Again: nothing to do, the same list; and within the task the limit still counts what was left
    // out before.
    assert_eq!(set.preprocess(&["--set", "preprocess.max_bad_fraction=0.2"])["built"], 0);
    fails(&set.run("preprocess", &[]), 65, &["quarantine-00000.csv", "train-003_blue.png"]);
    // Repaired, the sample is in.
    fs::write(&bad, good).unwrap();
    let result = set.preprocess(&["--set", "preprocess.max_bad_fraction=0.2"]);
    assert_eq!((&result["built"], &result["samples"]), (&1.into(), &9.into()));
    assert!(quarantined(&set.work(), 0).unwrap().is_empty());
    assert!(set.store(Part::Train).unwrap().find("train-003").is_some());
    // So is one that was too large, once larger ones are allowed.
    for c in CHANNELS {
        synthetic::png(
            &set.path(&format!("train/train-005_{c}.png")),
            64,
            &synthetic::pattern(64, 1),
        );
    }
    fs::remove_file(set.work().join("shards/train-00001.h5")).unwrap();
    let preprocess = |max: &str| {
        set.preprocess(&["--set", "preprocess.max_bad_fraction=0.2", "--set", max])["samples"]
            .clone()
    };
    assert_eq!(preprocess("preprocess.max_pixels_side=48"), 8);
    assert_eq!(quarantined(&set.work(), 1).unwrap().len(), 4);
    assert_eq!(preprocess("preprocess.max_pixels_side=64"), 9);
}

#[test]
fn images_that_were_replaced_are_found_by_their_pixels_and_copies_are_not() {
    let set = Set::with(4, 2, 32, "tif", synthetic::tiff);
    let cut = ["--set", "preprocess.shard_samples=2"];
    set.plan(&cut);
    assert_eq!(set.preprocess(&[])["built"], 3);
    let before = set.shards();
    let warnings = |more: &[&str]| {
        let out = set.run("preprocess", more);
        succeeds(&out);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        text.lines().filter(|line| line.contains("warn")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&[]), [""; 0]);

    // Another time, and the same pixels: as after a copy of all files.
    let image = |name: &str| set.path(&format!("train/{name}.tif"));
    let bytes = fs::read(image("train-001_red")).unwrap();
    fs::write(image("train-001_red"), &bytes).unwrap();
    let out = set.preprocess(&[]);
    assert_eq!((&out["built"], &out["replaced"]), (&0.into(), &0.into()));

    // An older file of the same size and other pixels, moved over two of them; one shard's list is
    // lost.
    fs::remove_file(set.work().join("shards/sources-00001.csv")).unwrap();
    for (i, name) in ["train-001_blue", "train-002_red"].into_iter().enumerate() {
        let other = set.path("other.tif");
        synthetic::tiff(&other, 32, &synthetic::pattern(32, 90 + i));
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&other).unwrap().set_modified(old).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().len(), bytes.len() as u64);
        fs::rename(&other, image(name)).unwrap();
    }
    let said = warnings(&[]);
    assert!(
        said.len() == 1 && ["2 samples", "train-001"].iter().all(|part| said[0].contains(part)),
        "{said:?}"
    );
    let after = set.shards();
    let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
    assert_eq!(changed, [false, true, true], "the test shard and both training shards, in order");
    assert_eq!(warnings(&[]), [""; 0], "it is said once");

    // A file that is gone: the shard may be all that is left.
    fs::rename(image("train-003_blue"), set.path("away.tif")).unwrap();
    assert_eq!(warnings(&[]), [""; 0]);
    assert!(set.shards() == after);
    fs::rename(set.path("away.tif"), image("train-003_blue")).unwrap();

    // Between `plan` and the first shard: the shard holds what is there, and that is said.
    set.plan(&cut);
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::copy(image("train-003_red"), image("train-000_red")).unwrap();
    fs::remove_file(set.work().join("shards/train-00000.h5")).unwrap();
    let said = warnings(&[]);
    assert!(
        said.len() == 1
            && ["1 samples", "train-000", "`atlas plan"].iter().all(|part| said[0].contains(part)),
        "{said:?}"
    );
}

/// Largest anonymous memory of `preprocess` on 2048-pixel JPEGs and 512-pixel PNGs, in MiB.
fn peak_memory(images: usize, shard_samples: usize) -> f64 {
    let set = Set::new(1, 0, 512);
    let mut table = "Id,Target\n".to_string();
    let jpeg = set.path("large.jpg");
    let pixels: Vec<u8> =
        synthetic::pattern(2048, 3).into_iter().flat_map(|v| [v, v / 2, v / 3]).collect();
    image::save_buffer(&jpeg, &pixels, 2048, 2048, image::ExtendedColorType::Rgb8).unwrap();
    for i in 0..images {
        for c in CHANNELS {
            // The first of every 64 are the large ones.
            let from = if i % 64 < 4 {
                jpeg.clone()
            } else {
                set.path(&format!("train/train-000_{c}.png"))
            };
            symlink(from, set.path(&format!("train/x-{i:05}_{c}.png"))).unwrap();
        }
        table += &format!("x-{i:05},{}\n", i % 28);
    }
    fs::write(set.path("train.csv"), table).unwrap();
    let samples = format!("preprocess.shard_samples={shard_samples}");
    set.plan(&["--set", &samples]);
    let peak = peak_of(&set, &["preprocess", "--set", "threads=2"], 0);
    assert_eq!(set.store_of(Part::Train, 512).unwrap().len(), images);
    eprintln!(
        "{images} samples, {shard_samples} per shard: {peak:.0} MiB of anonymous memory at the \
            peak"
    );
    peak
}

/// The largest amount of anonymous memory that the program has with `words`, in MiB.
fn peak_of(set: &Set, words: &[&str], code: i32) -> f64 {
    let (kaggle, work) = (
        format!("data.kaggle={}", set.folder.path().display()),
        format!("paths.work={}", set.work().display()),
    );
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("atlas"))
        .args(words)
        .args(["--set", &kaggle, "--set", &work])
        .env_remove("SLURM_ARRAY_TASK_ID")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0.0f64;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let anonymous = status.lines().find_map(|l| {
            l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok()
        });
        peak = peak.max(anonymous.unwrap_or(0.0) / 1024.0);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(code));
    peak
}

#[test]
fn memory_does_not_grow_with_the_shard() {
    // The other 80 images, if they were held, would take 80 MiB more.
    let few = peak_memory(16, 16);
    assert!(few > 10.0 && few < 250.0, "{few} MiB");
    for shard_samples in [16, 4096] {
        let peak = peak_memory(96, shard_samples);
        assert!((peak - few).abs() < 40.0, "{few} MiB for 16 images, {peak} MiB for 96");
    }
}

#[test]
#[ignore = "writes 4 GB; run by make test-all"]
fn memory_does_not_grow_with_a_full_shard() {
    let peak = peak_memory(4096, 4096);
    assert!(peak > 10.0 && peak < 250.0, "{peak} MiB");
}

/// Memory of `plan`, and of reading what it wrote, for so many samples.
fn peak_of_plan(samples: usize) -> [f64; 2] {
    let set = Set::new(1, 0, 16);
    let mut table = "Id,Target\n".to_string();
    for i in 0..samples {
        let file = set.path(&format!("empty-{}", i / 10_000)); // a file takes at most 65,000 links
        if i % 10_000 == 0 {
            fs::write(&file, "").unwrap();
        }
        let id =
            format!("{:08x}-bb9b-11e8-b2b9-ac1f6b6435d0", (i as u32).wrapping_mul(0x9e37_79b9));
        for c in CHANNELS {
            fs::hard_link(&file, set.path(&format!("train/{id}_{c}.png"))).unwrap();
        }
        table += &format!("{id},{}\n", i % 28);
    }
    fs::write(set.path("train.csv"), table).unwrap();
    let plan = peak_of(&set, &["plan"], 0);
    // There is no such task: it ends once the manifest, and the plan beside it, are read.
    let read = peak_of(&set, &["preprocess", "--task", "9999"], 2);
    assert_eq!(Manifest::read(&set.work()).unwrap().count(Part::Train), samples);
    [plan, read]
}

#[test]
#[ignore = "makes 800,000 links; run by make test-all"]
fn a_plan_takes_little_memory_per_sample() {
    let ([plan, read], [plan_of_many, read_of_many]) = (peak_of_plan(2_000), peak_of_plan(200_000));
    let per_sample = |few: f64, many: f64| (many - few) * 1048576.0 / 198_000.0;
    let (plan, read) = (per_sample(plan, plan_of_many), per_sample(read, read_of_many));
    eprintln!("bytes per sample: {plan:.0} for plan, {read:.0} for reading the manifest");
    assert!(
        plan > 50.0 && plan < 400.0 && read > 50.0 && read < 200.0,
        "{plan} and {read} bytes per sample"
    );
}
