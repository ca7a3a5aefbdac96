//! The tags of a TIFF. Nothing is read beyond the bytes of the file, and memory only taken for a
//! number of values that an image can have.

use super::fault::broken;

/// The tags that are looked at.
pub mod tag {
    pub const NEW_SUBFILE_TYPE: u16 = 254;
    pub const SUBFILE_TYPE: u16 = 255;
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const DESCRIPTION: u16 = 270;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_LENGTHS: u16 = 279;
    pub const PLANAR: u16 = 284;
    pub const PREDICTOR: u16 = 317;
    pub const COLOUR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_LENGTHS: u16 = 325;
    pub const SUB_IFDS: u16 = 330;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const IMAGE_DEPTH: u16 = 32997;
    /// MetaMorph's stacks: its count is that of the planes.
    pub const UIC2: u16 = 33629;
}

/// Most values of a tag that is read as numbers: strips or tiles, or colours of a palette.
pub const MOST_VALUES: u64 = 1 << 20;
/// libtiff takes a directory with more for damaged.
const MOST_ENTRIES: u64 = 4096;

#[derive(Clone, Copy)]
pub struct File<'a> {
    pub bytes: &'a [u8],
    pub big_endian: bool,
    /// BigTIFF: offsets and counts of 8 bytes.
    big: bool,
}

/// The tags of an image.
pub struct Directory<'a> {
    file: File<'a>,
    entries: Vec<Entry>,
    /// Where the next one lies; 0: this is the last.
    pub next: u64,
}

struct Entry {
    tag: u16,
    kind: u64,
    count: u64,
    /// Where its values lie.
    at: u64,
}

impl<'a> File<'a> {
    /// The file, and where its first directory lies.
    pub fn open(bytes: &'a [u8]) -> Result<(Self, u64), String> {
        let (big_endian, big) = match bytes {
            [b'I', b'I', 42, 0, ..] => (false, false),
            [b'M', b'M', 0, 42, ..] => (true, false),
            [b'I', b'I', 43, 0, 8, 0, 0, 0, ..] => (false, true),
            [b'M', b'M', 0, 43, 0, 8, 0, 0, ..] => (true, true),
            _ => return Err(broken("its first bytes are not those of a TIFF")),
        };
        let file = Self { bytes, big_endian, big };
        let first = if big { file.integer(8, 8) } else { file.integer(4, 4) }?;
        Ok((file, first))
    }

    /// `length` bytes at `at`.
    pub fn slice(&self, at: u64, length: u64) -> Result<&'a [u8], String> {
        let range = at
            .checked_add(length)
            .and_then(|end| self.bytes.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?));
        range.ok_or_else(|| {
            let all = self.bytes.len();
            broken(format!("{length} bytes at {at} are missing, the file has {all}"))
        })
    }

    /// An unsigned integer of `length` bytes, 1 to 8, in the file's order.
    pub fn integer(&self, at: u64, length: u64) -> Result<u64, String> {
        let bytes = self.slice(at, length)?;
        let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        Ok(if self.big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        })
    }

    pub fn directory(self, at: u64) -> Result<Directory<'a>, String> {
        let (length_of_count, length, offset) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let n = self.integer(at, length_of_count)?;
        if n > MOST_ENTRIES {
            return Err(broken(format!("a directory at {at} claims {n} tags")));
        }
        let first = at + length_of_count;
        self.slice(first, n * length + offset)?;
        let entry = |i: u64| {
            let at = first + i * length;
            let (kind, count) = (self.integer(at + 2, 2)?, self.integer(at + 4, offset)?);
            let value = at + 4 + offset;
            let fits = count.checked_mul(size(kind)).is_some_and(|bytes| bytes <= offset);
            let at_value = if fits { value } else { self.integer(value, offset)? };
            Ok(Entry { tag: self.integer(at, 2)? as u16, kind, count, at: at_value })
        };
        let entries = (0..n).map(entry).collect::<Result<_, String>>()?;
        Ok(Directory { file: self, entries, next: self.integer(first + n * length, offset)? })
    }
}

impl<'a> Directory<'a> {
    fn find(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    pub fn has(&self, tag: u16) -> bool {
        self.find(tag).is_some()
    }

    /// How many values it has; 0 where it is missing.
    pub fn count(&self, tag: u16) -> u64 {
        self.find(tag).map_or(0, |entry| entry.count)
    }

    /// Its first value as an unsigned integer.
    pub fn number(&self, tag: u16, default: u64) -> Result<u64, String> {
        match self.find(tag) {
            Some(entry) if entry.count > 0 => {
                self.file.integer(entry.at, integer_size(tag, entry.kind)?)
            }
            _ => Ok(default),
        }
    }

    /// All its values as unsigned integers; empty where it is missing.
    pub fn numbers(&self, tag: u16) -> Result<Vec<u64>, String> {
        let Some(entry) = self.find(tag) else { return Ok(Vec::new()) };
        let size = integer_size(tag, entry.kind)?;
        self.bytes(tag)?; // all of them are there
        if entry.count > MOST_VALUES {
            return Err(broken(format!("tag {tag} claims {} values", entry.count)));
        }
        (0..entry.count).map(|i| self.file.integer(entry.at + i * size, size)).collect()
    }

    /// 1 to 8; other values mean nothing.
    pub fn orientation(&self) -> Result<u8, String> {
        let value = self.number(tag::ORIENTATION, 1)?;
        Ok(if (1..=8).contains(&value) { value as u8 } else { 1 })
    }

    /// Its values as they are in the file; empty where it is missing.
    pub fn bytes(&self, tag: u16) -> Result<&'a [u8], String> {
        let Some(entry) = self.find(tag) else { return Ok(&[]) };
        self.file.slice(entry.at, entry.count.saturating_mul(size(entry.kind)))
    }
}

/// The orientation in EXIF data, which are a TIFF without an image; 1 where they have none.
pub fn exif_orientation(exif: &[u8]) -> u8 {
    let found = File::open(exif)
        .and_then(|(file, first)| file.directory(first))
        .and_then(|directory| directory.orientation());
    found.unwrap_or(1)
}

/// Bytes of a value of a type.
fn size(kind: u64) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 1,
    }
}

fn integer_size(tag: u16, kind: u64) -> Result<u64, String> {
    match kind {
        1 | 3 | 4 | 13 | 16 | 18 => Ok(size(kind)),
        _ => {
            Err(broken(format!("tag {tag} has values of type {kind}, expected unsigned integers")))
        }
    }
}
