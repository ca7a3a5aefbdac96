//! Predictions that another program wrote as HDF5.
//!
//! On damaged and hostile files the HDF5 library loops forever, crashes or asks for any amount of
//! memory, and the format has no checksum that would tell beforehand. A second process of this
//! program, with limits on its time and memory, therefore reads the file and hands back plain
//! numbers.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use hdf5::{
    Dataset, LinkType,
    dataset::Layout,
    types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode},
};
use ndarray::Array2;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result, hdf5_file, sealed_hdf5::VERSION_ATTRIBUTE};

/// The first argument of the second process; the second one is the file.
const READ: &str = "read-foreign-predictions";
/// Bytes of the data segment of the second process.
const MOST_MEMORY: u64 = 1 << 30;
/// 1.2 million samples.
const MOST_NUMBERS: usize = 1 << 25;
/// Length of an id in bytes.
const LONGEST_ID: usize = 1024;
/// Of all ids, as JSON.
const MOST_TEXT: u64 = 1 << 28;

/// The content of an HDF5 file with `/probabilities` and optionally `/ids`.
pub struct Hdf5 {
    pub ids: Option<Vec<String>>,
    /// `[n, columns]`
    pub values: Array2<f64>,
    /// Whether the file holds numbers of at most 32-bit float precision.
    pub single: bool,
    /// Only in files of this program.
    pub source: Option<u64>,
    /// Only in files of this program, before predictions had a seal.
    pub checksum: Option<u64>,
}

/// What the second process hands back, as a line of JSON; the numbers follow in binary.
#[derive(Serialize, Deserialize)]
struct Header {
    ids: Option<Vec<String>>,
    shape: (usize, usize),
    single: bool,
    source: Option<u64>,
    checksum: Option<u64>,
}

/// Whether [`answer_if_asked`] was called, so that the program can be its own second process.
static CAN_ANSWER: AtomicBool = AtomicBool::new(false);

/// Whether [`read_in_forks`] was called.
static FORKS: AtomicBool = AtomicBool::new(false);

/// Makes [`read`] fork this process instead of starting the program anew, which takes a hundredth
/// of the time: for a program that reads a great many files, as `make fuzz` does.
///
/// # Safety
/// While a file is read, no other thread may hold a lock that reading needs.
pub unsafe fn read_in_forks() {
    FORKS.store(true, Relaxed);
}

/// A program calls this first in its `main`: where it is the second process, the file is read and
/// the process ends here. In a program that does not call it, files are read without limits.
pub fn answer_if_asked() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(READ)) {
        return CAN_ANSWER.store(true, Relaxed);
    }
    answer_and_end(Path::new(&arguments.next().unwrap_or_default()));
}

/// All that the second process does.
fn answer_and_end(path: &Path) -> ! {
    let answered = limit(path).and_then(|()| answer(&open(path)));
    // SAFETY: ends the process; everything is written, and nothing of a fork's origin is to be run.
    unsafe { libc::_exit(i32::from(answered.is_err())) }
}

/// Of CPU time: five with the start of the program, and one more for every 16 MB of the file.
fn seconds(length: u64) -> u64 {
    5 + (length >> 24)
}

fn limit(path: &Path) -> io::Result<()> {
    let least = |resource, wanted: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let of = |limit: u64| Some(limit.min(most));
        // One more in the hard limit: where the soft one is reached, a signal says which it was.
        setrlimit(resource, Rlimit { current: of(wanted), maximum: of(wanted + 1) })
    };
    least(Resource::Core, 0)?;
    least(Resource::Data, MOST_MEMORY)?;
    least(Resource::Cpu, seconds(fs::metadata(path)?.len()))?;
    Ok(())
}

fn answer(read: &Result<Hdf5, String>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let header = read.as_ref().map(|hdf5| Header {
        ids: hdf5.ids.clone(),
        shape: hdf5.values.dim(),
        single: hdf5.single,
        source: hdf5.source,
        checksum: hdf5.checksum,
    });
    serde_json::to_writer(&mut out, &header)?;
    out.write_all(b"\n")?;
    for value in read.iter().flat_map(|hdf5| &hdf5.values) {
        out.write_all(&value.to_le_bytes())?;
    }
    out.flush()
}

/// Reads a file of another program, with numbers of any type.
///
/// # Errors
/// [`Error::Data`] names what is missing, inconsistent or beyond the limits.
pub fn read(path: &Path) -> Result<Hdf5> {
    if !CAN_ANSWER.load(Relaxed) {
        return open(path).map_err(|what| Error::data(path, what));
    }
    let failed = |e: io::Error| Error::failed(format!("cannot start a process to read HDF5: {e}"));
    let mut command = Command::new("/proc/self/exe");
    if FORKS.load(Relaxed) {
        let path = path.to_path_buf();
        // SAFETY: as `read_in_forks` was told.
        unsafe { command.pre_exec(move || answer_and_end(&path)) };
    }
    let mut child = command
        .arg(READ)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let received = receive(&mut child);
    if received.is_err() {
        let _ = child.kill(); // it may still be writing
    }
    let status = child.wait().map_err(failed)?;
    let what = match (received, status.signal()) {
        (Ok(Ok(hdf5)), _) => return Ok(hdf5),
        (Ok(Err(what)), _) => what,
        (Err(_), Some(libc::SIGXCPU)) => {
            "damaged: the HDF5 library does not come to an end with it".into()
        }
        (Err(_), _) => format!(
            "damaged, or too large: the HDF5 library fails on it, or takes more than {} MiB",
            MOST_MEMORY >> 20
        ),
    };
    Err(Error::data(path, what))
}

/// What the second process writes, within the bounds that it keeps if nothing is wrong with it.
fn receive(child: &mut Child) -> io::Result<Result<Hdf5, String>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let out = child.stdout.take().ok_or_else(|| bad("no output"))?;
    let (mut out, mut line) = (BufReader::with_capacity(1 << 16, out), Vec::new());
    (&mut out).take(MOST_TEXT).read_until(b'\n', &mut line)?;
    let header: Header = match serde_json::from_slice(&line)? {
        Ok(header) => header,
        Err(what) => return Ok(Err(what)),
    };
    let (rows, columns) = header.shape;
    let numbers = rows.checked_mul(columns).filter(|&n| n <= MOST_NUMBERS);
    let mut values = Vec::with_capacity(numbers.ok_or_else(|| bad("too many numbers"))?);
    let mut number = [0; 8];
    for _ in 0..rows * columns {
        out.read_exact(&mut number)?;
        values.push(f64::from_le_bytes(number));
    }
    let values = Array2::from_shape_vec(header.shape, values).map_err(|e| bad(&e.to_string()))?;
    if header.ids.as_ref().is_some_and(|ids| ids.len() != rows) {
        return Err(bad("another number of ids"));
    }
    let Header { ids, single, source, checksum, .. } = header;
    Ok(Ok(Hdf5 { ids, values, single, source, checksum }))
}

/// Reads the file with the HDF5 library, in this process.
fn open(path: &Path) -> Result<Hdf5, String> {
    let because = |what: &'static str| move |e: hdf5::Error| format!("{what}: {}", first_line(&e));
    let length = File::open(path).and_then(|f| f.metadata()).map_err(|e| e.to_string())?.len();
    let file = hdf5_file::options().open(path).map_err(because("not an HDF5 file, or damaged"))?;
    if file.attr(VERSION_ATTRIBUTE).is_ok() {
        return Err("cut short, damaged or changed by another program: the seal at its end is \
                    missing; copy it again, or run the job that wrote it again, train or predict"
            .into());
    }
    let data = data_set(&file, "probabilities", length)?;
    let data = data.ok_or("no dataset /probabilities")?;
    let &[rows, columns] = &data.shape()[..] else {
        let shape = data.shape();
        return Err(format!("/probabilities is of the shape {shape:?}, expected a matrix"));
    };
    if rows.checked_mul(columns).is_none_or(|numbers| numbers > MOST_NUMBERS) {
        return Err(format!(
            "/probabilities are {rows} x {columns} numbers, more than the {MOST_NUMBERS} that are \
             read from HDF5 files of other programs; save them as .npy"
        ));
    }
    let values = data.read_2d().map_err(because("/probabilities is not a matrix of numbers"))?;
    let mut ids = None;
    if let Some(set) = data_set(&file, "ids", length)? {
        if set.shape() != [rows] {
            let shape = set.shape();
            return Err(format!("/ids is of the shape {shape:?}, expected [{rows}], one per row"));
        }
        let read = texts(&set).map_err(because("/ids cannot be read"))?;
        let text = |text: Vec<u8>| (text.len() <= LONGEST_ID).then(|| String::from_utf8(text).ok());
        let read: Option<_> = read.into_iter().map(|id| text(id).flatten()).collect();
        let what = || format!("/ids holds what is no UTF-8 text of at most {LONGEST_ID} bytes");
        ids = Some(read.ok_or_else(what)?);
    }
    let number = |name: &str| file.attr(name).and_then(|a| a.read_scalar::<u64>()).ok();
    let single = data.dtype().is_ok_and(|t| t.size() < 8);
    Ok(Hdf5 { ids, values, single, source: number("source"), checksum: number("xxh3") })
}

fn first_line(e: &hdf5::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().into()
}

/// A data set of the file, if it is there.
///
/// # Errors
/// States where it is a link, has its content in other files or compressed, or claims more content
/// than the file, of `length` bytes, holds.
fn data_set(file: &hdf5::Group, name: &str, length: u64) -> Result<Option<Dataset>, String> {
    let because = |e: hdf5::Error| format!("/{name}: {}", first_line(&e));
    let mut found = None;
    // To open a link may mean to open another file, or to wait for a pipe.
    file.iter_visit_default(|link, info| {
        if link == name {
            found = Some(info.link_type);
        }
        Ok(())
    })
    .map_err(because)?;
    match found {
        None => return Ok(None),
        Some(LinkType::Hard) => {}
        Some(_) => return Err(format!("/{name} is a link; expected a data set in this file")),
    }
    let set = file.dataset(name).map_err(because)?;
    let layout = set.dcpl().map_err(because)?;
    if layout.layout() == Layout::Virtual || !layout.external().is_empty() {
        return Err(format!("/{name} lies in other files; expected a data set in this file"));
    }
    if layout.has_filters() {
        return Err(format!(
            "/{name} is compressed or filtered, which is not read; save it without, or as .npy"
        ));
    }
    let element = set.dtype().map_or(0, |t| t.size() as u64);
    let claimed = set.shape().iter().try_fold(element, |bytes, &n| bytes.checked_mul(n as u64));
    let stored = set.storage_size().min(length);
    match claimed {
        Some(claimed) if claimed <= stored => Ok(Some(set)),
        _ => Err(format!(
            "/{name} claims the shape {:?} of {element} bytes each, but the file holds only \
             {stored} bytes of it",
            set.shape()
        )),
    }
}

/// Texts of variable or fixed length.
fn texts(set: &Dataset) -> hdf5::Result<Vec<Vec<u8>>> {
    macro_rules! read {
        ($t:ty) => {
            set.read_raw::<$t>()?.iter().map(|text| text.as_bytes().to_vec()).collect()
        };
    }
    Ok(match set.dtype()?.to_descriptor()? {
        TypeDescriptor::VarLenUnicode => read!(VarLenUnicode),
        TypeDescriptor::VarLenAscii => read!(VarLenAscii),
        TypeDescriptor::FixedUnicode(..=64) => read!(FixedUnicode<64>),
        TypeDescriptor::FixedUnicode(..=LONGEST_ID) => read!(FixedUnicode<LONGEST_ID>),
        TypeDescriptor::FixedAscii(..=64) => read!(FixedAscii<64>),
        TypeDescriptor::FixedAscii(..=LONGEST_ID) => read!(FixedAscii<LONGEST_ID>),
        other => return Err(format!("they are {other}, expected texts").into()),
    })
}
