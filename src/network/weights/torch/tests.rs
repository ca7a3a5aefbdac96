use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::*;

const GOLDEN: &[u8] = include_bytes!("../../../../tests/golden/torch/state.pth");
const OLD: &[u8] = include_bytes!("../../../../tests/golden/torch/old.pth");
/// What a training script saves beside the state dict, in pickle protocols 2 and 5.
const BESIDE: [&[u8]; 2] = [
    include_bytes!("../../../../tests/golden/torch/beside_2.pth"),
    include_bytes!("../../../../tests/golden/torch/beside_5.pth"),
];

/// Every tensor under its own name.
fn all(names: &[String]) -> Choice {
    names.iter().cloned().enumerate().collect()
}

fn archive(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(
            format!("x/{name}"),
            SimpleFileOptions::default().compression_method(method),
        )
        .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    let long = |n: &i64| [&[0x8a, 8][..], &n.to_le_bytes()].concat();
    [&b"("[..], &numbers.iter().flat_map(long).collect::<Vec<_>>(), b"t"].concat()
}

/// `{"w": tensor}` of a storage of f32, as torch.save would write it.
fn pickle(len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let one = |n| ints(&[n])[1..11].to_vec();
    [
        b"\x80\x02}".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        one(len),
        b"tQ".to_vec(),
        one(offset),
        ints(size),
        ints(stride),
        b"\x89NtRs.".to_vec(),
    ]
    .concat()
}

fn stored(pickle: &[u8], data: &[u8]) -> Vec<u8> {
    archive(&[("data.pkl", pickle), ("data/0", data)], CompressionMethod::Stored)
}

#[test]
fn a_view_is_read_as_in_python() {
    let data: Vec<u8> = (0..12u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let read = tensors(&stored(&pickle(12, 1, &[3, 2], &[1, 5]), &data), all).unwrap();
    let values: Vec<f32> = Vec::try_from(read["w"].contiguous().view([-1])).unwrap();
    assert_eq!(values, [1.0, 6.0, 2.0, 7.0, 3.0, 8.0]);
}

#[test]
fn a_state_dict_is_found_among_values_that_are_not_tensors() {
    let expected = tensors(GOLDEN, all).unwrap();
    for bytes in BESIDE {
        let mut others = Vec::new();
        let read = tensors(bytes, |names| {
            let short = |name: &String| name.strip_prefix("state_dict.").map(String::from);
            others = names.iter().filter(|name| short(name).is_none()).cloned().collect();
            let names = names.iter().enumerate();
            names.filter_map(|(i, name)| Some((i, short(name)?))).collect()
        });
        let read = read.unwrap();
        assert!(read.keys().eq(expected.keys()), "{:?}", read.keys());
        assert!(read.iter().all(|(name, tensor)| tensor.equal(&expected[name])));
        // Tensors of other kinds are there by name, and the same dictionary is not there again.
        assert_eq!(others, ["eight", "sparse", "complexes"]);
    }
}

/// Dictionaries within each other: without end, twice each, under long names.
#[test]
fn dictionaries_that_multiply_are_read_once() {
    let deep = |n: usize| {
        let open = [b"}".to_vec(), text("k")].concat().repeat(n);
        [&b"\x80\x02"[..], &open, b"}", &b"s".repeat(n), b"."].concat()
    };
    let itself = [&b"\x80\x02}q\x00"[..], &text("k"), b"h\x00s."].concat();
    // Each dictionary holds the one before it twice: 2^60 ways to the innermost.
    let mut twice = b"\x80\x02}q\x00".to_vec();
    for _ in 0..60 {
        let entries = [text("a"), b"h\x00".to_vec(), text("b"), b"h\x00".to_vec()].concat();
        twice.extend([&b"}("[..], &entries, b"uq\x00"].concat());
    }
    twice.push(b'.');
    for pickle in [deep(200_000), itself, twice] {
        let e = tensors(&stored(&pickle, &[]), all).unwrap_err();
        assert!(e.contains("dictionary of tensors"), "{e}");
    }
    let long = [&b"\x80\x02}"[..], &text(&"k".repeat(1 << 20)), b"}", &text("a"), b"}ss."].concat();
    assert!(tensors(&stored(&long, &[]), all).is_err());
}

#[test]
fn an_old_file_with_wrong_sizes_is_refused() {
    assert!(tensors(OLD, all).is_ok());
    let end = OLD.len();
    for cut in [end - 1, end - 100, 40, 14] {
        assert!(tensors(&OLD[..cut], all).is_err(), "{cut}");
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let data = [0; 48];
    const MANY: i64 = i64::MAX;
    for (len, offset, size, stride) in [
        (13, 0, &[12][..], &[1][..]),
        (-1, 0, &[12], &[1]),
        (12, 1, &[12], &[1]),
        (12, -1, &[2], &[1]),
        (12, 0, &[2, 7], &[6, 1]),
        (12, 0, &[-2], &[1]),
        (12, 0, &[2], &[-1]),
        (12, 0, &[1 << 40], &[0]),
        (12, 0, &[MANY, MANY], &[MANY, MANY]),
        (12, MANY, &[0], &[1]),
        (12, 0, &[-1, 0], &[1, 1]),
        (12, 0, &[2, 2], &[1]),
        (12, 0, &[0, MANY], &[1, 1]),
        (12, 0, &[0, MANY / 2, MANY / 2], &[1, 1, 1]),
    ] {
        let e = tensors(&stored(&pickle(len, offset, size, stride), &data), all).unwrap_err();
        assert!(e.contains("tensor `w`"), "{len} {offset} {size:?} {stride:?}: {e}");
    }
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let (good, data) = (pickle(12, 0, &[12], &[1]), [0; 48]);
    let refused = |bytes: &[u8], what: &str| {
        let e = read(Path::new("a.pth"), bytes, all).unwrap_err();
        assert!(
            e.exit_code() == 65 && e.to_string().contains("a.pth") && e.to_string().contains(what),
            "{what}: {e}"
        );
    };
    // A zip bomb needs compression: stored content cannot be larger than the file.
    let large = vec![0; 1 << 20];
    let bomb = archive(&[("data.pkl", &good), ("data/0", &large)], CompressionMethod::Deflated);
    refused(&bomb, "compressed");
    refused(&archive(&[("data/0", &data)], CompressionMethod::Stored), "data.pkl");
    refused(&archive(&[("data.pkl", &good)], CompressionMethod::Stored), "data/0");
    let big: [(&str, &[u8]); 3] = [("byteorder", b"big"), ("data.pkl", &good), ("data/0", &data)];
    refused(&archive(&big, CompressionMethod::Stored), "big-endian");
    refused(&stored(b"\x80\x02]q\x00.", &data), "dictionary");
    refused(&stored(b"\x80\x02cos\nsystem\n)R.", &data), "`os.system`");
    refused(&stored(&pickle(12, 0, &[1; 9], &[1; 9]), &data), "_rebuild_tensor_v2");
    refused(b"PK\x03\x04", "zip");
    // Many names for one storage are fine until together they are larger than the file.
    let large = pickle(3000, 0, &[3000], &[1]);
    let entry = &large[9..large.len() - 1];
    let many: Vec<u8> =
        (0..60).flat_map(|i| [text(&i.to_string()), entry.to_vec()].concat()).collect();
    let many = [&b"\x80\x02}"[..], &many, b"."].concat();
    refused(&stored(&many, &vec![0; 12_000]), "larger than the file");
}

/// The golden file's pickle and storages, so that a change is not detected by the zip's checksums.
fn parts() -> Vec<(String, Vec<u8>)> {
    let mut zip = ZipArchive::new(Cursor::new(GOLDEN)).unwrap();
    let mut parts = Vec::new();
    for i in 0..zip.len() {
        let mut file = zip.by_index(i).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        parts.push((file.name().unwrap().split_once('/').unwrap().1.to_string(), bytes));
    }
    parts
}

proptest! {
    #[test]
    fn a_damaged_pickle_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut parts = parts();
        let pickle = &mut parts.iter_mut().find(|p| p.0 == "data.pkl").unwrap().1;
        for (at, byte) in changes {
            let at = at.index(pickle.len());
            pickle[at] = byte;
        }
        let files: Vec<(&str, &[u8])> = parts.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
        let _ = tensors(&archive(&files, CompressionMethod::Stored), all);
    }

    #[test]
    fn a_damaged_file_never_panics(
        of in prop::sample::select(vec![GOLDEN, OLD, BESIDE[0], BESIDE[1]]),
        at in any::<prop::sample::Index>(),
        byte: u8,
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = of.to_vec();
        let (at, end) = (at.index(bytes.len()), end.index(bytes.len()));
        bytes[at] = byte;
        let _ = tensors(&bytes, all);
        let _ = tensors(&bytes[..end], all);
    }
}
