//! The thread that runs the networks. Each network is loaded when it is first needed.

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

use super::{nearest::Embeddings, stores::SampleImage};
use crate::{
    base::{Error, Result, stop_request::Stop, thrown},
    config::{Augment, Config, CropReduce, Tta},
    data::labels::CLASSES,
    distributed::device,
    inference::grad_cam::FeatureExtractor,
    loading::augment::{self, Scratch},
    network::predictor::sigmoid,
    training::trained_network::TrainedNetwork,
};

/// The predictions of the networks for an image.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// Mean over the folds, 0 to 1.
    pub probabilities: Vec<f32>,
    pub folds: Vec<FoldPrediction>,
    /// By class, the activation map of the whole image in row-major order, 0 to 255; mean over the
    /// folds.
    pub maps: Vec<Vec<u8>>,
    /// Width of a map.
    pub width: usize,
}

#[derive(Debug, Serialize)]
pub struct FoldPrediction {
    pub fold: usize,
    /// `[views, 28]`, the views of `predict.tta` in the order of [`augment::views`].
    pub logits: Vec<Vec<f32>>,
}

/// A job for the thread.
enum InferenceJob {
    Predict {
        image: SampleImage,
        folds: Vec<usize>,
        answer: oneshot::Sender<Result<Prediction>>,
    },
    Embed {
        image: SampleImage,
        answer: oneshot::Sender<Result<Vec<f32>>>,
    },
    /// Embed all samples while there is no other job.
    EmbedAll,
}

/// The images of the samples by their number; `None` after the last one.
pub type SampleImages = Box<dyn Fn(usize) -> Option<Result<SampleImage>> + Send>;

/// A handle to the thread; dropping it ends the thread.
pub struct InferenceWorker {
    jobs: Option<mpsc::SyncSender<InferenceJob>>,
    thread: Option<JoinHandle<()>>,
    pub embeddings: Arc<Embeddings>,
    embedding: AtomicBool,
}

/// Jobs that may wait for the thread.
const WAITING: usize = 16;
/// Views per forward pass.
const VIEWS_PER_PASS: i64 = 5;
/// Most bytes of all embeddings.
const EMBEDDINGS: usize = 512 << 20;

impl InferenceWorker {
    /// `weights` are the checkpoints of the finished folds, by fold. Embeddings are those of the
    /// first network, since each network has its own features.
    pub fn start(
        config: Config,
        weights: Vec<(usize, PathBuf)>,
        samples: SampleImages,
        stop: &'static Stop,
    ) -> Result<Self> {
        let (jobs, todo) = mpsc::sync_channel(WAITING);
        let embeddings = Arc::new(Embeddings::new(EMBEDDINGS));
        let all = embeddings.clone();
        // Created on its own thread: tensors are not sent between threads.
        let work = move || {
            LoadedNetworks { config, weights, loaded: HashMap::new(), stop }
                .work(&todo, &samples, &all)
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

    /// The prediction of the networks of `folds`.
    pub async fn predict(&self, image: SampleImage, folds: Vec<usize>) -> Result<Prediction> {
        self.ask(|answer| InferenceJob::Predict { image, folds, answer }).await
    }

    /// The embedding of an image, `[features]`.
    pub async fn embed(&self, image: SampleImage) -> Result<Vec<f32>> {
        self.ask(|answer| InferenceJob::Embed { image, answer }).await
    }

    /// Starts to embed all samples, unless started already.
    pub fn embed_all(&self) {
        if !self.embedding.swap(true, Relaxed) && self.send(InferenceJob::EmbedAll).is_err() {
            self.embedding.store(false, Relaxed); // the queue is full; the next request tries again
        }
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T>>) -> InferenceJob,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(job(answer))?;
        answered.await.unwrap_or_else(|_| Err(Error::Stopped("the explorer is ending".into())))
    }

    fn send(&self, job: InferenceJob) -> Result<()> {
        let jobs = self.jobs.as_ref().expect("only drop takes it");
        jobs.try_send(job).map_err(|_| {
            Error::Stopped(
                "the networks are busy with other requests; try again in a moment".into(),
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

struct LoadedNetworks {
    config: Config,
    weights: Vec<(usize, PathBuf)>,
    /// Leaked, so that an extractor can borrow its network until the program ends.
    loaded: HashMap<usize, (&'static TrainedNetwork, FeatureExtractor<'static>)>,
    stop: &'static Stop,
}

impl LoadedNetworks {
    fn work(
        &mut self,
        jobs: &mpsc::Receiver<InferenceJob>,
        samples: &SampleImages,
        embeddings: &Embeddings,
    ) {
        let mut embedding = false;
        loop {
            let job = match embedding {
                false => jobs.recv().map_err(|_| mpsc::TryRecvError::Disconnected),
                true => jobs.try_recv(),
            };
            match job {
                // The client may have disconnected, as when the user skips through the samples.
                Ok(InferenceJob::Predict { answer, .. }) if answer.is_closed() => {}
                Ok(InferenceJob::Predict { image, folds, answer }) => {
                    let predict = || self.predict(&image, &folds);
                    drop(answer.send(thrown::catch(&thrown::ONE_IMAGE, predict)));
                }
                Ok(InferenceJob::Embed { answer, .. }) if answer.is_closed() => {}
                Ok(InferenceJob::Embed { image, answer }) => {
                    drop(answer.send(thrown::catch(&thrown::ONE_IMAGE, || self.embed(&image))));
                }
                Ok(InferenceJob::EmbedAll) => embedding = true,
                Err(mpsc::TryRecvError::Empty) => embedding = self.embed_next(samples, embeddings),
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
            if self.stop.asked() {
                return;
            }
        }
    }

    /// Whether there is more to embed.
    fn embed_next(&mut self, samples: &SampleImages, embeddings: &Embeddings) -> bool {
        let i = embeddings.len();
        if embeddings.room().is_some_and(|room| i >= room) {
            log::warn!(
                "the embeddings of the first {i} samples use all their memory; similar samples \
                    are among those"
            );
            return false;
        }
        let Some(image) = samples(i) else { return false };
        let embedding = match image {
            Ok(image) => thrown::catch(&thrown::ONE_IMAGE, || self.embed(&image)),
            Err(e) => {
                log::warn!("{e}; it is not listed among similar samples");
                embeddings.zeros().ok_or(e)
            }
        };
        match embedding {
            Ok(embedding) => embeddings.push(&embedding),
            Err(e) => {
                log::warn!("{e}; similar samples are among the first {i}");
                return false;
            }
        }
        true
    }

    fn predict(&mut self, image: &SampleImage, folds: &[usize]) -> Result<Prediction> {
        let Config { augment, predict, .. } = &self.config;
        let (reduce, stop) = (predict.reduce, self.stop);
        let (crops, crop_side) = views(augment, predict.tta, image)?;
        let (whole, whole_side) = views(augment, Tta::None, image)?;
        let mut probabilities = vec![0.0; CLASSES];
        let mut maps = vec![Array2::<f32>::zeros((0, 0)); CLASSES];
        let mut of_folds = Vec::new();
        for &fold in folds {
            let (trained, extractor) = self.of(fold)?;
            let device = trained.network.device();
            let x = trained.normalization.apply(&crops, crop_side, device);
            let mut logits: Vec<Vec<f32>> = Vec::new();
            for part in x.split(VIEWS_PER_PASS, 0) {
                if stop.asked() {
                    return Err(Error::Stopped("the explorer is ending".into()));
                }
                let part = extractor.features(&part).logits();
                logits.extend(part.rows().into_iter().map(|row| row.to_vec()));
            }
            for (class, probability) in probabilities.iter_mut().enumerate() {
                let of_views = logits.iter().map(|row| row[class]);
                let logit = match reduce {
                    CropReduce::Max => of_views.fold(f32::NEG_INFINITY, f32::max),
                    CropReduce::Mean => of_views.sum::<f32>() / logits.len() as f32,
                };
                *probability += sigmoid(logit) / folds.len() as f32;
            }
            let features =
                extractor.features(&trained.normalization.apply(&whole, whole_side, device));
            for (class, sum) in maps.iter_mut().enumerate() {
                let map = features.activation_map(0, class);
                *sum = if sum.is_empty() { map } else { &*sum + map };
            }
            of_folds.push(FoldPrediction { fold, logits });
        }
        let width = maps[0].ncols();
        let byte = |sum: &f32| (sum / folds.len() as f32 * 255.0).round() as u8;
        let maps = maps.iter().map(|map| map.iter().map(byte).collect()).collect();
        Ok(Prediction { probabilities, folds: of_folds, maps, width })
    }

    fn embed(&mut self, image: &SampleImage) -> Result<Vec<f32>> {
        let (whole, side) = views(&self.config.augment, Tta::None, image)?;
        let (trained, extractor) = self.of(self.weights[0].0)?;
        let x = trained.normalization.apply(&whole, side, trained.network.device());
        Ok(extractor.features(&x).embeddings().row(0).to_vec())
    }

    /// The network of a finished fold.
    fn of(&mut self, fold: usize) -> Result<&(&'static TrainedNetwork, FeatureExtractor<'static>)> {
        if !self.loaded.contains_key(&fold) {
            let device = device::choose(self.config.comm.backend, 0)?;
            if self.loaded.is_empty() {
                device::set_up_cpu(self.config.threads())?;
            }
            let path = self.weights.iter().find(|(of, _)| *of == fold).map(|(_, path)| path);
            let path = path.ok_or_else(|| Error::failed(format!("fold {fold} is not finished")))?;
            let trained: &'static TrainedNetwork = Box::leak(Box::new(
                TrainedNetwork::from_checkpoint(path, &self.config.train, device)?,
            ));
            self.loaded.insert(fold, (trained, FeatureExtractor::new(&trained.network)));
        }
        Ok(&self.loaded[&fold])
    }
}

/// The views of an image, u8 `[views, side, side, 4]`, and their side.
fn views(augment: &Augment, tta: Tta, image: &SampleImage) -> Result<(Vec<u8>, usize)> {
    let side = augment::view_side(augment, tta);
    let bytes = augment::view_count(tta) * side * side * 4;
    let mut out = thrown::reserve(bytes)?;
    out.resize(bytes, 0);
    let scratch = &mut Scratch::default();
    augment::views(augment, tta, &image.pixels, image.size, scratch, &mut out)?;
    Ok((out, side))
}
