//! Images that a user uploads: checked, resized as in the shards, the last few kept in memory.

use std::{collections::VecDeque, path::Path};

use super::stores::SampleImage;
use crate::{
    base::{Error, Result},
    data::{
        image::{self, Encoded, Plane},
        manifest::CHANNELS,
        phash::phash,
        shard::interleaved,
    },
};

/// Most bytes of all files of an upload.
pub const MOST_BYTES: usize = 64 << 20;
/// Largest width or height in pixels.
pub const MOST_PIXELS: u32 = 4096;
/// Uploads that are kept.
const KEPT: usize = 8;

/// A file as received.
pub struct UploadedFile {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// An uploaded sample.
pub struct Upload {
    pub image: SampleImage,
    /// Hashes of the channels at their own size, as in the shards.
    pub hashes: [u64; 4],
}

/// The last few uploads, by number.
#[derive(Default)]
pub struct Uploads {
    next: u64,
    kept: VecDeque<(u64, Upload)>,
}

impl Uploads {
    /// Keeps an upload instead of the oldest one if there are too many; returns its number.
    pub fn add(&mut self, upload: Upload) -> u64 {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.next += 1;
        self.kept.push_back((self.next, upload));
        self.next
    }

    /// # Errors
    /// Usage where the upload is no longer kept.
    pub fn find(&self, number: u64) -> Result<&Upload> {
        let found = self.kept.iter().find(|(n, _)| *n == number);
        found.map(|(_, upload)| upload).ok_or_else(forgotten)
    }
}

pub fn forgotten() -> Error {
    Error::usage(format!(
        "this upload was forgotten, as only the last {KEPT} are kept; drop the images again"
    ))
}

/// Reads four gray images with their channels in their names, or one colour image; resizes to
/// `size` pixels. Refuses images with a side above `max_side` (`preprocess.max_pixels_side`) or
/// [`MOST_PIXELS`].
///
/// # Errors
/// Usage or data, naming the file and what is wrong with it: the user sees the message.
pub fn read(files: Vec<UploadedFile>, max_side: u32, size: usize) -> Result<Upload> {
    let planes = match &files[..] {
        [file] => open(file, max_side)?.rgby()?,
        [_, _, _, _] => {
            let of = |channel: usize| -> Result<Plane> {
                let mut named = files.iter().filter(|f| channel_of(&f.name) == Some(channel));
                match (named.next(), named.next()) {
                    (Some(file), None) => Ok(open(file, max_side)?.channel(channel)?.whole()),
                    _ => Err(Error::usage(format!(
                        "one of the four names has to end in _{}, such as cells_{0}.png; the \
                            others in the other colours",
                        CHANNELS[channel]
                    ))),
                }
            };
            [of(0)?, of(1)?, of(2)?, of(3)?]
        }
        _ => {
            return Err(Error::usage(format!(
                "{} files; expected four (red, green, blue, yellow) or one colour image",
                files.len()
            )));
        }
    };
    let size_of = |plane: &Plane| format!("{}x{} pixels", plane.width, plane.height);
    let red = size_of(&planes[0]);
    let mut others = planes.iter().zip(CHANNELS);
    if let Some((plane, channel)) = others.find(|&(plane, _)| size_of(plane) != red) {
        let what = format!("{channel} has {}, but red has {red}", size_of(plane));
        return Err(Error::usage(what));
    }
    let hashes = planes.each_ref().map(phash);
    let planes = planes.map(|plane| image::resize(&plane, size).pixels);
    Ok(Upload { image: SampleImage { size, pixels: interleaved(&planes) }, hashes })
}

fn open<'a>(file: &'a UploadedFile, max_side: u32) -> Result<Encoded<'a>> {
    let encoded = Encoded::new(Path::new(&file.name), file.bytes.clone(), max_side)?;
    let (width, height) = encoded.dimensions();
    if width.max(height) > MOST_PIXELS {
        return Err(Error::data(
            &file.name,
            format!("{width}x{height} pixels; at most {MOST_PIXELS} a side can be dropped here"),
        ));
    }
    Ok(encoded)
}

/// The channel that a file's name ends in, ignoring its extensions.
fn channel_of(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    CHANNELS.iter().position(|channel| name.split('.').any(|part| part.ends_with(channel)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::contact_sheet::encode_png;

    const MAX_SIDE: u32 = 16384;

    fn gray(name: &str, side: usize, value: u8) -> UploadedFile {
        UploadedFile {
            name: name.into(),
            bytes: encode_png(&vec![value; side * side], side, side, png::ColorType::Grayscale)
                .unwrap(),
        }
    }

    fn refused(files: Vec<UploadedFile>, parts: &[&str]) {
        let e = read(files, MAX_SIDE, 8).err().unwrap().to_string();
        assert!(parts.iter().all(|part| e.contains(part)), "{e}: {parts:?}");
    }

    #[test]
    fn four_images_in_any_order_are_one_sample() {
        let names = ["a.v2_yellow.png", "B_Blue.tif.gz", "a_red.x", "green.png"];
        let files = names.iter().zip(1..).map(|(name, v)| gray(name, 16, v)).collect();
        let upload = read(files, MAX_SIDE, 8).unwrap();
        assert_eq!(upload.image.pixels.len(), 8 * 8 * 4);
        assert!(upload.image.pixels.chunks(4).all(|p| p == [3, 4, 2, 1]));
    }

    #[test]
    fn one_colour_image_is_hashed_by_its_planes() {
        let rgb: Vec<u8> = (0..16 * 16 * 3).map(|i| (i * i % 251) as u8).collect();
        let bytes = encode_png(&rgb, 16, 16, png::ColorType::Rgb).unwrap();
        let upload =
            read(vec![UploadedFile { name: "a.png".into(), bytes }], MAX_SIDE, 16).unwrap();
        for c in 0..3 {
            let pixels: Vec<u8> = rgb.iter().skip(c).step_by(3).copied().collect();
            assert!(upload.image.pixels.iter().skip(c).step_by(4).eq(&pixels));
            assert_eq!(upload.hashes[c], phash(&Plane { width: 16, height: 16, pixels }));
        }
    }

    #[test]
    fn wrong_files_are_named() {
        let four = |third: UploadedFile| {
            vec![gray("red.png", 8, 1), gray("green.png", 8, 1), third, gray("yellow.png", 8, 1)]
        };
        refused(vec![], &["0 files"]);
        refused(vec![gray("a.png", 8, 1)], &["a.png: "]);
        refused(four(gray("red2.png", 8, 1)), &["_blue"]);
        refused(four(gray("x_red.png", 8, 1)), &["_red"]);
        refused(four(gray("blue.png", 9, 1)), &["blue", "9x9", "red", "8x8"]);
        refused(
            four(UploadedFile { name: "blue.png".into(), bytes: b"<script>".to_vec() }),
            &["blue.png: "],
        );
        let mut cut = gray("blue.png", 64, 1);
        cut.bytes.truncate(60);
        refused(four(cut), &["blue.png: ", "PNG"]);
        let panics = crate::data::image::tests::broken_palette();
        refused(
            four(UploadedFile { name: "blue.png".into(), bytes: panics }),
            &["blue.png: ", "broken PNG"],
        );
        refused(vec![gray("a.png", 4097, 1)], &["a.png: ", "4097x4097", "4096"]);
    }

    #[test]
    fn old_uploads_are_forgotten() {
        let mut uploads = Uploads::default();
        let upload =
            || Upload { image: SampleImage { size: 1, pixels: vec![0; 4] }, hashes: [0; 4] };
        let numbers: Vec<u64> = (0..KEPT + 2).map(|_| uploads.add(upload())).collect();
        assert!(
            numbers[..2].iter().all(|&n| uploads.find(n).is_err())
                && numbers[2..].iter().all(|&n| uploads.find(n).is_ok())
        );
    }
}
