//! The HDF5 files of this program: HDF5 for every other reader, with a seal for our own.
//!
//! Behind the HDF5 content, where its readers ignore them, follow a list of the data sets with
//! their places in the file, as JSON, and 40 bytes, the seal: the checksum of everything (of images
//! only the place; they have checksums of their own). [`Sealed`] compares the file with its seal
//! and then reads by the list: the HDF5 library, which loops forever, crashes or asks for any
//! amount of memory on damaged and hostile files, never opens a file that should have a seal. The
//! seal has no key, so that what it protects against is accidents; what a list claims is therefore
//! compared with the length of the file, too.

use std::{collections::BTreeMap, fmt, fs::File, io, os::unix::fs::FileExt, path::Path};

use hdf5::{
    dataset::{AllocTime, FillTime},
    file::LibraryVersion,
    types::{FixedAscii, H5Type, TypeDescriptor},
};
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result, checksum, hdf5_file};

/// Version of the format, also in the seal.
const FORMAT: u64 = 2;
const MAGIC: [u8; 8] = *b"atlas\0s2";
/// Format 1 had a seal of 32 bytes.
const MAGIC_1: [u8; 8] = *b"atlas\0s1";
const SEAL: u64 = 40;
/// Most bytes in a table that is read, and in the list of contents.
const MOST_BYTES: u64 = 1 << 30;
/// Most bytes in a file beside images, for which a checksum is computed: embeddings of two million
/// images.
const MOST_SUMMED: u64 = 1 << 34;
/// The text attribute of every sealed file, by which a file that lost its seal is known.
pub const VERSION_ATTRIBUTE: &str = "atlas_version";

/// Where a data set lies in its file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// In bytes from the start of the file.
    pub offset: u64,
    /// Bytes of one element.
    element: u64,
    pub shape: Vec<u64>,
}

impl Place {
    /// `None` where that is no number of bytes.
    fn bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.element, |bytes, n| bytes.checked_mul(*n))
    }

    /// `None` where that is beyond any file.
    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes()?)
    }
}

/// What a sealed file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    attributes: BTreeMap<String, u64>,
    tables: BTreeMap<String, Place>,
}

/// The end of a sealed file.
#[derive(Clone, Copy)]
struct Seal {
    /// Length of the list of contents, which stands before the seal.
    contents: u64,
    /// Place and length of what has checksums of its own.
    apart: [u64; 2],
}

impl Seal {
    /// xxh3 of the file up to `end` without what is apart, and of the seal itself.
    fn checksum(self, file: &File, end: u64) -> io::Result<u64> {
        let [from, bytes] = self.apart;
        let content = checksum::of_file_parts(file, &[0..from, from + bytes..end])?;
        let fields = [self.contents, from, bytes, content].map(u64::to_le_bytes);
        Ok(checksum::of(fields.as_flattened()))
    }
}

/// Why a file cannot be read by its seal.
#[derive(Debug)]
pub enum Fault {
    /// It has none.
    NoSeal,
    /// It has one of format 1.
    Earlier,
    /// It does not fit its seal.
    Damaged(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NoSeal => {
                write!(
                    f,
                    "cut short, damaged or not by this program: the seal at its end is missing"
                )
            }
            Self::Earlier => {
                write!(f, "of format 1, of an earlier version; this program reads format {FORMAT}")
            }
            Self::Damaged(what) => write!(f, "{what}"),
        }
    }
}

/// An open file that fits its seal.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    contents: Contents,
}

impl Sealed {
    /// Opens a file and compares all of it with its seal, except for images.
    ///
    /// # Errors
    /// Where the file cannot be read, or is none; in the inner result, why it is not sealed.
    pub fn open(path: &Path) -> Result<Result<Self, Fault>> {
        // A pipe would be waited for.
        if !std::fs::metadata(path).map_err(Error::io("open", path))?.is_file() {
            return Err(Error::data(path, "this is no regular file; expected an HDF5 file"));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::read(file).map_err(Error::io("read", path))
    }

    fn read(file: File) -> io::Result<Result<Self, Fault>> {
        let length = file.metadata()?.len();
        let Some(end) = length.checked_sub(SEAL) else { return Ok(Err(Fault::NoSeal)) };
        let mut bytes = [0; SEAL as usize];
        file.read_exact_at(&mut bytes, end)?;
        if bytes[..8] != MAGIC {
            let earlier = bytes[8..16] == MAGIC_1;
            return Ok(Err(if earlier { Fault::Earlier } else { Fault::NoSeal }));
        }
        let field = |i: usize| {
            u64::from_le_bytes(bytes[i * 8..(i + 1) * 8].try_into().expect("eight bytes"))
        };
        let (seal, sum) = (Seal { contents: field(1), apart: [field(2), field(3)] }, field(4));
        let damaged = |what: &str| Ok(Err(Fault::Damaged(what.into())));
        let summed = seal.apart[0].checked_add(seal.apart[1]).and_then(|after| {
            let start = end.checked_sub(seal.contents)?;
            (after <= start).then_some(end - seal.apart[1])
        });
        match summed {
            None => return damaged("its tables do not match their checksum"),
            Some(summed) if summed > MOST_SUMMED || seal.contents > MOST_BYTES => {
                return damaged("its tables are larger than this program writes them");
            }
            Some(_) if seal.checksum(&file, end)? != sum => {
                return damaged("its tables do not match their checksum");
            }
            Some(_) => {}
        }
        let start = end - seal.contents;
        let mut contents = vec![0; seal.contents as usize];
        file.read_exact_at(&mut contents, start)?;
        let Ok(contents) = serde_json::from_slice::<Contents>(&contents) else {
            return damaged("its list of contents is not one of this program");
        };
        let fits = |place: &Place| place.element > 0 && place.end().is_some_and(|e| e <= start);
        match contents.tables.iter().find(|(_, place)| !fits(place)) {
            Some((name, _)) => damaged(&format!("/{name} claims more than the file holds")),
            None => Ok(Ok(Self { file, contents })),
        }
    }

    /// The file, for reading what lies at a [`Place`].
    pub fn into_file(self) -> File {
        self.file
    }

    /// An attribute of the file.
    pub fn attribute(&self, name: &str) -> Option<u64> {
        self.contents.attributes.get(name).copied()
    }

    pub fn has(&self, table: &str) -> bool {
        self.contents.tables.contains_key(table)
    }

    /// Where a table lies, which is within the file.
    ///
    /// # Errors
    /// States that there is no such table, or none of elements of this size.
    pub fn place<T: H5Type>(&self, table: &str) -> Result<&Place, String> {
        self.find(table, Some(T::type_descriptor().size()))
    }

    fn find(&self, table: &str, element: Option<usize>) -> Result<&Place, String> {
        let place = self.contents.tables.get(table).ok_or(format!("no table /{table}"))?;
        match element {
            Some(size) if size as u64 != place.element => {
                Err(format!("/{table} has elements of {} bytes, expected {size}", place.element))
            }
            _ => Ok(place),
        }
    }

    /// The content of a table, little-endian, in the order of rows.
    ///
    /// # Errors
    /// States what is missing or of another size or shape than `shape`.
    pub fn bytes<T: H5Type>(&self, table: &str, shape: &[usize]) -> Result<Vec<u8>, String> {
        self.content(table, self.place::<T>(table)?, shape)
    }

    fn content(&self, table: &str, place: &Place, shape: &[usize]) -> Result<Vec<u8>, String> {
        if !place.shape.iter().copied().eq(shape.iter().map(|&n| n as u64)) {
            return Err(format!("/{table} is of the shape {:?}, expected {shape:?}", place.shape));
        }
        let bytes = place.bytes().filter(|&bytes| bytes <= MOST_BYTES);
        let mut content = vec![0; bytes.ok_or(format!("/{table} is too large"))? as usize];
        let read = self.file.read_exact_at(&mut content, place.offset);
        read.map_err(|e| format!("/{table} cannot be read: {e}"))?;
        Ok(content)
    }

    /// The texts of a table `[n]`.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and where one is not UTF-8.
    pub fn texts(&self, table: &str, n: usize) -> Result<Vec<String>, String> {
        let place = self.find(table, None)?;
        let bytes = self.content(table, place, &[n])?;
        let text = |padded: &[u8]| {
            let length = padded.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            String::from_utf8(padded[..length].to_vec())
        };
        let texts: Result<_, _> = bytes.chunks_exact(place.element as usize).map(text).collect();
        texts.map_err(|_| format!("/{table} holds a text that is not UTF-8"))
    }
}

/// A data set to be written.
pub struct Table<'a> {
    name: &'a str,
    element: TypeDescriptor,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl<'a> Table<'a> {
    /// `bytes` are the elements, little-endian, in the order of rows.
    pub fn new<T: H5Type>(name: &'a str, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { name, element: T::type_descriptor(), shape: shape.into(), bytes }
    }

    /// Texts of a fixed length in bytes, that of the longest, padded with zeros: those of variable
    /// length would lie in a heap of the file, on whose damage the HDF5 library loops.
    ///
    /// # Errors
    /// Where a text holds the character zero.
    pub fn of_texts(name: &'a str, texts: &[String]) -> Result<Self> {
        if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
            return Err(Error::failed(format!("/{name} cannot hold {text:?}: it contains \\0")));
        }
        let width = texts.iter().map(String::len).max().unwrap_or(0).max(1);
        let mut bytes = vec![0; texts.len() * width];
        for (place, text) in bytes.chunks_exact_mut(width).zip(texts) {
            place[..text.len()].copy_from_slice(text.as_bytes());
        }
        let element = TypeDescriptor::FixedUnicode(width);
        Ok(Self { name, element, shape: vec![texts.len()], bytes })
    }
}

/// Metadata of HDF5 1.8 and later carries its own checksums.
fn options() -> hdf5::file::FileBuilder {
    let mut options = hdf5_file::options();
    options.with_fapl(|p| p.libver_bounds(LibraryVersion::V18, LibraryVersion::V110));
    // Without times, so that equal content gives equal bytes.
    options.with_fcpl(|p| p.obj_track_times(false));
    options
}

/// Creates an HDF5 file with room for one data set, whose elements are bytes and have checksums of
/// their own; [`finish`] completes it. Returns the place.
///
/// # Errors
/// Where the file cannot be created.
pub fn create_with_room(path: &Path, name: &str, shape: &[usize]) -> Result<Place> {
    let create = || {
        let file = options().create(path)?;
        let place = allocate(&file, name, &u8::type_descriptor(), shape)?;
        file.close()?;
        Ok(place)
    };
    create()
        .map_err(|e: hdf5::Error| Error::failed(format!("cannot create {}: {e}", path.display())))
}

/// A data set in one piece, with its room in the file but without content.
fn allocate(
    file: &hdf5::Group,
    name: &str,
    element: &TypeDescriptor,
    shape: &[usize],
) -> hdf5::Result<Place> {
    let set = file
        .new_dataset_builder()
        .obj_track_times(false)
        .alloc_time(Some(AllocTime::Early))
        .fill_time(FillTime::Never)
        .empty_as(element)
        .shape(shape.to_vec())
        .create(name)?;
    let empty = shape.contains(&0); // HDF5 allocates nothing
    let offset = set.offset().or(empty.then_some(0));
    Ok(Place {
        offset: offset.ok_or(format!("HDF5 gave /{name} no place"))?,
        element: element.size() as u64,
        shape: shape.iter().map(|&n| n as u64).collect(),
    })
}

/// Writes `tables`, `attributes` and the seal to the file `path`: a new one, or, with `apart`, the
/// name and place of its data set, one of [`create_with_room`]. Syncing is left to the caller.
///
/// # Errors
/// Where the file cannot be written.
pub fn finish(
    path: &Path,
    apart: Option<(&str, &Place)>,
    tables: &[Table],
    attributes: &[(&str, u64)],
) -> Result<File> {
    let places = add(path, apart.is_some(), tables, attributes)
        .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
    let write = || -> io::Result<File> {
        let file = File::options().read(true).write(true).open(path)?;
        for (table, place) in tables.iter().zip(&places) {
            assert_eq!(Some(table.bytes.len() as u64), place.bytes(), "/{}: its shape", table.name);
            file.write_all_at(&table.bytes, place.offset)?;
        }
        let named = tables.iter().map(|table| table.name).zip(&places).chain(apart);
        let contents = Contents {
            attributes: attributes.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
            tables: named.map(|(name, place)| (name.into(), place.clone())).collect(),
        };
        let contents = serde_json::to_vec(&contents)?;
        let end = file.metadata()?.len();
        file.write_all_at(&contents, end)?;
        let end = end + contents.len() as u64;
        let apart = apart.map_or([0, 0], |(_, place)| [place.offset, place.bytes().unwrap_or(0)]);
        let seal = Seal { contents: contents.len() as u64, apart };
        let fields = [seal.contents, apart[0], apart[1], seal.checksum(&file, end)?];
        let fields = fields.map(u64::to_le_bytes);
        file.write_all_at(&[&MAGIC[..], fields.as_flattened()].concat(), end)?;
        Ok(file)
    };
    write().map_err(Error::io("write", path))
}

/// Adds data sets, still without their content, and attributes.
fn add(
    path: &Path,
    exists: bool,
    tables: &[Table],
    attributes: &[(&str, u64)],
) -> hdf5::Result<Vec<Place>> {
    let file = if exists { options().open_rw(path) } else { options().create(path) }?;
    let places = tables
        .iter()
        .map(|table| allocate(&file, table.name, &table.element, &table.shape))
        .collect::<Result<_, _>>()?;
    for (name, value) in attributes.iter().chain(&[("format_version", FORMAT)]) {
        file.new_attr::<u64>().create(*name)?.write_scalar(value)?;
    }
    let version = FixedAscii::<16>::from_ascii(env!("CARGO_PKG_VERSION"))
        .map_err(|e| hdf5::Error::from(e.to_string()))?;
    file.new_attr::<FixedAscii<16>>().create(VERSION_ATTRIBUTE)?.write_scalar(&version)?;
    // No data set or attribute is alive here: closing with one of them open would leave the file
    // short.
    file.close()?;
    Ok(places)
}
