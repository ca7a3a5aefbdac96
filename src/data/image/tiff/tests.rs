//! Against the files of tests/golden/tiff.zip, which tests/golden/tiff.py makes.

use std::{
    io::{Cursor, Read},
    path::Path,
    sync::LazyLock,
};

use proptest::prelude::*;
use serde::Deserialize;

use crate::data::image::Encoded;

const GOLDEN: &[u8] = include_bytes!("../../../../tests/golden/tiff.zip");

#[derive(Deserialize)]
struct Case {
    name: String,
    bytes: usize,
    width: Option<usize>,
    height: Option<usize>,
    red: String,
    green: String,
    blue: String,
    refused: String,
}

static CASES: LazyLock<Vec<(Case, Vec<u8>)>> = LazyLock::new(|| {
    let mut zip = zip::ZipArchive::new(Cursor::new(GOLDEN)).unwrap();
    let mut content = |name: &str| {
        let mut bytes = Vec::new();
        zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let (files, table) = (content("files"), content("expected.csv"));
    let mut rest = &files[..];
    let cases: Vec<Case> =
        csv::Reader::from_reader(&table[..]).deserialize().map(Result::unwrap).collect();
    let with_file = |case: Case| {
        let (file, after) = rest.split_at(case.bytes);
        rest = after;
        (case, file.to_vec())
    };
    cases.into_iter().map(with_file).collect()
});

fn open<'a>(name: &'a str, bytes: &[u8]) -> crate::Result<Encoded<'a>> {
    Encoded::new(Path::new(name), bytes.to_vec(), 4096)
}

#[test]
fn every_kind_is_read_as_tifffile_and_libtiff_read_it() {
    let mut read = 0;
    for (case, bytes) in CASES.iter().filter(|(case, _)| case.refused.is_empty()) {
        for (c, want) in [&case.red, &case.green, &case.blue].into_iter().enumerate() {
            let encoded = open(&case.name, bytes).unwrap_or_else(|e| panic!("{e}"));
            let (width, height) = encoded.dimensions();
            let plane = encoded.channel(c).unwrap_or_else(|e| panic!("{e}")).whole();
            let sides = [plane.width, plane.height];
            assert_eq!(sides.map(Some), [case.width, case.height], "{}", case.name);
            assert_eq!(sides, [width as usize, height as usize], "{}", case.name);
            let mut crc = flate2::Crc::new();
            crc.update(&plane.pixels);
            assert_eq!(format!("{:08x}", crc.sum()), **want, "{}, channel {c}", case.name);
        }
        read += 1;
    }
    assert!(read >= 250, "{read}");
}

/// What is right but not read is not called broken.
#[test]
fn what_is_refused_is_called_by_its_name() {
    let all = CASES.iter().filter(|(case, _)| !case.refused.is_empty());
    let wrong = all.clone().filter_map(|(case, bytes)| {
        let Some(e) = open(&case.name, bytes).and_then(|e| e.channel(0)).err() else {
            return Some(format!("{} was read", case.name));
        };
        let text = e.to_string();
        let right = e.exit_code() == 65
            && text.starts_with(&format!("{}: ", case.name))
            && case.refused.split('|').all(|word| text.contains(word))
            && text.contains("broken") == case.refused.contains("broken")
            && !text.contains("internal fault")
            && text.lines().count() == 1;
        (!right).then(|| format!("{text} (expected {})", case.refused))
    });
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0]);
    assert!(all.count() >= 50);
}

/// Values that fit into no 32 bits, and a tag with more values than an image can have.
#[test]
fn sizes_that_no_image_has_are_refused() {
    let tiff = |width: u32, tile_width: u64, bits: u32| {
        let mut bytes = [&b"II*\0"[..], &8u32.to_le_bytes(), &8u16.to_le_bytes()].concat();
        let (short, long, long8) = (3, 4, 16);
        for (tag, kind, count, value) in [
            (256u16, long, 1u32, width),
            (257, long, 1, 1),
            (258, short, bits, if bits > 1 { 0 } else { 8 }),
            (262, short, 1, 1),
            (322, long8, 1, 110),
            (323, long, 1, 1),
            (324, long, 1, 118),
            (325, long, 1, 1),
        ] {
            let entry = [&tag.to_le_bytes()[..], &u16::to_le_bytes(kind), &count.to_le_bytes()];
            bytes.extend([&entry.concat()[..], &value.to_le_bytes()].concat());
        }
        bytes.extend([0; 4]);
        assert_eq!(bytes.len(), 110);
        bytes.extend(tile_width.to_le_bytes());
        bytes.resize(bytes.len() + 2 * bits as usize, 1);
        bytes
    };
    let refused = |bytes: &[u8]| {
        let e = Encoded::new(Path::new("a.tif"), bytes.to_vec(), u32::MAX).err().unwrap();
        assert!(!e.to_string().contains("internal fault"), "{e}");
        e.to_string()
    };
    assert!(open("a.tif", &tiff(1, 1, 1)).is_ok());
    assert!(refused(&tiff(u32::MAX, 1 << 32, 1)).contains("tiles of 4294967296x1"));
    assert!(refused(&tiff(1, 1, (1 << 20) + 1)).contains("1048577 values"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the bytes, reading answers, and not because a panic was caught.
    #[test]
    fn damaged_files_never_panic(
        file in 0..CASES.len(),
        changes in proptest::collection::vec((0..4000usize, any::<u8>()), 1..4),
        cut in 0..4000usize,
    ) {
        let (case, bytes) = &CASES[file];
        let (mut bytes, n) = (bytes.clone(), bytes.len());
        for (at, value) in changes {
            bytes[at % n] = value;
        }
        bytes.truncate(n - if cut % 4 == 0 { cut % n } else { 0 });
        match open(&case.name, &bytes).and_then(|e| e.channel(0)) {
            Ok(channel) => {
                let plane = channel.whole();
                prop_assert_eq!(plane.pixels.len(), plane.width * plane.height);
            }
            Err(e) => prop_assert!(!e.to_string().contains("internal fault"), "{e}"),
        }
    }
}
