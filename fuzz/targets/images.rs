//! Pictures, as `preprocess`, `hash` and the explorer read them.

use std::path::Path;

use atlas::{
    base::checksum,
    config::Config,
    data::{
        image::Encoded,
        labels::Labels,
        manifest::{CHANNELS, Part, Pool, Sample, Source},
        shard::{Settings, Tally, read_images},
    },
};

use crate::scratch;

fn max_side() -> u32 {
    Config::default().preprocess.max_pixels_side
}

/// One of the three ways in which a picture is decoded.
pub fn one_image(bytes: &[u8]) {
    let Ok(encoded) = Encoded::new(Path::new("image"), bytes.to_vec(), max_side()) else { return };
    let pixels = encoded.dimensions().0 as usize * encoded.dimensions().1 as usize;
    let way = checksum::of(bytes) % 4;
    let decoded = match way {
        0 => encoded.luma(),
        1 => encoded.rgby().map(|[red, ..]| red),
        _ => encoded.channel(way as usize).map(|channel| channel.whole()),
    };
    if let Ok(plane) = decoded {
        assert_eq!(plane.pixels.len(), pixels, "accepted with another number of pixels");
    }
}

/// The same bytes as all four channels of a sample, as `preprocess` reads it.
pub fn sample_of_four(bytes: &[u8]) {
    let folder = scratch::folder("images");
    let paths = CHANNELS.map(|name| scratch::file(&format!("images/a_{name}.png"), bytes));
    let names = paths.each_ref().map(|p| p.to_str().expect("a plain path"));
    let files = Pool::default().files("a", names);
    let (source, part) = (Source::Official, Part::Train);
    let sample =
        Sample { id: "a".into(), source, part, labels: Labels::default(), files, shard: 0 };
    let size = 8;
    let settings = Settings { size, max_side: max_side() };
    for read in read_images(&[sample], settings, &Tally::default()).iter().flatten() {
        assert_eq!(read.len(), size * size * 4, "in {}", folder.display());
    }
}
