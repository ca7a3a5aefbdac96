//! Opens a shard and prints its ids and labels, and of the first image the mean of each channel.
//!
//! ```sh
//! cargo run --release --example read_shard -- work/demo/shards/train-00000.h5
//! cargo run --release --example read_shard   # on a small temporary shard
//! ```

use std::{
    env,
    path::{Path, PathBuf},
};

use atlas::data::{
    labels::{Labels, NAMES},
    manifest::{CHANNELS, Part},
    shard::{Entry, Reader, Writer},
};

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = match env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => small_shard(folder.path())?,
    };

    let shard = Reader::open(&path)?; // compares the tables with their checksum
    println!("{} samples of {} pixels a side", shard.len(), shard.size());
    for (i, id) in shard.ids().iter().enumerate() {
        // A test shard has no labels.
        let labels = shard.labels().map_or(Labels::default(), |labels| labels[i]);
        let names: Vec<&str> = labels.iter().map(|class| NAMES[class]).collect();
        println!("{id}  {}", names.join(", "));
    }

    // u8 `[size, size, 4]`: rows of pixels of red, green, blue, yellow.
    let mut image = vec![0; shard.size() * shard.size() * CHANNELS.len()];
    shard.read(0, &mut image)?; // compares the image with its checksum
    for (channel, name) in CHANNELS.iter().enumerate() {
        let pixels = image.iter().skip(channel).step_by(CHANNELS.len());
        let sum: u64 = pixels.map(|&value| u64::from(value)).sum();
        println!("{name}: mean {:.2} of 255", sum as f64 / (shard.size() * shard.size()) as f64);
    }
    Ok(())
}

/// A shard of three samples of 32 pixels a side. Every pixel of channel `c` of sample `i` is
/// `40 c + i`.
fn small_shard(folder: &Path) -> anyhow::Result<PathBuf> {
    const SIZE: usize = 32;
    let path = folder.join("train-00000.h5");
    let mut writer = Writer::create(&path, Part::Train, 3, SIZE)?;
    for i in 0..3u8 {
        let labels = Labels::from_classes([0, 25].into_iter().take(1 + usize::from(i % 2)));
        let pixel = [i, 40 + i, 80 + i, 120 + i];
        let image = pixel.repeat(SIZE * SIZE);
        // In a shard made by `atlas preprocess`: the perceptual hash of each channel.
        let hashes = [0; 4];
        let labels = labels.unwrap_or_default();
        writer.push(Entry::new(format!("sample-{i}"), labels, hashes, image))?;
    }
    writer.finish(0)?; // makes the file appear under its name
    Ok(path)
}
