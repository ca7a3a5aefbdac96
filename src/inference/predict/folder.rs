//! A folder of someone's own pictures through trained networks: a table of probabilities and
//! labels, embeddings.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ndarray::{Array2, Axis};
use ndarray_npy::WriteNpyExt;

use crate::{
    base::{Error, Result, atomic_file, csv_file, progress::Progress, stop::Stop},
    config::{Config, Tta},
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest::{self, ProblemKind},
        shard::{self, Bad},
    },
    distributed::device,
    inference::grad_cam::Viewer,
    loading::{
        loader::{Loader, Make, Source},
        sampler::Draw,
    },
    network::predictor::{Trained, sigmoid},
    scoring::{prediction_file, submission_csv},
};

/// Networks, and what to make of their probabilities.
pub struct Ensemble {
    pub networks: Vec<Trained>,
    /// A class is predicted where its probability is above its threshold; where none is, the most
    /// probable one.
    pub thresholds: [f32; CLASSES],
}

/// What to write.
pub struct Outputs<'a> {
    /// `id,labels` and a column of probabilities per class, named; the names of the labels are
    /// joined by `;`.
    pub table: &'a Path,
    /// Where asked for, `[n, features]` f32 in the order of the table, as `.npy` or, with `/ids`,
    /// as `.h5`.
    pub embeddings: Option<&'a Path>,
}

/// What [`predict`] did.
#[derive(Debug)]
pub struct Outcome {
    pub predicted: usize,
    /// Samples that could not be read, with each fault.
    pub skipped: Vec<Bad>,
    /// Where those are listed, if there are any: `<table>-skipped.csv`.
    pub list: Option<PathBuf>,
}

/// Bytes of images that are held at a time.
const HELD: usize = 256 << 20;

/// Predicts all samples of `folder`, files `<id>_<channel>.<png|jpg|tif>[.gz]` of any size, as the
/// networks were trained to see them: resized to `preprocess.size`, then `augment.resize`; crops as
/// `predict.tta` and `predict.reduce` say; probabilities averaged over the networks. Embeddings are
/// those of the first network, of whole images at `augment.resize`.
///
/// # Errors
/// Data, where no sample can be read; Stopped after `stop`, and nothing is written then.
pub fn predict(
    config: &Config,
    folder: &Path,
    ensemble: &Ensemble,
    outputs: &Outputs,
    stop: &Stop,
) -> Result<Outcome> {
    device::set_up_cpu(config.threads());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads())
        .build()
        .map_err(Error::failed)?;
    let mut scan = manifest::pictures(folder)?;
    let (lacking, other): (Vec<_>, Vec<_>) = std::mem::take(&mut scan.problems)
        .into_iter()
        .partition(|p| p.kind == ProblemKind::MissingChannels);
    scan.problems = other;
    manifest::summary(&scan.problems).iter().for_each(|line| log::warn!("{line}"));
    let missing = |p: manifest::Problem| Bad {
        id: p.id,
        file: String::new(),
        reason: format!("no picture of {}", p.detail),
    };
    let mut skipped: Vec<Bad> = lacking.into_iter().map(missing).collect();
    let samples = &scan.manifest.samples;
    let size = config.preprocess.size as usize;
    let progress =
        Progress::new("predict", "samples", (samples.len() * ensemble.networks.len()) as u64);
    let mut work = Work {
        config,
        ensemble,
        stop,
        progress,
        viewer: None,
        ids: Vec::new(),
        probabilities: Vec::new(),
        embeddings: Vec::new(),
    };
    if outputs.embeddings.is_some() {
        work.viewer = ensemble.networks.first().map(|first| Viewer::new(&first.network));
    }
    let settings = shard::Settings { size, max_side: config.preprocess.max_pixels_side };
    for part in samples.chunks((HELD / (size * size * 4)).clamp(1, 256)) {
        let mut images = Images { size, ids: Vec::new(), pixels: Vec::new() };
        for (sample, read) in part.iter().zip(pool.install(|| shard::read_images(part, settings))) {
            match read {
                Ok(pixels) => {
                    images.ids.push(sample.id.clone());
                    images.pixels.push(pixels);
                }
                Err(faults) => skipped.extend(faults),
            }
        }
        work.progress.add(((part.len() - images.ids.len()) * ensemble.networks.len()) as u64);
        work.part(images)?;
    }
    let list = skipped_list(outputs.table);
    if work.ids.is_empty() {
        let first = skipped.first().map_or_else(
            || {
                "expected files called <id>_red.png, <id>_green.png, <id>_blue.png, \
                    <id>_yellow.png (or .jpg, .tif, each also with .gz)"
                    .into()
            },
            |bad| {
                format!(
                    "such as {}: {}",
                    if bad.file.is_empty() { &bad.id } else { &bad.file },
                    bad.reason
                )
            },
        );
        return Err(Error::data(folder, format!("no sample can be read ({first})")));
    }
    write_table(outputs.table, &work, &ensemble.thresholds)?;
    if let Some(path) = outputs.embeddings {
        write_embeddings(path, &work)?;
    }
    match skipped.is_empty() {
        true => _ = fs::remove_file(&list), // of an earlier call
        false => shard::write_bad(&list, &skipped)?,
    }
    Ok(Outcome { predicted: work.ids.len(), list: (!skipped.is_empty()).then_some(list), skipped })
}

/// `a/b.csv` → `a/b-skipped.csv`
fn skipped_list(table: &Path) -> PathBuf {
    let stem = table.file_stem().unwrap_or_default().to_string_lossy();
    table.with_file_name(format!("{stem}-skipped.csv"))
}

/// The images of a part of the samples.
struct Images {
    size: usize,
    ids: Vec<String>,
    pixels: Vec<Vec<u8>>,
}

impl Source for Images {
    fn size(&self) -> usize {
        self.size
    }

    fn labels(&self, _: usize) -> Labels {
        Labels::default()
    }

    fn id(&self, i: usize) -> String {
        self.ids[i].clone()
    }

    fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.pixels[i]);
        Ok(())
    }
}

/// What is predicted so far.
struct Work<'a> {
    config: &'a Config,
    ensemble: &'a Ensemble,
    stop: &'a Stop,
    progress: Progress,
    viewer: Option<Viewer<'a>>,
    ids: Vec<String>,
    /// By part, `[n, 28]`.
    probabilities: Vec<Array2<f32>>,
    /// By batch, `[n, features]`.
    embeddings: Vec<Array2<f32>>,
}

impl Work<'_> {
    fn part(&mut self, images: Images) -> Result<()> {
        if images.ids.is_empty() {
            return Ok(());
        }
        let (networks, source) = (&self.ensemble.networks, Arc::new(images));
        let all: Vec<usize> = (0..source.ids.len()).collect();
        let mut probabilities = Array2::zeros((all.len(), CLASSES));
        for network in networks {
            let predictor = network.predictor(self.config, self.stop);
            let logits = predictor
                .logits(&source, &all, self.config.predict.tta, Some(&self.progress))
                .map_err(|e| match e {
                    Error::Stopped(_) => Error::Stopped(
                        "stopped; nothing was written, run the same command again".into(),
                    ),
                    other => other,
                })?;
            probabilities += &(logits.mapv(sigmoid) / networks.len() as f32);
        }
        self.probabilities.push(probabilities);
        self.look(&source, &all)?;
        self.ids.extend(source.ids.iter().cloned());
        Ok(())
    }

    /// Adds the embeddings, where they are asked for.
    fn look(&mut self, source: &Arc<Images>, all: &[usize]) -> Result<()> {
        let (Some(viewer), Some(first)) = (&self.viewer, self.ensemble.networks.first()) else {
            return Ok(());
        };
        let make = Make::Eval { augment: self.config.augment.clone(), tta: Tta::None };
        let side = make.side();
        let most = first.predictor(self.config, self.stop).images_per_pass();
        let batches = all
            .chunks(most)
            .map(|batch| batch.iter().map(|&sample| Draw { sample, key: 0 }).collect())
            .collect();
        for batch in Loader::new(source.clone(), batches, make, self.config.threads(), 2) {
            let x = first.normalization.apply(&batch?.images, side, first.network.device());
            self.embeddings.push(viewer.view(&x).embeddings());
        }
        Ok(())
    }
}

fn together(parts: &[Array2<f32>]) -> Result<Array2<f32>> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    ndarray::concatenate(Axis(0), &views).map_err(Error::failed)
}

fn write_table(path: &Path, work: &Work, thresholds: &[f32; CLASSES]) -> Result<()> {
    let failed = |e: csv::Error| Error::failed(format!("cannot write {}: {e}", path.display()));
    let mut writer = csv::Writer::from_writer(atomic_file::Writer::create(path)?);
    writer.write_record(["id", "labels"].iter().chain(&NAMES)).map_err(failed)?;
    for (id, row) in work.ids.iter().zip(together(&work.probabilities)?.rows()) {
        let labels: Vec<&str> =
            submission_csv::labels_of(row, thresholds).iter().map(|c| NAMES[c]).collect();
        let fields =
            [id.clone(), labels.join(";")].into_iter().chain(row.iter().map(ToString::to_string));
        writer.write_record(fields).map_err(failed)?;
    }
    csv_file::finish(writer, path)
}

fn write_embeddings(path: &Path, work: &Work) -> Result<()> {
    let values = together(&work.embeddings)?;
    if path.extension().is_some_and(|e| e == "h5") {
        return prediction_file::write_hdf5(path, &work.ids, "embeddings", &values, &[]);
    }
    let mut writer = atomic_file::Writer::create(path)?;
    values
        .write_npy(&mut writer)
        .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
    writer.finish()
}
