//! synthetic images and folders in the competition's layout, for the tests of data in.
#![allow(dead_code)] // each test binary uses a part of it

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use atlas::{
    base::Result,
    data::{manifest::Part, shard::Store, work_folder::WorkFolder},
};

pub const CHANNELS: [&str; 4] = ["red", "green", "blue", "yellow"];

/// Gray pixels that differ by `seed`.
pub fn pattern(side: usize, seed: usize) -> Vec<u8> {
    (0..side * side).map(|i| ((i % side * (3 + seed)) ^ (i / side * 5 + seed * 17)) as u8).collect()
}

pub fn png(path: &Path, side: usize, pixels: &[u8]) {
    png_as(path, side, png::BitDepth::Eight, pixels);
}

/// The same image with 16 bits per pixel.
pub fn png16(path: &Path, side: usize, pixels: &[u8]) {
    png_as(
        path,
        side,
        png::BitDepth::Sixteen,
        &pixels.iter().flat_map(|&v| [v, v]).collect::<Vec<_>>(),
    );
}

/// A gray image with these bytes.
pub fn png_as(path: &Path, side: usize, depth: png::BitDepth, data: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
}

/// A palette of four bytes, over which the `png` crate panics.
pub fn broken_palette(path: &Path, side: usize) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), side as u32, side as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![1, 2, 3, 4]);
    encoder.write_header().unwrap().write_image_data(&vec![0; side * side]).unwrap();
}

pub fn tiff(path: &Path, side: usize, pixels: &[u8]) {
    let mut encoder = tiff::encoder::TiffEncoder::new(fs::File::create(path).unwrap()).unwrap();
    encoder
        .write_image::<tiff::encoder::colortype::Gray8>(side as u32, side as u32, pixels)
        .unwrap();
}

/// 16 bits, gzipped.
pub fn tiff16_gz(path: &Path, side: usize, pixels: &[u8]) {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let wide: Vec<u16> = pixels.iter().map(|&v| u16::from(v) * 257).collect();
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
    encoder
        .write_image::<tiff::encoder::colortype::Gray16>(side as u32, side as u32, &wide)
        .unwrap();
    let mut gz =
        flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, bytes.get_ref()).unwrap();
    gz.finish().unwrap();
}

/// A folder with `train` and `test` samples of `side` pixels, their table and a sample submission
/// in reverse order.
pub struct Set {
    pub folder: tempfile::TempDir,
}

impl Set {
    pub fn new(train: usize, test: usize, side: usize) -> Self {
        Self::with(train, test, side, "png", png)
    }

    pub fn with(
        train: usize,
        test: usize,
        side: usize,
        extension: &str,
        write: impl Fn(&Path, usize, &[u8]),
    ) -> Self {
        let set = Self { folder: tempfile::tempdir().unwrap() };
        let (mut table, mut submission) = ("Id,Target\n".to_string(), Vec::new());
        for (part, n) in [("train", train), ("test", test)] {
            fs::create_dir_all(set.path(part)).unwrap();
            for i in 0..n {
                let id = format!("{part}-{i:03}");
                for (c, channel) in CHANNELS.iter().enumerate() {
                    write(
                        &set.path(&format!("{part}/{id}_{channel}.{extension}")),
                        side,
                        &pattern(side, i * 4 + c),
                    );
                }
                match part {
                    "train" => table += &format!("{id},{} 25\n", i % 20),
                    _ => submission.push(format!("{id},0\n")),
                }
            }
        }
        submission.reverse();
        fs::write(set.path("train.csv"), table).unwrap();
        fs::write(
            set.path("sample_submission.csv"),
            format!("Id,Predicted\n{}", submission.concat()),
        )
        .unwrap();
        set
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The shards of a part, of 32 pixels a side.
    pub fn store(&self, part: Part) -> Result<Arc<Store>> {
        self.store_of(part, 32)
    }

    /// The shards of a part, which must be of `size` pixels a side.
    pub fn store_of(&self, part: Part, size: u32) -> Result<Arc<Store>> {
        WorkFolder::open(&self.work(), size).store(part).cloned()
    }

    /// Runs a job on this set.
    pub fn run(&self, job: &str, more: &[&str]) -> Output {
        let (kaggle, work) = (
            format!("data.kaggle={}", self.folder.path().display()),
            format!("paths.work={}", self.work().display()),
        );
        atlas(
            &[
                &[
                    job,
                    "--set",
                    &kaggle,
                    "--set",
                    &work,
                    "--set",
                    "preprocess.size=32",
                    "--set",
                    "threads=2",
                ],
                more,
            ]
            .concat(),
        )
    }

    pub fn plan(&self, more: &[&str]) {
        succeeds(&self.run("plan", more));
    }

    pub fn preprocess(&self, more: &[&str]) -> serde_json::Value {
        let out = self.run("preprocess", &[&["--json"], more].concat());
        succeeds(&out);
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// Name and content of each shard.
    pub fn shards(&self) -> Vec<(String, Vec<u8>)> {
        let mut shards: Vec<_> = fs::read_dir(self.work().join("shards"))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
            .filter(|(name, _)| name.ends_with(".h5"))
            .collect();
        shards.sort();
        shards
    }
}

pub fn atlas(args: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("atlas")
        .unwrap()
        .env_remove("SLURM_ARRAY_TASK_ID")
        .args(args)
        .output()
        .unwrap()
}

pub fn succeeds(out: &Output) {
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Asserts the exit code, and that the error's last line holds all of `parts`.
pub fn fails(out: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{text}");
    let line = text.lines().last().unwrap_or_default();
    for part in parts {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
}
