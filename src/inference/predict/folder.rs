//! Predicts a folder of the user's own images: a table of probabilities and labels, and on request
//! embeddings.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ndarray::{Array2, Axis};
use ndarray_npy::{WriteNpyError, WriteNpyExt};

use crate::{
    base::{
        Error, Result, atomic_file, csv_file, output_target::Target, progress::Progress,
        stop_request::Stop, thread_pool,
    },
    config::{Config, Tta},
    data::{
        labels::{CLASSES, Labels, NAMES},
        manifest::{self, ProblemKind, Sample},
        shard::{self, Bad, Tally},
    },
    distributed::device,
    inference::{ensemble::Ensemble, grad_cam::FeatureExtractor},
    loading::{
        loader::{Loader, Make, Source},
        sampler::Draw,
    },
    network::predictor::{Predictor, sigmoid},
    scoring::{prediction_file, submission_csv},
    training::trained_network::TrainedNetwork,
};

/// The files to write.
pub struct OutputFiles<'a> {
    /// CSV with the columns `id`, `labels` (names joined by `;`) and the probability of each class
    /// under its name.
    pub table: &'a Path,
    /// `[n, features]` f32 in the order of the table, as `.npy` or, with `/ids`, as `.h5`.
    pub embeddings: Option<&'a Path>,
}

/// The result of [`predict`].
#[derive(Debug)]
pub struct FolderOutcome {
    /// Number of samples.
    pub predicted: usize,
    /// Each fault of the samples that cannot be read.
    pub skipped: Vec<Bad>,
    /// The file that lists these, `<table>-skipped.csv`, if there are any.
    pub skipped_list: Option<PathBuf>,
}

/// Bytes of images in memory at a time.
const IMAGE_BYTES: usize = 256 << 20;

/// Predicts all samples of `folder`, files `<id>_<channel>.<png|jpg|tif>[.gz]` of any size. Images
/// are prepared as in training: resized to `preprocess.size`, then `augment.resize`. Crops and
/// their reduction follow `predict.tta` and `predict.reduce`; probabilities are averaged over the
/// networks. Embeddings are those of the first network, of whole images at `augment.resize`.
///
/// # Errors
/// Data where no sample can be read; Stopped after `stop`, with nothing written.
pub fn predict(
    config: &Config,
    folder: &Path,
    ensemble: &Ensemble,
    output: &OutputFiles,
    stop: &Stop,
) -> Result<FolderOutcome> {
    device::set_up_cpu(config.threads())?;
    let (samples, mut skipped, other) = scan(folder)?;
    let size = config.preprocess.size as usize;
    let settings = shard::Settings { size, max_side: config.preprocess.max_pixels_side };
    let pool = thread_pool::start(config.threads())?;
    let total = samples.len() * ensemble.networks.len();
    let mut predictions = FolderPredictions {
        config,
        ensemble,
        stop,
        progress: Progress::new("predict", "samples", total as u64),
        extractor: (output.embeddings.and(ensemble.networks.first()))
            .map(|first| FeatureExtractor::new(&first.network)),
        ids: Vec::new(),
        probabilities: Vec::new(),
        embeddings: Vec::new(),
    };
    let tally = Tally::default();
    for part in samples.chunks((IMAGE_BYTES / (size * size * 4)).clamp(1, 256)) {
        let mut images = Images { size, ids: Vec::new(), pixels: Vec::new() };
        let read = pool.install(|| shard::read_images(part, settings, &tally));
        for (sample, read) in part.iter().zip(read) {
            match read {
                Ok(pixels) => {
                    images.ids.push(sample.id.clone());
                    images.pixels.push(pixels);
                }
                Err(faults) => skipped.extend(faults),
            }
        }
        let unread = (part.len() - images.ids.len()) * ensemble.networks.len();
        predictions.progress.add(unread as u64);
        predictions.add(images)?;
    }
    tally.warnings(size).iter().for_each(|warning| log::warn!("{warning}"));
    if predictions.ids.is_empty() {
        return Err(nothing_readable(folder, &skipped, &other));
    }
    predictions.write(output)?;
    let skipped_list = list_skipped(output.table, &skipped)?;
    Ok(FolderOutcome { predicted: predictions.ids.len(), skipped_list, skipped })
}

/// Writes the list of the samples that cannot be read beside the table, and returns its path; where
/// there are none, removes that of an earlier call. Beside a device or a pipe there is no place for
/// it: the samples are named in warnings.
fn list_skipped(table: &Path, skipped: &[Bad]) -> Result<Option<PathBuf>> {
    if matches!(Target::of(table)?, Target::Into(_)) {
        for bad in skipped.iter().take(MOST_NAMED) {
            log::warn!("skipped {} {}: {}", bad.id, bad.file, bad.reason);
        }
        if skipped.len() > MOST_NAMED {
            log::warn!(
                "and {} more; with a file as --output all are listed",
                skipped.len() - MOST_NAMED
            );
        }
        return Ok(None);
    }
    let list = skipped_list(table);
    if skipped.is_empty() {
        let _ = fs::remove_file(&list);
        return Ok(None);
    }
    shard::write_bad(&list, skipped)?;
    Ok(Some(list))
}

/// How many skipped samples are named where they cannot be listed.
const MOST_NAMED: usize = 8;

/// The complete samples of a folder, the faults of those that lack a channel, and the lines about
/// everything else.
fn scan(folder: &Path) -> Result<(Vec<Sample>, Vec<Bad>, Vec<String>)> {
    let scan = manifest::scan_images(folder)?;
    let (lacking, other): (Vec<_>, Vec<_>) =
        scan.problems.into_iter().partition(|p| p.kind == ProblemKind::MissingChannels);
    let other = manifest::summary(&other);
    other.iter().for_each(|line| log::warn!("{line}"));
    let bad = |p: manifest::Problem| Bad {
        id: p.id,
        file: String::new(),
        reason: format!("no image of {}", p.detail),
    };
    Ok((scan.manifest.samples, lacking.into_iter().map(bad).collect(), other))
}

fn nothing_readable(folder: &Path, skipped: &[Bad], other: &[String]) -> Error {
    let why = match (skipped.first(), other.first()) {
        (Some(bad), _) => {
            let name = if bad.file.is_empty() { &bad.id } else { &bad.file };
            format!("such as {name}: {}", bad.reason)
        }
        (None, other) => {
            let found = other.map_or(String::new(), |line| format!("; found {line}"));
            format!(
                "expected files called <id>_red.png, <id>_green.png, <id>_blue.png, \
                    <id>_yellow.png (or .jpg, .tif, each also with .gz){found}"
            )
        }
    };
    Error::data(folder, format!("no sample can be read ({why})"))
}

/// `a/b.csv` → `a/b-skipped.csv`
fn skipped_list(table: &Path) -> PathBuf {
    let stem = table.file_stem().unwrap_or_default().to_string_lossy();
    table.with_file_name(format!("{stem}-skipped.csv"))
}

/// The images of some samples.
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

/// The predictions so far.
struct FolderPredictions<'a> {
    config: &'a Config,
    ensemble: &'a Ensemble,
    stop: &'a Stop,
    progress: Progress,
    /// `None` where no embeddings are wanted.
    extractor: Option<FeatureExtractor<'a>>,
    ids: Vec<String>,
    /// Parts `[n, 28]`.
    probabilities: Vec<Array2<f32>>,
    /// Batches `[n, features]`.
    embeddings: Vec<Array2<f32>>,
}

impl FolderPredictions<'_> {
    /// Predicts the next part of the samples.
    fn add(&mut self, images: Images) -> Result<()> {
        if images.ids.is_empty() {
            return Ok(());
        }
        let (networks, source) = (&self.ensemble.networks, Arc::new(images));
        let all: Vec<usize> = (0..source.ids.len()).collect();
        let mut probabilities = Array2::zeros((all.len(), CLASSES));
        for network in networks {
            let logits = self
                .predictor(network)
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
        self.add_embeddings(&source, &all)?;
        self.ids.extend(source.ids.iter().cloned());
        Ok(())
    }

    fn add_embeddings(&mut self, source: &Arc<Images>, all: &[usize]) -> Result<()> {
        let (Some(extractor), Some(first)) = (&self.extractor, self.ensemble.networks.first())
        else {
            return Ok(());
        };
        let make = Make::Eval { augment: self.config.augment.clone(), tta: Tta::None };
        let side = make.side();
        let batches = all
            .chunks(self.predictor(first).images_per_pass())
            .map(|batch| batch.iter().map(|&sample| Draw { sample, key: 0 }).collect())
            .collect();
        for batch in Loader::new(source.clone(), batches, make, self.config.threads(), 2) {
            let x = first.normalization.apply(&batch?.images, side, first.network.device());
            self.embeddings.push(extractor.features(&x).embeddings());
        }
        Ok(())
    }

    fn predictor<'a>(&'a self, network: &'a TrainedNetwork) -> Predictor<'a> {
        let config = self.config;
        network.predictor(&config.augment, &config.predict, config.threads(), self.stop)
    }

    fn write(&self, output: &OutputFiles) -> Result<()> {
        self.write_table(output.table)?;
        output.embeddings.map_or(Ok(()), |path| self.write_embeddings(path))
    }

    fn write_table(&self, path: &Path) -> Result<()> {
        let failed = csv_file::cannot_write(path);
        let mut writer = csv::Writer::from_writer(atomic_file::Writer::create(path)?);
        writer.write_record(["id", "labels"].iter().chain(&NAMES)).map_err(&failed)?;
        for (id, row) in self.ids.iter().zip(concatenated(&self.probabilities)?.rows()) {
            let labels = submission_csv::labels_of(row, &self.ensemble.thresholds);
            let labels: Vec<&str> = labels.iter().map(|c| NAMES[c]).collect();
            let probabilities = row.iter().map(ToString::to_string);
            let fields = [id.clone(), labels.join(";")].into_iter().chain(probabilities);
            writer.write_record(fields).map_err(&failed)?;
        }
        csv_file::finish(writer, path)
    }

    fn write_embeddings(&self, path: &Path) -> Result<()> {
        let values = concatenated(&self.embeddings)?;
        if path.extension().is_some_and(|e| e == "h5") {
            return prediction_file::write_hdf5(path, &self.ids, "embeddings", &values, &[]);
        }
        let mut writer = atomic_file::Writer::create(path)?;
        values.write_npy(&mut writer).map_err(|e| match e {
            WriteNpyError::Io(e) => Error::io("write", path)(e),
            e => Error::failed(format!("cannot write {}: {e}", path.display())),
        })?;
        writer.finish()
    }
}

fn concatenated(parts: &[Array2<f32>]) -> Result<Array2<f32>> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    ndarray::concatenate(Axis(0), &views).map_err(Error::failed)
}
