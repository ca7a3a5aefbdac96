//! A page on this machine over a run: its samples, what it predicted for them, where its networks
//! look, and what they make of other pictures. [`Server`] answers a browser; an [`Explorer`] knows
//! the run. Memory: a row of 28 probabilities and some labels for each sample (200 bytes),
//! embeddings of up to 512 MiB once they are asked for, and the networks; images are read when they
//! are shown.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use ndarray::Array2;

use crate::{
    base::{Result, stop::Stop},
    config::Config,
    data::{
        labels::{CLASSES, Labels},
        manifest::Part,
        shard::Store,
        work_folder::WorkFolder,
    },
    inference::{
        finished_run::{self, OutOfFold},
        predict,
    },
    loading::augment::geometry,
    scoring::{prediction_file::Predictions, submission_csv},
    training::{run_folder::Run, train},
};

mod guard;
mod inference_worker;
mod nearest;
mod pages;
mod serve;
mod table;
mod upload;

pub use serve::{PORT, Server};

use inference_worker::InferenceWorker;
use table::{Row, Table};
use upload::Uploads;

/// An image, u8 `[size, size, 4]`: red, green, blue, yellow.
#[derive(Clone)]
pub struct Picture {
    pub size: usize,
    pub pixels: Vec<u8>,
}

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: usize = 96;

/// A run and its samples, ready to be asked.
pub struct Explorer {
    config: Config,
    run: Run,
    table: Table,
    stores: Stores,
    /// Of each class.
    thresholds: [f32; CLASSES],
    /// Which thresholds these are.
    method: String,
    /// The finished folds.
    folds: Vec<usize>,
    inference_worker: InferenceWorker,
    uploads: Mutex<Uploads>,
}

#[derive(Clone)]
struct Stores {
    train: Arc<Store>,
    test: Arc<Store>,
}

/// What a picture is asked of: a sample by its row, or what somebody dropped, by its number.
#[derive(Clone, Copy)]
enum Subject {
    Sample(usize),
    Upload(u64),
}

impl Explorer {
    /// Reads the tables of a run; no image and no network yet. Without thresholds (`submit` has not
    /// run) a half, without fresh predictions (`predict` has not run, or a checkpoint is gone) test
    /// samples without any, each with a warning.
    ///
    /// # Errors
    /// Usage where no fold is finished; data where shards or predictions are missing, broken, or do
    /// not fit each other.
    pub fn open(config: &Config, run: &Run, stop: &'static Stop) -> Result<Self> {
        let folds = run.finished_folds()?;
        let work = WorkFolder::open(&config.paths.work);
        work.manifest()?; // before the threads, which would wait for each other to read it
        let (opened, known) = rayon::join(
            || rayon::join(|| work.store(Part::Train), || work.store(Part::Test)),
            || OutOfFold::read(config, &work, run),
        );
        let stores = Stores { train: opened.0?.clone(), test: opened.1?.clone() };
        let (thresholds, method) = thresholds(config, run)?;
        let weights: Vec<_> =
            folds.iter().map(|&k| (k, train::weights_path(config, run, k))).collect();
        let table = Table::of(
            &stores,
            known?,
            test_predictions(config, run, &stores.test, &weights)?,
            &thresholds,
        );
        let (places, sources): (Vec<_>, _) =
            (table.rows.iter().map(|r| (r.part, r.place)).collect(), stores.clone());
        let samples =
            Box::new(move |i: usize| places.get(i).map(|&(part, place)| sources.read(part, place)));
        let inference_worker = InferenceWorker::start(config.clone(), weights, samples, stop)?;
        Ok(Self {
            config: config.clone(),
            run: run.clone(),
            table,
            stores,
            thresholds,
            method,
            folds,
            inference_worker,
            uploads: Mutex::default(),
        })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.table.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the words of an address name: `samples` or `uploads`, and a number. They are looked up,
    /// never made into a path.
    fn subject(&self, kind: &str, number: &str) -> Option<Subject> {
        match kind {
            "samples" => number.parse().ok().filter(|&i| i < self.len()).map(Subject::Sample),
            "uploads" => number
                .parse()
                .ok()
                .filter(|&i| self.uploads().find(i).is_some())
                .map(Subject::Upload),
            _ => None,
        }
    }

    /// # Errors
    /// Data where a shard's image is broken; usage where an upload was forgotten meanwhile.
    fn picture(&self, subject: Subject) -> Result<Picture> {
        match subject {
            Subject::Sample(i) => {
                self.stores.read(self.table.rows[i].part, self.table.rows[i].place)
            }
            Subject::Upload(i) => self
                .uploads()
                .find(i)
                .map(|upload| upload.picture.clone())
                .ok_or_else(upload::forgotten),
        }
    }

    /// A picture of at most [`THUMBNAIL`] pixels a side.
    fn thumbnail(&self, subject: Subject) -> Result<Picture> {
        let picture = self.picture(subject)?;
        if picture.size <= THUMBNAIL {
            return Ok(picture);
        }
        let mut pixels = vec![0; THUMBNAIL * THUMBNAIL * 4];
        geometry::resize(
            &mut Default::default(),
            &picture.pixels,
            picture.size,
            &mut pixels,
            THUMBNAIL,
        )?;
        Ok(Picture { size: THUMBNAIL, pixels })
    }

    fn hashes(&self, subject: Subject) -> Result<[u64; 4]> {
        match subject {
            Subject::Sample(i) => Ok(self.hash_of(i)),
            Subject::Upload(i) => {
                self.uploads().find(i).map(|upload| upload.hashes).ok_or_else(upload::forgotten)
            }
        }
    }

    fn hash_of(&self, i: usize) -> [u64; 4] {
        let row = &self.table.rows[i];
        self.stores.of(row.part).phash(row.place)
    }

    /// The folds whose networks are asked about a picture: those that predicted it without having
    /// trained on it, else all. Of a training sample that none has predicted (dropped as a
    /// duplicate, or of a fold that is not finished), the page says that they may have.
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

impl Stores {
    fn of(&self, part: Part) -> &Store {
        match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        }
    }

    fn read(&self, part: Part, place: usize) -> Result<Picture> {
        let store = self.of(part);
        let mut pixels = vec![0; store.size() * store.size() * 4];
        store.read(place, &mut pixels)?;
        Ok(Picture { size: store.size(), pixels })
    }
}

impl Table {
    /// Rows of all samples: those of `known` with the mean of their predictions, test ones with
    /// `test` `[n, 28]`, if there are any.
    fn of(
        stores: &Stores,
        known: OutOfFold,
        test: Option<Array2<f32>>,
        thresholds: &[f32; CLASSES],
    ) -> Self {
        let n = stores.train.len();
        let mut probabilities = Array2::zeros((n + stores.test.len(), CLASSES));
        let mut folds = vec![Vec::new(); n];
        for ((id, fold), row) in known.ids.iter().zip(&known.folds).zip(known.probabilities.rows())
        {
            // What was put into quarantine since has no image.
            let Some(place) = stores.train.find(id) else { continue };
            let mut sum = probabilities.row_mut(place);
            sum += &row;
            folds[place].push(*fold);
        }
        if let Some(test) = &test {
            probabilities.slice_mut(ndarray::s![n.., ..]).assign(test);
        }
        let mut rows = Vec::with_capacity(probabilities.nrows());
        for (i, mut p) in probabilities.rows_mut().into_iter().enumerate() {
            let (part, place) = if i < n { (Part::Train, i) } else { (Part::Test, i - n) };
            let store = stores.of(part);
            let folds = if i < n { std::mem::take(&mut folds[i]) } else { Vec::new() };
            let answered = if i < n { !folds.is_empty() } else { test.is_some() };
            p /= folds.len().max(1) as f32;
            let truth = store.labels(place);
            let predicted = if answered {
                submission_csv::labels_of(p.view(), thresholds)
            } else {
                Labels::default()
            };
            let loss = if answered && part == Part::Train {
                table::loss(truth, p.iter().copied())
            } else {
                f32::NAN
            };
            rows.push(Row {
                id: store.id(place).into(),
                place,
                part,
                folds,
                truth,
                predicted,
                answered,
                loss,
            });
        }
        Self { rows, probabilities }
    }
}

/// The thresholds that the run's answer uses, and what they are called; a half where `submit` has
/// not run.
fn thresholds(config: &Config, run: &Run) -> Result<([f32; CLASSES], String)> {
    Ok(finished_run::used(config, run)?.map_or_else(
        || {
            log::warn!(
                "{} has no thresholds: every one is 0.5; `atlas submit` fits them",
                run.folder.display()
            );
            ([0.5; CLASSES], "half".into())
        },
        |used| (used.values, used.method),
    ))
}

/// `[n, 28]`, in the order of the store; `None` where some are missing or made with other weights,
/// or these are gone.
fn test_predictions(
    config: &Config,
    run: &Run,
    store: &Store,
    weights: &[(usize, PathBuf)],
) -> Result<Option<Array2<f32>>> {
    if let Some((k, path)) = weights.iter().find(|(_, path)| !path.exists()) {
        log::warn!(
            "{} is gone: fold {k} cannot be asked, and test samples have no predictions",
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
