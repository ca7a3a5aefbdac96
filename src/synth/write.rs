//! Writes the files of a synthetic set.

use std::{fs, path::Path};

use rayon::prelude::*;

use super::{
    copies::{encode_jpeg, quality},
    options::SynthOptions,
    plan::{PlannedSample, Subset},
    render::render,
    sample::Planes,
};
use crate::{
    base::{Error, Result, csv_file, rng::Rng},
    data::{
        contact_sheet::{Tile, contact_sheet as compose, encode_png},
        labels::CLASSES,
        manifest::CHANNELS,
    },
};

/// Writes the four files of a sample: gray PNGs, or JPEGs in which a channel has only its own
/// colour.
pub fn images(folder: &Path, sample: &PlannedSample, planes: &Planes, rng: &mut Rng) -> Result<()> {
    for (channel, plane) in planes.planes.iter().enumerate() {
        let name = format!("{}_{}", sample.id, CHANNELS[channel]);
        let (path, bytes) = match sample.subset {
            Subset::Train => (folder.join(format!("train/{name}.png")), gray(plane, planes.size)?),
            Subset::Test => (folder.join(format!("test/{name}.png")), gray(plane, planes.size)?),
            Subset::External => {
                let coloured = |&v: &u8| match channel {
                    0 => [v, 0, 0],
                    1 => [0, v, 0],
                    2 => [0, 0, v],
                    _ => [v, v, 0],
                };
                let pixels: Vec<u8> = plane.iter().flat_map(coloured).collect();
                let (colour, quality) = (image::ExtendedColorType::Rgb8, quality(rng));
                let bytes = encode_jpeg(&pixels, planes.size, colour, quality)?;
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

pub fn tables(folder: &Path, samples: &[PlannedSample]) -> Result<()> {
    let of = |subset| samples.iter().filter(move |s| s.subset == subset);
    let write_labels = |name: &str, subset| {
        let rows = of(subset).map(|s| (&s.id, s.labels.to_string()));
        csv_file::write(&folder.join(name), &["Id", "Target"], rows)
    };
    write_labels("train.csv", Subset::Train)?;
    write_labels("truth.csv", Subset::Test)?;
    if of(Subset::External).next().is_some() {
        write_labels("external/HPAv18_made.csv", Subset::External)?;
    }
    let rows = of(Subset::Test).map(|s| (&s.id, 0));
    csv_file::write(&folder.join("sample_submission.csv"), &["Id", "Predicted"], rows)?;
    let pairs = samples.iter().filter_map(|copy| {
        let original = &samples[copy.copy_of?];
        Some((&original.id, &copy.id, u8::from(original.labels != copy.labels)))
    });
    csv_file::write(&folder.join("duplicates_truth.csv"), &["a", "b", "conflict"], pairs)
}

/// One tile per class: the training sample that has it with the fewest other classes.
pub fn contact_sheet(
    folder: &Path,
    options: &SynthOptions,
    samples: &[PlannedSample],
) -> Result<()> {
    let train = || {
        (0..samples.len())
            .filter(|&i| samples[i].subset == Subset::Train && samples[i].copy_of.is_none())
    };
    let labels = |i: usize| samples[i].labels;
    let shown: Vec<usize> = (0..CLASSES)
        .filter_map(|c| train().filter(|&i| labels(i).contains(c)).min_by_key(|&i| labels(i).len()))
        .collect();
    let planes: Vec<Planes> =
        shown.par_iter().map(|&i| render(options, samples, i)).collect::<Result<_>>()?;
    let tiles: Vec<Tile> = planes
        .iter()
        .zip(&shown)
        .map(|(p, &i)| Tile {
            planes: p.planes.each_ref().map(Vec::as_slice),
            caption: labels(i).to_string(),
        })
        .collect();
    compose(&tiles, options.size, 256, 7).write(&folder.join("contact_sheet.png"))
}
