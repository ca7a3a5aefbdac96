//! The files of a made set.

use std::{fmt::Write as _, fs, path::Path};

use rayon::prelude::*;

use super::{
    Options,
    copies::{encode_jpeg, quality},
    plan::{Made, Place},
    render,
    sample::Planes,
};
use crate::{
    base::{Error, Result, atomic_file, rng::Rng},
    data::{
        contact_sheet::{Tile, contact_sheet as compose, encode_png},
        labels::CLASSES,
    },
};

const COLOURS: [&str; 4] = ["red", "green", "blue", "yellow"];

/// The four files of a sample: gray PNGs, or JPEGs in which only the channel's own colour carries
/// signal.
pub fn images(folder: &Path, made: &Made, planes: &Planes, rng: &mut Rng) -> Result<()> {
    for (channel, plane) in planes.planes.iter().enumerate() {
        let name = format!("{}_{}", made.id, COLOURS[channel]);
        let (path, bytes) = match made.place {
            Place::Train => (folder.join(format!("train/{name}.png")), gray(plane, planes.size)?),
            Place::Test => (folder.join(format!("test/{name}.png")), gray(plane, planes.size)?),
            Place::External => {
                let coloured = |&v: &u8| match channel {
                    0 => [v, 0, 0],
                    1 => [0, v, 0],
                    2 => [0, 0, v],
                    _ => [v, v, 0],
                };
                let pixels: Vec<u8> = plane.iter().flat_map(coloured).collect();
                let bytes = encode_jpeg(
                    &pixels,
                    planes.size,
                    image::ExtendedColorType::Rgb8,
                    quality(rng),
                )?;
                (folder.join(format!("external/images/{name}.jpg")), bytes)
            }
        };
        fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

fn gray(plane: &[u8], size: usize) -> Result<Vec<u8>> {
    encode_png(plane, size, size, png::ColorType::Grayscale)
}

pub fn tables(folder: &Path, options: &Options, made: &[Made]) -> Result<()> {
    let table = |place: Place, header: &str, row: &dyn Fn(&Made) -> String| {
        made.iter().filter(|m| m.place == place).fold(format!("{header}\n"), |mut text, m| {
            writeln!(text, "{},{}", m.id, row(m)).expect("writing to a string");
            text
        })
    };
    let labels = |m: &Made| m.labels.to_string();
    atomic_file::write(folder.join("train.csv"), table(Place::Train, "Id,Target", &labels))?;
    atomic_file::write(folder.join("truth.csv"), table(Place::Test, "Id,Target", &labels))?;
    atomic_file::write(
        folder.join("sample_submission.csv"),
        table(Place::Test, "Id,Predicted", &|_| "0".into()),
    )?;
    if options.external > 0 {
        atomic_file::write(
            folder.join("external/HPAv18_made.csv"),
            table(Place::External, "Id,Target", &labels),
        )?;
    }
    let mut pairs = String::from("a,b,conflict\n");
    for copy in made {
        if let Some(original) = copy.copy_of.map(|o| &made[o]) {
            let conflict = u8::from(original.labels != copy.labels);
            writeln!(pairs, "{},{},{conflict}", original.id, copy.id).expect("writing to a string");
        }
    }
    atomic_file::write(folder.join("duplicates_truth.csv"), pairs)
}

/// One tile per class: the training sample that has it with the fewest other classes.
pub fn contact_sheet(folder: &Path, options: &Options, made: &[Made]) -> Result<()> {
    let train =
        || (0..made.len()).filter(|&i| made[i].place == Place::Train && made[i].copy_of.is_none());
    let shown: Vec<usize> = (0..CLASSES)
        .filter_map(|c| {
            train().filter(|&i| made[i].labels.contains(c)).min_by_key(|&i| made[i].labels.len())
        })
        .collect();
    let planes: Vec<Planes> =
        shown.par_iter().map(|&i| render(options, made, i)).collect::<Result<_>>()?;
    let tiles: Vec<Tile> = planes
        .iter()
        .zip(&shown)
        .map(|(p, &i)| Tile {
            planes: p.planes.each_ref().map(Vec::as_slice),
            caption: made[i].labels.to_string(),
        })
        .collect();
    compose(&tiles, options.size, 256, 7).write(&folder.join("contact_sheet.png"))
}
