//! The Atlas as XML, which lists the images with the locations of the protein. Read as a stream,
//! since it may be larger than the memory.
//!
//! Of each `antibody/cellExpression[@technology='ICC/IF']/subAssay/data`, the `location`s are the
//! labels of the images in `assayImage/image[@imageType='sampleImage']/imageUrl`.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
};

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use crate::{
    base::{Error, Result, gunzip::Gunzip, progress::Progress, stop_request::Stop},
    data::labels::{Labels, NAMES, Rows},
};

/// Depth of the elements, at most. This and the bounds below are far above what the Atlas serves.
const MAX_DEPTH: usize = 100;

/// Bytes of one tag, text or comment, at most.
const MAX_PIECE: usize = 1 << 20;

/// Bytes of a location's name or an image's address, at most.
const MAX_TEXT: usize = 4096;

/// Images or locations of one `data` element, and unknown locations of the whole file, at most.
const MAX_LIST: usize = 10_000;

/// The images that the XML lists.
#[derive(Debug, Default)]
pub struct AtlasImages {
    /// Id and labels of each image with a known location, in the order of the file.
    pub rows: Rows,
    /// Locations that are not one of the 28 classes, and how many images name them.
    pub unknown: BTreeMap<String, usize>,
    /// Images without a location of the 28 classes; they are not in `rows`.
    pub unlabelled: usize,
    /// Addresses that are not images of the Atlas.
    pub foreign: usize,
}

/// Reads a file, gzipped or not; warns where something else follows the gzipped data. `progress`
/// counts the bytes of the file.
///
/// # Errors
/// [`Error::Data`], if it is not XML, truncated, lists no image, or is nested deeper or has longer
/// pieces than the Atlas's: memory and time are bounded for each byte of text.
pub fn read_atlas(path: &Path, progress: &Progress, stop: &Stop) -> Result<AtlasImages> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut file = BufReader::with_capacity(1 << 16, Counted(file, progress));
    if !file.fill_buf().map_err(Error::io("read", path))?.starts_with(&[0x1f, 0x8b]) {
        return read_text(path, &mut file, stop);
    }
    let mut text = BufReader::with_capacity(1 << 16, Gunzip::new(file));
    let images = read_text(path, &mut text, stop)?;
    if let Gunzip::End { rubbish: true } = text.get_ref() {
        log::warn!("{}: bytes that are not gzip follow the XML and are ignored", path.display());
    }
    Ok(images)
}

fn read_text(path: &Path, text: &mut dyn BufRead, stop: &Stop) -> Result<AtlasImages> {
    let mut reader = Reader::from_reader(InPieces { text, left: 0 });
    let (mut buffer, mut parser) = (Vec::new(), AtlasParser::default());
    loop {
        reader.get_mut().left = MAX_PIECE;
        let broken = |position: u64, e: &dyn std::fmt::Display| {
            Error::data(path, format!("not complete XML: {e}, at byte {position} of the text"))
        };
        let begin = reader.buffer_position();
        let excess = |what: &dyn std::fmt::Display| {
            let what = format!("{what}, near byte {begin} of the text");
            Error::data(path, format!("{what}; expected the Atlas's proteinatlas.xml"))
        };
        match reader.read_event_into(&mut buffer) {
            Ok(Event::Eof) if parser.open.is_empty() => break,
            Ok(Event::Eof) => {
                return Err(broken(reader.buffer_position(), &"it ends within an element"));
            }
            Ok(Event::Start(e)) => parser.start(&e),
            Ok(Event::End(_)) => parser.end(),
            Ok(Event::Text(e)) => parser.add(&e),
            Ok(Event::CData(e)) => parser.add(&e),
            Ok(Event::GeneralRef(e)) => match (e.resolve_char_ref(), resolve_predefined_entity(&e))
            {
                (Ok(Some(c)), _) => parser.add(c.encode_utf8(&mut [0; 4])),
                (_, Some(text)) => parser.add(text),
                _ => {}
            },
            Ok(_) => {}
            Err(quick_xml::Error::Io(e)) if e.kind() == ErrorKind::FileTooLarge => {
                return Err(excess(&e));
            }
            Err(e) => return Err(broken(reader.error_position(), &e)),
        }
        if let Some(what) = parser.excess() {
            return Err(excess(&what));
        }
        buffer.clear();
        if stop.asked() {
            return Err(Error::Stopped(format!(
                "stopped while reading {}; run it again",
                path.display()
            )));
        }
    }
    if parser.atlas.rows.is_empty() {
        return Err(Error::data(
            path,
            "names no immunofluorescence image with a known location; expected the Atlas's \
                proteinatlas.xml",
        ));
    }
    Ok(parser.atlas)
}

/// Counts the bytes that are read.
struct Counted<'a>(File, &'a Progress);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1.add(n as u64);
        Ok(n)
    }
}

/// Text of which at most `left` bytes are read before `left` is set anew: the XML reader keeps a
/// tag or a text as a whole, however long it is.
struct InPieces<R> {
    text: R,
    left: usize,
}

impl<R: BufRead> Read for InPieces<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut text = self.fill_buf()?;
        let n = text.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for InPieces<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        let text = self.text.fill_buf()?;
        if self.left == 0 && !text.is_empty() {
            let what = format!("a tag, text or comment has more than {MAX_PIECE} bytes");
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, what));
        }
        Ok(&text[..text.len().min(self.left)])
    }

    fn consume(&mut self, n: usize) {
        self.left = self.left.saturating_sub(n);
        self.text.consume(n);
    }
}

#[derive(Default)]
struct AtlasParser {
    /// The enclosing elements, outermost first: name, and whether its attribute is the required
    /// one.
    open: Vec<(String, bool)>,
    /// Of a location or an address.
    text: String,
    locations: Vec<String>,
    urls: Vec<String>,
    /// Index in `atlas.rows` by id.
    row_of: HashMap<String, usize>,
    atlas: AtlasImages,
}

impl AtlasParser {
    fn start(&mut self, element: &BytesStart) {
        let name = element.local_name();
        let name: &str = name.as_ref();
        let is = |attribute: &str, value: &str| {
            element
                .try_get_attribute(attribute)
                .is_ok_and(|a| a.is_some_and(|a| *a.value == *value))
        };
        let wanted = match name {
            "cellExpression" => is("technology", "ICC/IF"),
            "image" => is("imageType", "sampleImage"),
            _ => true,
        };
        if name == "data" {
            self.locations.clear();
            self.urls.clear();
        }
        self.open.push((name.into(), wanted));
        self.text.clear();
    }

    /// Adds text where it is of use.
    fn add(&mut self, text: &str) {
        let is_wanted = |(name, _): &(String, bool)| name == "location" || name == "imageUrl";
        if self.open.last().is_some_and(is_wanted) {
            self.text.push_str(text);
        }
    }

    /// What is more than the Atlas has.
    fn excess(&self) -> Option<String> {
        let list = self.locations.len().max(self.urls.len()).max(self.atlas.unknown.len());
        if self.open.len() > MAX_DEPTH {
            Some(format!("elements are nested more than {MAX_DEPTH} deep"))
        } else if self.text.len() > MAX_TEXT {
            Some(format!("a location or an address of more than {MAX_TEXT} bytes"))
        } else if list > MAX_LIST {
            Some(format!(
                "more than {MAX_LIST} images or locations of one `data` element, or unknown \
                 locations"
            ))
        } else {
            None
        }
    }

    fn end(&mut self) {
        let within = |path: &[&str]| {
            let tail = &self.open[self.open.len().saturating_sub(path.len())..];
            self.open.iter().all(|e| e.1)
                && tail.len() == path.len()
                && tail.iter().zip(path).all(|(e, name)| e.0 == *name)
        };
        if within(&["cellExpression", "subAssay", "data", "location"]) {
            self.locations.push(self.text.trim().into());
        } else if within(&["cellExpression", "subAssay", "data", "assayImage", "image", "imageUrl"])
        {
            self.urls.push(self.text.trim().into());
        } else if within(&["cellExpression", "subAssay", "data"]) {
            self.images();
        }
        self.open.pop();
        self.text.clear();
    }

    /// Adds the images of one `data` element.
    fn images(&mut self) {
        let mut labels = Labels::default();
        for location in &self.locations {
            match class(location) {
                Some(class) => labels.insert(class),
                None => *self.atlas.unknown.entry(location.clone()).or_default() += self.urls.len(),
            }
        }
        for url in &self.urls {
            match id(url) {
                None => self.atlas.foreign += 1,
                Some(_) if labels.is_empty() => self.atlas.unlabelled += 1,
                // An antibody is listed under each gene that it may bind.
                Some(id) => match self.row_of.get(&id) {
                    Some(&row) => {
                        labels.iter().for_each(|class| self.atlas.rows[row].1.insert(class))
                    }
                    None => {
                        self.row_of.insert(id.clone(), self.atlas.rows.len());
                        self.atlas.rows.push((id, labels));
                    }
                },
            }
        }
    }
}

/// The class of a location. Case, plurals, "and" for "&", and "centre" for "center" do not matter.
fn class(location: &str) -> Option<usize> {
    let key = |name: &str| {
        let name = name.to_lowercase().replace('&', " and ").replace("centre", "center");
        let words = name.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
        words.map(|w| w.strip_suffix('s').unwrap_or(w)).collect::<Vec<_>>().join(" ")
    };
    let location = key(location);
    NAMES.iter().position(|name| key(name) == location)
}

/// `10580_1610_C1_1` of `http://v18.proteinatlas.org/images/10580/1610_C1_1_blue_red_green.jpg`.
fn id(url: &str) -> Option<String> {
    let (folder, file) = url.rsplit_once('/')?;
    let antibody = folder.rsplit('/').next()?;
    let mut parts: Vec<&str> = file.split_once('.')?.0.split('_').collect();
    while parts.last().is_some_and(|p| {
        ["blue", "red", "green", "yellow", "thumb", "medium", "selected"].contains(p)
    }) {
        parts.pop();
    }
    let plain = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric());
    let good = parts.len() >= 3
        && parts.iter().all(|p| plain(p))
        && antibody.bytes().all(|b| b.is_ascii_digit())
        && !antibody.is_empty();
    good.then(|| format!("{antibody}_{}", parts.join("_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_variants_of_locations() {
        for (name, want) in [
            ("Nucleoplasm", 0),
            ("Nucleoli fibrillar centre", 3),
            ("Nucleoli (fibrillar center)", 3),
            ("Golgi Apparatus", 7),
            ("Focal adhesion site", 13),
            ("Microtubule end", 15),
            ("Cell Junctions", 22),
            ("Aggresomes", 24),
            ("Rods and Rings", 27),
        ] {
            assert_eq!(class(name), Some(want), "{name}");
        }
        assert_eq!((class("Vesicles"), class("")), (None, None));
        assert!((0..NAMES.len()).all(|c| class(NAMES[c]) == Some(c)), "no two names are equal");
    }

    #[test]
    fn ids_of_addresses() {
        let of = |file: &str| id(&format!("http://v18.proteinatlas.org/images/10580/{file}"));
        let want = Some("10580_1610_C1_1".to_string());
        assert_eq!(
            (of("1610_C1_1_blue_red_green.jpg"), of("1610_C1_1_red_green_yellow_thumb.jpg")),
            (want.clone(), want)
        );
        assert_eq!(
            of("1852_D3_20_cr5afd_blue_red_green.jpg").as_deref(),
            Some("10580_1852_D3_20_cr5afd")
        );
        assert_eq!(
            (of("x.jpg"), id("http://host/images/a/1_C1_1_blue.jpg"), id("")),
            (None, None, None)
        );
    }
}
