//! What the images that were read are like. An image that is black, white or one file under two
//! names is a sound image, so that nothing refuses it; what a network learns from it is worth
//! nothing. Typical: 12-bit values in 16-bit files, which are scaled as 16-bit values.

use std::sync::{Mutex, PoisonError};

use crate::data::manifest::{CHANNELS, Sample};

/// About so many pixels of an image enter its histogram, or all of a small one: eight of them are
/// above its 99.9th percentile.
const COUNTED: usize = 1 << 13;

/// The lowest eighth of the values 0 to 255 ends below this one.
const EIGHTH: u8 = 32;

type Histogram = [u32; 256];

/// The values of one channel of one image, on the scale 0 to 255.
pub(super) struct Levels {
    /// Whether the file has 16 bits per value.
    pub is_wide: bool,
    histogram: Histogram,
    /// One of so many pixels counts; an odd number, so that these are in all columns of an image.
    step: usize,
    /// Pixels before the next one that counts.
    skip: usize,
    /// The value of the first pixel, and whether all have it.
    first: Option<u8>,
    is_constant: bool,
}

impl Levels {
    /// Of an image of so many pixels.
    pub const fn new(pixels: usize, is_wide: bool) -> Self {
        let (histogram, step) = ([0; 256], (pixels / COUNTED) | 1);
        Self { is_wide, histogram, step, skip: 0, first: None, is_constant: true }
    }

    /// Counts the next pixels.
    pub fn push(&mut self, pixels: &[u8]) {
        let Some(&start) = pixels.first() else { return };
        let first = *self.first.get_or_insert(start);
        self.is_constant = self.is_constant && pixels.iter().all(|&value| value == first);
        let mut at = self.skip;
        while let Some(&value) = pixels.get(at) {
            self.histogram[value as usize] += 1;
            at += self.step;
        }
        self.skip = at - pixels.len();
    }
}

/// The least value that at least `share` of the counted ones do not exceed.
fn quantile(histogram: &Histogram, share: f64) -> u8 {
    let total: u64 = histogram.iter().map(|&n| u64::from(n)).sum();
    let (wanted, mut below) = (share * total as f64, 0);
    let reached = histogram.iter().position(|&n| {
        below += u64::from(n);
        below as f64 >= wanted
    });
    reached.map_or(255, |value| value as u8)
}

/// Counts what is odd about the samples that are read. May be shared by threads.
#[derive(Default)]
pub struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    samples: usize,
    channels: [ChannelCounts; 4],
    /// Samples in which two channels are equal, by [`PAIRS`].
    equal: [Found; PAIRS.len()],
    /// Samples that are not square.
    oblong: Found,
}

/// By channel, the images that are alike; each image is in one of them at most.
#[derive(Default)]
struct ChannelCounts {
    wide: usize,
    /// One value everywhere.
    constant: Found,
    /// Of 16 bits, their 99.9th percentile in the lowest eighth.
    dark: Found,
    /// The largest of these percentiles.
    dark_up_to: u8,
    /// Median and 99.9th percentile at the largest value.
    saturated: Found,
}

/// How many, and the first of them by name, whatever the order of the threads.
#[derive(Default)]
struct Found {
    number: usize,
    example: String,
}

const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

impl Found {
    fn add(&mut self, example: String) {
        if self.number == 0 || example < self.example {
            self.example = example;
        }
        self.number += 1;
    }
}

impl Tally {
    /// Counts a sample with images of `dimensions` (width, height); `planes` are its channels as
    /// they are stored.
    pub(super) fn add(
        &self,
        sample: &Sample,
        dimensions: (u32, u32),
        levels: &[Levels; 4],
        planes: &[Vec<u8>; 4],
    ) {
        let percentiles = levels.each_ref().map(|l| quantile(&l.histogram, 0.999));
        let medians = levels.each_ref().map(|l| quantile(&l.histogram, 0.5));
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.samples += 1;
        for (c, levels) in levels.iter().enumerate() {
            let channel = &mut counts.channels[c];
            let name = || sample.file(c).display().to_string();
            channel.wide += usize::from(levels.is_wide);
            if levels.is_constant {
                channel.constant.add(name());
            } else if levels.is_wide && percentiles[c] < EIGHTH {
                channel.dark.add(name());
                channel.dark_up_to = channel.dark_up_to.max(percentiles[c]);
            } else if medians[c] == u8::MAX {
                channel.saturated.add(name());
            }
        }
        for (pair, &(a, b)) in PAIRS.iter().enumerate() {
            let constant = levels[a].is_constant && levels[b].is_constant;
            if !constant && planes[a] == planes[b] {
                counts.equal[pair].add(sample.id.clone());
            }
        }
        if dimensions.0 != dimensions.1 {
            let (width, height) = dimensions;
            counts.oblong.add(format!("{} ({width}x{height} pixels)", sample.id));
        }
    }

    /// One line for each channel and kind of oddity; none where the samples are as expected. Dark
    /// and saturated images are said where they are at least half of a channel's, since single ones
    /// are usual. `size`: side of the stored images in pixels.
    pub fn warnings(&self, size: usize) -> Vec<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counts.samples;
        let channels = counts.channels.iter().zip(CHANNELS);
        let mut lines: Vec<String> =
            channels.flat_map(|(channel, name)| channel.warnings(name, all)).collect();
        for (Found { number, example }, (a, b)) in counts.equal.iter().zip(PAIRS) {
            if *number > 0 {
                lines.push(format!(
                    "{} and {} are the same image in {number} of {all} samples, such as \
                        {example}: expected one file of each stain",
                    CHANNELS[a], CHANNELS[b]
                ));
            }
        }
        let Found { number, example } = &counts.oblong;
        if *number > 0 {
            lines.push(format!(
                "{number} of {all} samples are not square, such as {example}: cells in them \
                    change their shape, since images are stored as {size}x{size}; cut the files \
                    to squares to keep it"
            ));
        }
        lines
    }
}

impl ChannelCounts {
    fn warnings(&self, name: &str, all: usize) -> Vec<String> {
        let Self { wide, constant, dark, dark_up_to, saturated } = self;
        let mut lines = Vec::new();
        if constant.number > 0 {
            let scaled = if *wide > 0 { " after scaling to 8 bits" } else { "" };
            lines.push(format!(
                "{name}: {} of {all} images have one value everywhere{scaled}, such as {}: \
                    nothing can be learnt from them; look at the files",
                constant.number, constant.example
            ));
        }
        if dark.number > 0 && 2 * dark.number >= *wide {
            // What is scaled to n was at least this.
            let least = (u16::from(*dark_up_to) * 257).saturating_sub(128);
            let bits = (u16::BITS - least.leading_zeros()).max(8);
            lines.push(format!(
                "{name}: {} of {wide} 16-bit images are nearly black, such as {}: 99.9 % of \
                    their values are below about {} of 65535, which is 0 to {dark_up_to} of 255; \
                    16-bit files are expected to use all 16 bits. If the camera has {bits} bits, \
                    multiply the values by {} (all files of the channel alike), then run the job \
                    again",
                dark.number,
                dark.example,
                u32::from(*dark_up_to) * 257 + 129,
                1u32 << (u16::BITS - bits)
            ));
        }
        if saturated.number > 0 && 2 * saturated.number >= all {
            lines.push(format!(
                "{name}: {} of {all} images are saturated, such as {}: at least half of their \
                    pixels have the largest value; export them with less gain",
                saturated.number, saturated.example
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        labels::Labels,
        manifest::{Part, Pool, Source},
    };

    fn levels(is_wide: bool, pixels: &[u8]) -> Levels {
        let mut levels = Levels::new(pixels.len(), is_wide);
        pixels.chunks(100).for_each(|band| levels.push(band));
        levels
    }

    /// The warnings about samples whose channels have these pixels.
    fn warnings<'a>(samples: impl IntoIterator<Item = (bool, [&'a Vec<u8>; 4])>) -> Vec<String> {
        let tally = Tally::default();
        for (i, (is_wide, channels)) in samples.into_iter().enumerate() {
            let id = format!("s{i}");
            let files = CHANNELS.map(|c| format!("/d/{id}_{c}.png"));
            let sample = Sample {
                files: Pool::default().files(&id, files.each_ref().map(String::as_str)),
                id,
                source: Source::Official,
                part: Part::Train,
                labels: Labels::default(),
                shard: 0,
            };
            let planes = channels.map(Vec::clone);
            tally.add(&sample, (100, 100), &channels.map(|p| levels(is_wide, p)), &planes);
        }
        tally.warnings(64)
    }

    fn ramp(from: usize, to: usize) -> Vec<u8> {
        (0..10_000).map(|i| (from + i * 13 % (to - from + 1)) as u8).collect()
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        for values in [vec![7; 50], (0..=255).collect::<Vec<u8>>(), vec![0, 0, 0, 9]] {
            let mut histogram = [0; 256];
            values.iter().for_each(|&v| histogram[v as usize] += 1);
            for share in [0.25, 0.5, 0.999, 1.0] {
                let rank = (share * values.len() as f64).ceil() as usize;
                assert_eq!(quantile(&histogram, share), values[rank - 1], "{share}");
            }
        }
    }

    #[test]
    fn as_many_pixels_count_however_they_come() {
        for (repeated, step) in [(1, 1), (8, 9)] {
            let pixels = ramp(0, 255).repeat(repeated);
            let mut whole = Levels::new(pixels.len(), false);
            whole.push(&pixels);
            assert_eq!(whole.histogram, levels(false, &pixels).histogram);
            assert_eq!(whole.histogram.iter().sum::<u32>() as usize, pixels.len().div_ceil(step));
        }
    }

    #[test]
    fn dark_16_bit_images_are_said_with_their_range() {
        let (dark, edge, bright) = (ramp(0, 13), ramp(0, 31), ramp(0, 33));
        let other = [ramp(1, 200), ramp(2, 200), ramp(3, 200)];
        let sample = |red| [red, &other[0], &other[1], &other[2]];
        let lines = warnings([(true, sample(&dark)); 3]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["red: ", "3 of 3", "/d/s0_red.png", " 13 of 255", " 12 bits", " by 16 "] {
            assert!(lines[0].contains(part), "{part}: {}", lines[0]);
        }
        assert_eq!(warnings([(true, sample(&edge))]).len(), 1);
        assert_eq!(warnings([(true, sample(&bright))]), [""; 0]);
        assert_eq!(warnings([(false, sample(&dark))]), [""; 0], "8 bits are taken as they are");
        // One bright image of many does not hide the others; one dark image of many is usual.
        let mixed = |dark_ones: usize| {
            warnings((0..5).map(|i| (true, sample(if i < dark_ones { &dark } else { &bright }))))
        };
        assert_eq!((mixed(4).len(), mixed(2).len()), (1, 0));
    }

    #[test]
    fn empty_saturated_and_equal_channels_are_said() {
        let (a, b, c) = (ramp(1, 200), ramp(2, 200), ramp(3, 200));
        let empty = vec![0; 10_000];
        let lines = warnings([(false, [&empty, &a, &b, &c]), (true, [&c, &a, &b, &empty])]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("red: 1 of 2 ") && lines[0].contains("/d/s0_red.png"));
        assert!(lines[1].starts_with("yellow: 1 of 2 "), "{}", lines[1]);
        let mut nearly = empty.clone();
        nearly[9_999] = 1;
        assert_eq!(warnings([(false, [&nearly, &a, &b, &c])]), [""; 0]);

        let white: Vec<u8> = (0..10_000).map(|i| if i % 5 == 0 { 100 } else { 255 }).collect();
        let lines = warnings([(false, [&white, &a, &b, &c])]);
        assert!(lines.len() == 1 && lines[0].starts_with("red: 1 of 1 "), "{lines:?}");

        let lines = warnings([(false, [&a, &b, &a, &c]), (false, [&c, &a, &b, &empty])]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let equal = &lines[1];
        assert!(equal.contains("red and blue") && equal.contains("1 of 2"), "{equal}");
        assert_eq!(warnings([(false, [&empty, &empty, &a, &b])]).len(), 2, "not three");
    }

    #[test]
    fn images_that_are_not_square_are_said() {
        let (tally, planes) = (Tally::default(), [1, 2, 3, 4].map(|v| vec![v, 0]));
        let files = Pool::default().files("wide", ["r", "g", "b", "y"]);
        let (source, part) = (Source::Official, Part::Train);
        let (id, labels) = ("wide".into(), Labels::default());
        let sample = Sample { id, source, part, labels, files, shard: 0 };
        let levels = planes.each_ref().map(|p| levels(false, p));
        tally.add(&sample, (1344, 1024), &levels, &planes);
        let lines = tally.warnings(512);
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["1 of 1", "wide", "1344x1024", "512x512"] {
            assert!(lines[0].contains(part), "{}", lines[0]);
        }
    }
}
