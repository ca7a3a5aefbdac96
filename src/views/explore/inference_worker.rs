//! The thread that looks at images through the networks. They are loaded when the first of them is
//! needed.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use ndarray::Array2;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Picture, nearest::Embeddings};
use crate::{
    base::{Error, Result, stop::Stop},
    config::{Config, CropReduce, Tta},
    data::labels::CLASSES,
    distributed::device,
    inference::grad_cam::Viewer,
    loading::augment::{self, Scratch},
    network::predictor::{self, Trained, sigmoid},
};

/// What the networks make of an image.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// Mean over the folds, 0 to 1.
    pub probabilities: Vec<f32>,
    pub folds: Vec<OfFold>,
    /// By class, what speaks for it on the whole image, row by row: 0 nothing, 255 most; mean over
    /// the folds.
    pub maps: Vec<Vec<u8>>,
    /// Width of a map.
    pub width: usize,
}

#[derive(Debug, Serialize)]
pub struct OfFold {
    pub fold: usize,
    /// `[views, 28]`, the views of `predict.tta` in the order of [`augment::views`].
    pub logits: Vec<Vec<f32>>,
}

/// What is asked of the thread.
enum Job {
    Predict {
        picture: Picture,
        folds: Vec<usize>,
        answer: oneshot::Sender<Result<Prediction>>,
    },
    Embed {
        picture: Picture,
        answer: oneshot::Sender<Result<Vec<f32>>>,
    },
    /// From now on embed all samples while nothing else is to do.
    EmbedAll,
}

/// Where the samples come from that are embedded one after the other.
pub type Samples = Box<dyn Fn(usize) -> Option<Result<Picture>> + Send>;

/// A handle to the thread; dropped, it ends it.
pub struct InferenceWorker {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub embeddings: Arc<Embeddings>,
    embedding: AtomicBool,
}

/// Questions that may wait for the thread.
const WAITING: usize = 16;
/// Views that go through a network at a time.
const TOGETHER: i64 = 5;
/// What all embeddings may take.
const EMBEDDINGS: usize = 512 << 20;

impl InferenceWorker {
    /// `weights` are those of each finished fold. Embeddings are those of the first of them, since
    /// each network has its own features.
    pub fn start(
        config: Config,
        weights: Vec<(usize, PathBuf)>,
        samples: Samples,
        stop: &'static Stop,
    ) -> Result<Self> {
        let (jobs, todo) = mpsc::sync_channel(WAITING);
        let embeddings = Arc::new(Embeddings::new(EMBEDDINGS));
        let all = embeddings.clone();
        // Made on its thread: tensors stay where they are.
        let work = move || {
            Networks { config, weights, loaded: HashMap::new(), stop }.work(&todo, &samples, &all)
        };
        let thread =
            thread::Builder::new().name("inference".into()).spawn(work).map_err(Error::failed)?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            embeddings,
            embedding: AtomicBool::new(false),
        })
    }

    /// What the networks of `folds` make of a picture.
    pub async fn predict(&self, picture: Picture, folds: Vec<usize>) -> Result<Prediction> {
        self.ask(|answer| Job::Predict { picture, folds, answer }).await
    }

    /// The embedding of a picture, `[features]`.
    pub async fn embed(&self, picture: Picture) -> Result<Vec<f32>> {
        self.ask(|answer| Job::Embed { picture, answer }).await
    }

    /// Begins to embed all samples, unless it has begun.
    pub fn embed_all(&self) {
        if !self.embedding.swap(true, Relaxed) && self.send(Job::EmbedAll).is_err() {
            self.embedding.store(false, Relaxed); // too busy; the next question tries again
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(job(answer))?;
        answered.await.unwrap_or_else(|_| Err(Error::Stopped("the explorer is ending".into())))
    }

    fn send(&self, job: Job) -> Result<()> {
        let jobs = self.jobs.as_ref().expect("only drop takes it");
        jobs.try_send(job).map_err(|_| {
            Error::Stopped(
                "the networks are busy with other questions; ask again in a moment".into(),
            )
        })
    }
}

impl Drop for InferenceWorker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has ended the program
        }
    }
}

struct Networks {
    config: Config,
    weights: Vec<(usize, PathBuf)>,
    /// Networks and viewers live until the program ends: a viewer borrows its network.
    loaded: HashMap<usize, (&'static Trained, Viewer<'static>)>,
    stop: &'static Stop,
}

impl Networks {
    fn work(&mut self, jobs: &mpsc::Receiver<Job>, samples: &Samples, embeddings: &Embeddings) {
        let mut embedding = false;
        loop {
            let job = match embedding {
                false => jobs.recv().map_err(|_| mpsc::TryRecvError::Disconnected),
                true => jobs.try_recv(),
            };
            match job {
                // Whoever asked may have gone, as when somebody leafs through the samples.
                Ok(Job::Predict { answer, .. }) if answer.is_closed() => {}
                Ok(Job::Predict { picture, folds, answer }) => {
                    drop(answer.send(self.predict(&picture, &folds)))
                }
                Ok(Job::Embed { answer, .. }) if answer.is_closed() => {}
                Ok(Job::Embed { picture, answer }) => drop(answer.send(self.embed(&picture))),
                Ok(Job::EmbedAll) => embedding = true,
                Err(mpsc::TryRecvError::Empty) => embedding = self.embed_next(samples, embeddings),
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
            if self.stop.asked() {
                return;
            }
        }
    }

    /// Whether there is more to embed.
    fn embed_next(&mut self, samples: &Samples, embeddings: &Embeddings) -> bool {
        let i = embeddings.len();
        if embeddings.room().is_some_and(|room| i >= room) {
            log::warn!(
                "embeddings of the first {i} samples fill their memory; neighbours by embedding \
                    are among those"
            );
            return false;
        }
        let Some(picture) = samples(i) else { return false };
        let embedding = match picture {
            Ok(picture) => self.embed(&picture),
            Err(e) => {
                log::warn!("{e}; it is nobody's neighbour by embedding");
                embeddings.nothing().ok_or(e)
            }
        };
        match embedding {
            Ok(embedding) => embeddings.push(&embedding),
            Err(e) => {
                log::warn!("{e}; neighbours by embedding are among the first {i} samples");
                return false;
            }
        }
        true
    }

    fn predict(&mut self, picture: &Picture, folds: &[usize]) -> Result<Prediction> {
        let (config, stop) = (self.config.clone(), self.stop);
        let mut scratch = Scratch::default();
        let mut view = |tta: Tta| -> Result<(Vec<u8>, usize)> {
            let side = augment::view_side(&config.augment, tta);
            let mut out = vec![0; augment::view_count(tta) * side * side * 4];
            augment::views(
                &config.augment,
                tta,
                &picture.pixels,
                picture.size,
                &mut scratch,
                &mut out,
            )?;
            Ok((out, side))
        };
        let ((views, view_side), (whole, whole_side)) =
            (view(config.predict.tta)?, view(Tta::None)?);
        let mut probabilities = vec![0.0; CLASSES];
        let mut maps = vec![Array2::<f32>::zeros((0, 0)); CLASSES];
        let mut of_folds = Vec::new();
        for &fold in folds {
            let (trained, viewer) = self.of(fold)?;
            let device = trained.network.device();
            let x = trained.normalization.apply(&views, view_side, device);
            let mut logits: Vec<Vec<f32>> = Vec::new();
            for part in x.split(TOGETHER, 0) {
                if stop.asked() {
                    return Err(Error::Stopped("the explorer is ending".into()));
                }
                logits
                    .extend(viewer.view(&part).logits().rows().into_iter().map(|row| row.to_vec()));
            }
            for (class, probability) in probabilities.iter_mut().enumerate() {
                let of_views = logits.iter().map(|row| row[class]);
                let logit = match config.predict.reduce {
                    CropReduce::Max => of_views.fold(f32::NEG_INFINITY, f32::max),
                    CropReduce::Mean => of_views.sum::<f32>() / logits.len() as f32,
                };
                *probability += sigmoid(logit) / folds.len() as f32;
            }
            let view = viewer.view(&trained.normalization.apply(&whole, whole_side, device));
            for (class, sum) in maps.iter_mut().enumerate() {
                let map = view.map(0, class);
                *sum = if sum.is_empty() { map } else { &*sum + map };
            }
            of_folds.push(OfFold { fold, logits });
        }
        let width = maps[0].ncols();
        let byte = |sum: &f32| (sum / folds.len() as f32 * 255.0).round() as u8;
        let maps = maps.iter().map(|map| map.iter().map(byte).collect()).collect();
        Ok(Prediction { probabilities, folds: of_folds, maps, width })
    }

    fn embed(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        let augment = self.config.augment.clone();
        let side = augment::view_side(&augment, Tta::None);
        let mut out = vec![0; side * side * 4];
        augment::views(
            &augment,
            Tta::None,
            &picture.pixels,
            picture.size,
            &mut Scratch::default(),
            &mut out,
        )?;
        let first = self.weights[0].0;
        let (trained, viewer) = self.of(first)?;
        let x = trained.normalization.apply(&out, side, trained.network.device());
        Ok(viewer.view(&x).embeddings().row(0).to_vec())
    }

    /// The network of a finished fold.
    fn of(&mut self, fold: usize) -> Result<&(&'static Trained, Viewer<'static>)> {
        if !self.loaded.contains_key(&fold) {
            let device = device::choose(self.config.comm.backend, 0)?;
            if self.loaded.is_empty() {
                device::set_up_cpu(self.config.threads());
            }
            let path = self.weights.iter().find(|(of, _)| *of == fold).map(|(_, path)| path);
            let path = path.ok_or_else(|| Error::failed(format!("fold {fold} is not finished")))?;
            let trained: &'static Trained =
                Box::leak(Box::new(predictor::load(path, &self.config, device)?));
            self.loaded.insert(fold, (trained, Viewer::new(&trained.network)));
        }
        Ok(&self.loaded[&fold])
    }
}
