//! TensorBoard's event files: TFRecords of `Event` protocol buffers, appended during a training.
//!
//! A record is its length (u64), the masked CRC-32C of these eight bytes (u32), the message, and
//! its masked CRC-32C, all little-endian (TensorFlow's `record_writer.h`); the messages are those
//! of TensorFlow's `event.proto`, `summary.proto` and `histogram.proto`, as far as they are needed
//! here.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use prost::Message;

use crate::{
    base::{Error, Result, atomic_file, host},
    data::contact_sheet::{Sheet, encode_png},
};

/// Bins of a histogram.
const BINS: usize = 60;

/// TensorBoard reads files whose names begin so. Ours go on with the time of creation in seconds
/// and the host.
const PREFIX: &str = "events.out.tfevents.";

/// The one event file of a folder.
pub struct EventLog {
    path: PathBuf,
    file: File,
}

impl EventLog {
    /// Goes on with the log in `folder`, or begins one. Of the events of an earlier process, those
    /// for which `kept` is true stay. If some do not, or the file ends in the middle of an event,
    /// the others move to a new file, at which a running TensorBoard forgets what it has read. Also
    /// returns how many summaries stayed.
    pub fn open(folder: &Path, kept: impl Fn(&Event) -> bool) -> Result<(Self, usize)> {
        let old = files(folder)?;
        // If there are several, a kill prevented the removal of the older ones: the last one is
        // complete and has all that stayed of them.
        let (read, complete) = old.last().map_or(Ok((Vec::new(), false)), |last| read(last))?;
        let mut events: Vec<Event> =
            read.into_iter().filter(|e| matches!(e.what, Some(What::Summary(_)))).collect();
        let all = events.len();
        events.retain(kept);
        let whole = complete && old.len() == 1 && events.len() == all;
        let path = match old.last() {
            Some(path) if whole => path.clone(),
            _ => {
                let path = folder.join(format!("{PREFIX}{:010}.{}", begin(&old), host::name()));
                let version = What::FileVersion("brain.Event:2".into());
                let start = What::SessionLog(SessionLog { status: 1 });
                let first = [version, start].map(|what| Event::now(0, what));
                let bytes: Vec<u8> = first.iter().chain(&events).flat_map(record).collect();
                atomic_file::write(&path, bytes)?;
                old.iter()
                    .try_for_each(|old| fs::remove_file(old).map_err(Error::io("remove", old)))?;
                path
            }
        };
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io("open", &path))?;
        Ok((Self { path, file }, events.len()))
    }

    /// Appends one event; nothing where there are no values.
    pub fn write(&self, step: u64, values: Vec<Value>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let event = Event::now(step as i64, What::Summary(Summary { values }));
        (&self.file).write_all(&record(&event)).map_err(Error::io("write", &self.path))
    }
}

/// The event files of `folder` in the order in which TensorBoard reads them.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", folder))?,
    };
    let is_ours =
        |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_ours).collect();
    files.sort();
    Ok(files)
}

/// The events of a file up to the first damaged one, and whether all are intact.
pub fn read(path: &Path) -> Result<(Vec<Event>, bool)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    while let Some((event, after)) = next(rest) {
        events.push(event);
        rest = after;
    }
    Ok((events, rest.is_empty()))
}

/// The first event of `bytes`, and what follows it.
fn next(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (message, rest) = rest.split_at_checked(size)?;
    let (message_sum, rest) = rest.split_first_chunk::<4>()?;
    let fits = *sum == masked(length) && *message_sum == masked(message);
    fits.then(|| Event::decode(message).ok()).flatten().map(|event| (event, rest))
}

fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), &message, &masked(&message)].concat()
}

/// A CRC-32C as TensorFlow stores it: rotated and shifted, since the CRC of data that include their
/// own CRC is a weak check.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1e3
}

/// Seconds since 1970, but after those in the names of `old`: readers sort by name.
fn begin(old: &[PathBuf]) -> u64 {
    let seconds = |p: &PathBuf| {
        p.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok()
    };
    old.iter().filter_map(seconds).max().map_or(0, |last| last + 1).max(now() as u64)
}

/// A point of a curve.
pub fn scalar(tag: impl Into<String>, value: f64) -> Value {
    Value { tag: tag.into(), content: Some(Content::Scalar(value as f32)) }
}

/// An image.
pub fn image(tag: impl Into<String>, sheet: &Sheet) -> Result<Value> {
    let (height, width) = (sheet.height as i32, sheet.width as i32);
    let png = encode_png(&sheet.rgb, sheet.width, sheet.height, png::ColorType::Rgb)?;
    Ok(Value {
        tag: tag.into(),
        content: Some(Content::Image(Image { height, width, colorspace: 3, png })),
    })
}

/// Counts of `values` in equal bins from the least to the largest. Values that are not finite are
/// left out; `None` where no others exist.
pub fn histogram(tag: impl Into<String>, values: &[f32]) -> Option<Value> {
    let finite = || values.iter().map(|&v| f64::from(v)).filter(|v| v.is_finite());
    let (min, max) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
    let bins = if min < max { BINS } else { 1 };
    let width = (max - min) / bins as f64;
    let mut histogram = Histogram { min, max, ..Histogram::default() };
    histogram.limits =
        (1..=bins).map(|i| if i == bins { max } else { min + width * i as f64 }).collect();
    histogram.counts = vec![0.0; bins];
    for value in finite() {
        let bin = if width > 0.0 { ((value - min) / width) as usize } else { 0 };
        histogram.counts[bin.min(bins - 1)] += 1.0;
        histogram.num += 1.0;
        histogram.sum += value;
        histogram.sum_squares += value * value;
    }
    Some(Value { tag: tag.into(), content: Some(Content::Histogram(histogram)) })
}

/// One record of an event file.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

impl Event {
    fn now(step: i64, what: What) -> Self {
        Self { wall_time: now(), step, what: Some(what) }
    }
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// First in a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// The start of a training: readers forget all events from this step on.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// 1: start.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(oneof = "Content", tags = "2, 4, 5")]
    pub content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "4")]
    Image(Image),
    #[prost(message, tag = "5")]
    Histogram(Histogram),
}

#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 3: RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub png: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(double, tag = "1")]
    pub min: f64,
    #[prost(double, tag = "2")]
    pub max: f64,
    #[prost(double, tag = "3")]
    pub num: f64,
    #[prost(double, tag = "4")]
    pub sum: f64,
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// Upper end of each bin.
    #[prost(double, repeated, tag = "6")]
    pub limits: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub counts: Vec<f64>,
}

#[cfg(test)]
mod tests;
