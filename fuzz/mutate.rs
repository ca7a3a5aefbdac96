//! Inputs: the files of a target's corpus as they are, then mutations of them. Bits and bytes
//! change, numbers become those at the ends of their ranges, pieces are cut, moved, repeated and
//! taken from other files, sectors become zero, the end is missing.

use atlas::base::{checksum, rng::Rng};
use rand::{RngExt, SeedableRng};

use crate::{corpus::Corpus, targets::Target};

/// Longest input that mutation makes.
const LONGEST: usize = 1 << 21;

/// Share of the inputs whose checksums are made right again, where the target can do that: others
/// end at the first checksum.
const REPAIRED: f64 = 0.5;

/// What readers of text trip over.
const WORDS: [&str; 40] = [
    "0",
    "-1",
    "1",
    "28",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "-1e999",
    "NaN",
    "inf",
    "1e-400",
    "0x10",
    "+1",
    "1_000",
    "null",
    "true",
    "\"",
    "\"\"",
    "\\",
    "\\u0000",
    "\u{feff}",
    "\u{0}",
    "\r\n",
    "\n",
    "\r",
    ",",
    ";",
    "\t",
    " ",
    "\u{a0}",
    "\u{202e}",
    "é",
    "../../etc/passwd",
    "{\"a\":[[[[[[[[",
];

/// Input number `index` of a target.
pub fn input(target: &Target, corpus: &Corpus, seed: u64, index: u64) -> Vec<u8> {
    let files = &corpus.files;
    if let Some(file) = usize::try_from(index).ok().and_then(|i| files.get(i)) {
        return file.clone();
    }
    let parts = [&seed.to_le_bytes()[..], target.name.as_bytes(), &index.to_le_bytes()];
    let mut rng = Rng::seed_from_u64(checksum::of_parts(parts));
    let mut bytes = files[rng.random_range(0..files.len())].clone();
    let is_text = std::str::from_utf8(&bytes).is_ok();
    // Mostly few changes, sometimes many.
    let changes = 1 + (rng.random_range(0.0..1.0f64).powi(3) * 16.0) as usize;
    for _ in 0..changes {
        match is_text && rng.random_bool(0.4) {
            true => change_text(&mut bytes, target.words, &mut rng),
            false => change(&mut bytes, files, &mut rng),
        }
        bytes.truncate(LONGEST);
    }
    if let Some(repair) = target.repair.filter(|_| rng.random_bool(REPAIRED)) {
        repair(&mut bytes);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, files: &[Vec<u8>], rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.extend_from_slice(&files[rng.random_range(0..files.len())]);
        return;
    }
    let at = place(bytes.len(), rng);
    match rng.random_range(0..12) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => put_number(&mut bytes[at..], extreme(rng), rng),
        3 => add_to_number(&mut bytes[at..], rng),
        4 => drop(bytes.drain(piece(bytes.len(), at, rng))),
        5 => {
            let copied = bytes[piece(bytes.len(), at, rng)].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, copied);
        }
        6 => {
            let from = bytes[piece(bytes.len(), at, rng)].to_vec();
            let to = rng.random_range(0..bytes.len());
            for (b, v) in bytes[to..].iter_mut().zip(from) {
                *b = v;
            }
        }
        7 => {
            let other = &files[rng.random_range(0..files.len())];
            let tail = rng.random_range(0..=other.len());
            bytes.splice(at.., other[tail..].iter().copied());
        }
        8 => bytes.truncate(at),
        9 => {
            let sector = at / 512 * 512;
            let end = bytes.len().min(sector + 512);
            bytes[sector..end].fill(0);
        }
        10 => {
            let span = piece(bytes.len(), at, rng);
            bytes[span].fill([0, 0xff, b' ', rng.random()][rng.random_range(0..4)]);
        }
        _ => {
            let span = at..bytes.len().min(at + rng.random_range(1..64));
            let times = 1 << rng.random_range(1..13);
            let repeated = bytes[span.clone()].repeat(times);
            bytes.splice(span, repeated);
        }
    }
}

/// A place, often near the start, where headers are, or the end.
fn place(length: usize, rng: &mut Rng) -> usize {
    let near = length.min([64, 4096][rng.random_range(0..2)]);
    match rng.random_range(0..4) {
        0 => rng.random_range(0..near),
        1 => length - 1 - rng.random_range(0..near),
        _ => rng.random_range(0..length),
    }
}

/// From `at` on, mostly short.
fn piece(length: usize, at: usize, rng: &mut Rng) -> std::ops::Range<usize> {
    let longest = (length - at).min(1 << rng.random_range(0..14));
    at..at + rng.random_range(1..=longest)
}

/// A number at the end of some range.
fn extreme(rng: &mut Rng) -> u64 {
    let power = 1u64 << rng.random_range(0..64);
    [0, u64::MAX, power, power - 1, power.wrapping_neg(), rng.random()][rng.random_range(0..6)]
}

/// Writes `value` in one to eight bytes, in either order.
fn put_number(bytes: &mut [u8], value: u64, rng: &mut Rng) {
    let size = (1 << rng.random_range(0..4)).min(bytes.len());
    let mut little = value.to_le_bytes()[..size].to_vec();
    if rng.random() {
        little.reverse();
    }
    bytes[..size].copy_from_slice(&little);
}

/// Adds a small number to one of one to eight bytes, in either order.
fn add_to_number(bytes: &mut [u8], rng: &mut Rng) {
    let size = (1 << rng.random_range(0..4)).min(bytes.len());
    let (mut number, big) = ([0; 8], rng.random());
    number[..size].copy_from_slice(&bytes[..size]);
    if big {
        number[..size].reverse();
    }
    let step = rng.random_range(-16i64..=16);
    number = u64::from_le_bytes(number).wrapping_add_signed(step).to_le_bytes();
    if big {
        number[..size].reverse();
    }
    bytes[..size].copy_from_slice(&number[..size]);
}

/// Puts a word in the place of a number or name, or between them; or repeats or drops a line.
fn change_text(bytes: &mut Vec<u8>, words: &[&str], rng: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    let begin = bytes[..at].iter().rposition(|b| !is_part(b)).map_or(0, |i| i + 1);
    let end = bytes[at..].iter().position(|b| !is_part(b)).map_or(bytes.len(), |i| at + i);
    let all = WORDS.len() + words.len();
    let number = rng.random_range(0..all);
    let word = WORDS.get(number).unwrap_or_else(|| &words[number - WORDS.len()]).as_bytes();
    let line = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let next = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |i| at + i + 1);
    match rng.random_range(0..4) {
        0 | 1 => drop(bytes.splice(begin..end.max(begin), word.iter().copied())),
        2 => drop(bytes.splice(at..at, word.iter().copied())),
        _ => {
            let times = [0, 2, 3, 1000][rng.random_range(0..4)];
            let repeated = bytes[line..next].repeat(times.min(LONGEST / (next - line).max(1)));
            bytes.splice(line..next, repeated);
        }
    }
}
