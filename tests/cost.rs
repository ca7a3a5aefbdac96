//! What the hot loops cost, in instructions counted by valgrind and in allocations, against
//! tests/golden/costs.json: other work on the machine does not change these, as it does times.
//! `ATLAS_GOLDEN=write` writes the file anew.
//!
//! The test runs itself once under valgrind, with one thread; there each loop is called once
//! through [`counted`], after which valgrind writes down what has been counted since the call.
//! Valgrind shows every machine with AVX2 nearly the same processor, one without AVX-512, so that
//! machines differ by little; code for AVX-512 is not counted. Two runs on one machine differed by
//! 0.01 %.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use atlas::{
    base::{
        progress::Progress,
        rng::{Use, stream},
        stop_request::Stop,
    },
    config::Augment,
    data::{
        dedup::search,
        image::Plane,
        manifest::Manifest,
        phash::phash,
        shard::{Builder, Settings},
    },
    loading::augment::{Scratch, random},
};
use rand::RngExt;
use serde::{Deserialize, Serialize};

#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, succeeds};

/// How far a count may lie from the committed one, in percent: compilers and C libraries differ a
/// little.
const MARGIN: u64 = 10;
/// In the environment of the run under valgrind: the work folder of its images.
const FOLDER: &str = "ATLAS_COST_FOLDER";

/// What one loop costs.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Cost {
    instructions: u64,
    allocations: u64,
}

/// tests/golden/costs.json.
#[derive(Serialize, Deserialize)]
struct Costs {
    /// What it was counted with.
    with: String,
    loops: BTreeMap<String, Cost>,
}

#[test]
#[cfg_attr(not(can_count_instructions), ignore = "needs valgrind and AVX2")]
fn the_hot_loops_cost_what_they_did() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return run_loops(Path::new(&folder));
    }
    needs::program("valgrind");
    assert!(is_x86_feature_detected!("avx2"), "the committed counts are those with AVX2");
    let got = measure();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/costs.json");
    if std::env::var_os("ATLAS_GOLDEN").is_some_and(|v| v == "write") {
        fs::write(&path, serde_json::to_string_pretty(&got).unwrap() + "\n").unwrap();
    }
    let want: Costs = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let found = differences(&want.loops, &got.loops);
    assert!(
        found.is_empty(),
        "{}\n{} was counted with {}\nand this run with {}\nIf the change is meant, \
            ATLAS_GOLDEN=write writes the file anew: commit it.",
        found.join("\n"),
        path.display(),
        want.with,
        got.with
    );
}

/// A line for every count that lies outside the margin, and for every loop that is in one table
/// only.
fn differences(want: &BTreeMap<String, Cost>, got: &BTreeMap<String, Cost>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, want) in want {
        let Some(got) = got.get(name) else {
            lines.push(format!("{name} is committed, but there is no such loop"));
            continue;
        };
        for (what, want, got) in [
            ("instructions", want.instructions, got.instructions),
            ("allocations", want.allocations, got.allocations),
        ] {
            if want.abs_diff(got) * 100 > want * MARGIN {
                let how = if got > want { "more" } else { "fewer" };
                let percent = (got as f64 / want as f64 - 1.0).abs() * 100.0;
                lines.push(format!(
                    "{name}: {got} {what}, {percent:.0} % {how} than the committed {want}"
                ));
            }
        }
    }
    lines.extend(
        got.keys()
            .filter(|name| !want.contains_key(*name))
            .map(|name| format!("{name} is not committed")),
    );
    lines
}

#[test]
fn the_margin_holds_in_both_directions() {
    let table = |instructions, allocations| {
        BTreeMap::from([("a".to_string(), Cost { instructions, allocations })])
    };
    let want = table(1000, 0);
    assert!([900, 1000, 1100].into_iter().all(|n| differences(&want, &table(n, 0)).is_empty()));
    assert_eq!(
        differences(&want, &table(1101, 0)),
        ["a: 1101 instructions, 10 % more than the committed 1000"]
    );
    assert_eq!(
        differences(&want, &table(500, 0)),
        ["a: 500 instructions, 50 % fewer than the committed 1000"]
    );
    assert_eq!(differences(&want, &table(1000, 1)).len(), 1, "no allocation becomes one");
    assert_eq!(differences(&want, &BTreeMap::new()), ["a is committed, but there is no such loop"]);
    assert_eq!(differences(&BTreeMap::new(), &want), ["a is not committed"]);
}

/// Runs this program under valgrind and reads what it says.
fn measure() -> Costs {
    let small = Small::empty();
    let (data, work) = (small.path("data"), small.path("work"));
    succeeds(
        &small
            .atlas(&[
                "synth",
                "--samples",
                "3",
                "--test",
                "0",
                "--external",
                "1",
                "--size",
                "512",
                "--out",
                &data,
            ])
            .output()
            .unwrap(),
    );
    succeeds(&small.run(&["plan", "--set=preprocess.shard_samples=3"]));
    let out = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--zero-before=counted", "--dump-after=counted"])
        .arg(format!("--callgrind-out-file={}", small.path("counts")))
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "the_hot_loops_cost_what_they_did",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, work)
        .output()
        .unwrap();
    succeeds(&out);
    let said = String::from_utf8(out.stdout).unwrap();
    let find = |key: &'static str| said.lines().filter_map(move |l| l.strip_prefix(key));
    let loops = find("loop ").enumerate().map(|(i, line)| {
        let (name, allocations) = line.split_once(' ').unwrap();
        let instructions = instructions(Path::new(&small.path(&format!("counts.{}", i + 1))));
        (name.to_string(), Cost { instructions, allocations: allocations.parse().unwrap() })
    });
    let with =
        [version("rustc"), version("valgrind"), find("processor ").next().unwrap().to_string()];
    Costs { with: with.join(", "), loops: loops.collect() }
}

fn version(program: &str) -> String {
    let out = Command::new(program).arg("--version").output();
    out.map_or_else(
        |_| format!("an unknown {program}"),
        |o| String::from_utf8_lossy(&o.stdout).trim().into(),
    )
}

/// The sum at the end of one of callgrind's files.
fn instructions(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix("totals: "))
        .expect("the totals")
        .trim()
        .parse()
        .unwrap()
}

/// What runs under valgrind: every loop once, a line for each. Images come from `work`.
fn run_loops(work: &Path) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    println!("\nprocessor with {}", features());
    report("png_to_shard", || build(work, 0, 512));
    report("jpeg_to_smaller_shard", || build(work, 1, 256));
    let image = random_bytes(512 * 512 * 4);
    report("augment", || augment(&image, 0.0));
    report("augment_and_distort", || augment(&image, 1.0));
    for (side, times) in [(512, 4), (2048, 1)] {
        let plane = Plane { width: side, height: side, pixels: random_bytes(side * side) };
        report(&format!("phash_{side}"), || {
            for _ in 0..times {
                black_box(phash(black_box(&plane)));
            }
        });
    }
    for radius in [4, 12] {
        let hashes = planted(10_000, radius);
        report(&format!("pairs_radius_{radius}"), || {
            black_box(search::pairs(&hashes, [0..10_000, 0..10_000], radius).unwrap());
        });
    }
}

fn report(name: &str, mut work: impl FnMut()) {
    let allocations = counted(&mut work);
    println!("loop {name} {allocations}");
}

/// Valgrind knows it by this name. Returns the number of allocations.
#[unsafe(no_mangle)]
#[inline(never)]
fn counted(work: &mut dyn FnMut()) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

/// What the code may choose its instructions by, as valgrind shows it.
fn features() -> String {
    let known = [
        ("popcnt", is_x86_feature_detected!("popcnt")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    known.into_iter().filter(|f| f.1).map(|f| f.0).collect::<Vec<_>>().join(" ")
}

fn build(work: &Path, unit: usize, size: usize) {
    let (manifest, stop) = (Manifest::read(work).unwrap(), Stop::new());
    let builder = Builder::new(work, &manifest, Settings { size, max_side: 4096 }, &stop);
    let outcome = builder
        .build(unit, &manifest.shards()[unit], 0, &Progress::new("cost", "samples", 3))
        .unwrap();
    assert!(outcome.built);
}

/// Eight versions of one image; everything but the distortion happens to each, so that no dice
/// decide on the cost.
fn augment(image: &[u8], elastic: f64) {
    let keys =
        Augment { rot90: 1.0, flip: 1.0, brightness_contrast: 1.0, elastic, ..Augment::default() };
    let (mut scratch, mut out) = (Scratch::default(), vec![0; 448 * 448 * 4]);
    for i in 0..8 {
        random(&keys, &mut stream(Use::Augment, 1, 0, i), image, 512, &mut scratch, &mut out)
            .unwrap();
        black_box(&out);
    }
}

fn random_bytes(n: usize) -> Vec<u8> {
    let mut rng = stream(Use::Synth, 1, 0, 0);
    (0..n).map(|_| rng.random()).collect()
}

/// Random hashes; every twentieth is a copy of the one before it with up to `radius` bits changed
/// per channel.
fn planted(n: usize, radius: u32) -> Vec<[u64; 4]> {
    let mut rng = stream(Use::Synth, 2, 0, 0);
    let mut hashes: Vec<[u64; 4]> = (0..n).map(|_| rng.random()).collect();
    for i in (1..n).step_by(20) {
        hashes[i] = hashes[i - 1]
            .map(|hash| (0..radius).fold(hash, |h, _| h ^ 1 << rng.random_range(0..64)));
    }
    hashes
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, which counts how often it is asked for memory.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: each call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the rules of this function, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the rules of this function, which are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the rules of this function, which are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of this function, which are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}
