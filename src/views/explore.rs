//! A local web page for a run: its samples and predictions, activation maps, similar samples, and
//! predictions for uploaded images. [`Server`] serves the page; an [`Explorer`] holds the run.
//! Memory: 28 probabilities and some labels per sample (200 bytes), up to 512 MiB of embeddings
//! once they are requested, and the networks; images are read when they are shown.

use std::{path::PathBuf, sync::Mutex};

use ndarray::Array2;

use crate::{
    base::{Result, stop_request::Stop},
    config::{Config, Method},
    data::{labels::CLASSES, manifest::Part, shard::Store, work_folder::WorkFolder},
    inference::{
        finished_run::{self, OutOfFold},
        predict,
    },
    loading::augment::geometry,
    scoring::prediction_file::Predictions,
    training::run_folder::Run,
};

mod connections;
mod guard;
mod inference_worker;
mod nearest;
mod pages;
mod receive;
mod refusal;
mod serve;
mod stores;
mod table;
mod upload;

pub use serve::{PORT, Server};

use inference_worker::InferenceWorker;
use stores::{SampleImage, Stores};
use table::SampleTable;
use upload::Uploads;

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: usize = 96;

/// A run and its samples.
pub struct Explorer {
    run: Run,
    table: SampleTable,
    stores: Stores,
    /// By class.
    thresholds: [f32; CLASSES],
    /// The method that fitted them.
    method: Method,
    /// Finished folds.
    folds: Vec<usize>,
    /// `dedup.radius` and `preprocess.max_pixels_side`.
    dedup_radius: u32,
    max_pixels_side: u32,
    inference_worker: InferenceWorker,
    uploads: Mutex<Uploads>,
}

/// A sample by its row, or an upload by its number.
#[derive(Clone, Copy)]
enum Subject {
    Sample(usize),
    Upload(u64),
}

impl Explorer {
    /// Reads the tables of a run, but no image and no network yet. Warns and takes thresholds of
    /// 0.5 where `submit` has not run; warns and leaves test samples without predictions where
    /// `predict` has not run or a checkpoint is gone.
    ///
    /// # Errors
    /// Usage where no fold is finished; data where shards or predictions are missing, damaged, or
    /// do not match each other.
    pub fn open(
        config: &Config,
        work: &WorkFolder,
        run: &Run,
        stop: &'static Stop,
    ) -> Result<Self> {
        let folds = run.finished_folds()?;
        work.manifest()?; // before the threads, which would wait for each other to read it
        let (opened, known) = rayon::join(
            || rayon::join(|| work.store(Part::Train), || work.store(Part::Test)),
            || OutOfFold::read(config, work, run),
        );
        let stores = Stores { train: opened.0?.clone(), test: opened.1?.clone() };
        let (thresholds, method) = finished_run::thresholds_or_half(run, config.submit.thresholds)?;
        let weights: Vec<_> =
            folds.iter().map(|&k| (k, run.weights(k, config.train.keep))).collect();
        let test = test_predictions(config, run, &stores.test, &weights)?;
        let table = SampleTable::of(&stores, &known?, test, &thresholds);
        let (places, sources): (Vec<_>, _) =
            (table.rows.iter().map(|r| (r.part, r.place)).collect(), stores.clone());
        let samples =
            Box::new(move |i: usize| places.get(i).map(|&(part, place)| sources.read(part, place)));
        let inference_worker = InferenceWorker::start(config.clone(), weights, samples, stop)?;
        Ok(Self {
            run: run.clone(),
            table,
            stores,
            thresholds,
            method,
            folds,
            dedup_radius: config.dedup.radius,
            max_pixels_side: config.preprocess.max_pixels_side,
            inference_worker,
            uploads: Mutex::default(),
        })
    }

    pub fn sample_count(&self) -> usize {
        self.table.rows.len()
    }

    /// # Errors
    /// Data where a shard's image is damaged; usage where an upload is no longer kept.
    fn image(&self, subject: Subject) -> Result<SampleImage> {
        match subject {
            Subject::Sample(i) => {
                self.stores.read(self.table.rows[i].part, self.table.rows[i].place)
            }
            Subject::Upload(i) => Ok(self.uploads().find(i)?.image.clone()),
        }
    }

    /// The image with a side of at most [`THUMBNAIL`] pixels.
    fn thumbnail(&self, subject: Subject) -> Result<SampleImage> {
        let image = self.image(subject)?;
        if image.size <= THUMBNAIL {
            return Ok(image);
        }
        let mut pixels = vec![0; THUMBNAIL * THUMBNAIL * 4];
        geometry::resize(
            &mut Default::default(),
            &image.pixels,
            image.size,
            &mut pixels,
            THUMBNAIL,
        )?;
        Ok(SampleImage { size: THUMBNAIL, pixels })
    }

    fn hashes(&self, subject: Subject) -> Result<[u64; 4]> {
        match subject {
            Subject::Sample(i) => Ok(self.hash_of(i)),
            Subject::Upload(i) => Ok(self.uploads().find(i)?.hashes),
        }
    }

    fn hash_of(&self, i: usize) -> [u64; 4] {
        let row = &self.table.rows[i];
        self.stores.of(row.part).phash(row.place)
    }

    /// The folds whose networks predict the subject: those that predicted it out of fold, else
    /// all. These may have trained on a sample without an out-of-fold prediction (a dropped
    /// duplicate, or of an unfinished fold), and the page says so.
    fn folds_for(&self, subject: Subject) -> Vec<usize> {
        match subject {
            Subject::Sample(i) if !self.table.rows[i].folds.is_empty() => {
                self.table.rows[i].folds.clone()
            }
            _ => self.folds.clone(),
        }
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// `[n, 28]`, in the order of the store; `None` where a file is missing or stale, or a checkpoint
/// is gone.
fn test_predictions(
    config: &Config,
    run: &Run,
    store: &Store,
    weights: &[(usize, PathBuf)],
) -> Result<Option<Array2<f32>>> {
    if let Some((k, path)) = weights.iter().find(|(_, path)| !path.exists()) {
        log::warn!(
            "{} is gone: fold {k} cannot predict, and test samples have no predictions",
            path.display()
        );
        return Ok(None);
    }
    let files = predict::files(config, run, store)?;
    if let Some(file) = files.iter().find(|f| !f.is_fresh()) {
        log::warn!(
            "{} is missing or stale: test samples have no predictions; `atlas predict` makes them",
            file.path.display()
        );
        return Ok(None);
    }
    let mut all = Array2::zeros((store.len(), CLASSES));
    for file in files {
        let read = Predictions::read(&file.path)?;
        all.slice_mut(ndarray::s![file.samples, ..]).assign(&read.probabilities);
    }
    Ok(Some(all))
}
