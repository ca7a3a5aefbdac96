//! Samples in, logits out: the forward half that validation and prediction share.

use ndarray::Array2;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tch::{Device, Kind, Tensor};

use crate::{
    base::{Error, Result, checksum, progress::Progress, stop::Stop},
    config::{Config, CropReduce, Tta},
    data::labels::CLASSES,
    loading::{
        loader::{Loader, Make, Source},
        normalization::Normalization,
        sampler::Draw,
    },
    network::{
        model::{ComputeMode, Folded, Network, Precision},
        weights::Weights,
    },
    training::checkpoint::Checkpoint,
};

/// A network ready to predict.
pub struct Predictor<'a> {
    pub network: &'a Network,
    pub precision: Precision,
    pub normalization: &'a Normalization,
    pub config: &'a Config,
    /// Ends the prediction at the next batch.
    pub stop: &'a Stop,
}

impl Predictor<'_> {
    /// Logits `[n, 28]` of `samples` (positions in the source), reduced over the crops.
    pub fn logits<S: Source>(
        &self,
        source: &Arc<S>,
        samples: &[usize],
        tta: Tta,
        progress: Option<&Progress>,
    ) -> Result<Array2<f32>> {
        let make = Make::Eval { augment: self.config.augment.clone(), tta };
        let (views, side) = (make.views(), make.side());
        let most = self.images_per_pass();
        let per_batch = (most / views).max(1);
        let batches: Vec<Vec<Draw>> = samples
            .chunks(per_batch)
            .map(|c| c.iter().map(|&s| Draw { sample: s, key: 0 }).collect())
            .collect();
        let mut out = Vec::with_capacity(samples.len() * CLASSES);
        let folded = Folded::new(self.network, self.precision);
        for batch in Loader::new(source.clone(), batches, make, self.config.threads(), 2) {
            let batch = batch?;
            if self.stop.asked() {
                return Err(Error::Stopped(
                    "stopped while predicting; run the same command again to go on".into(),
                ));
            }
            let n = batch.samples.len() as i64;
            let x = self.normalization.apply(&batch.images, side, self.network.device());
            // With many views one sample alone may be more.
            let parts: Vec<Tensor> =
                x.split(most as i64, 0).iter().map(|part| folded.forward(part)).collect();
            let logits = Tensor::cat(&parts, 0).view([n, views as i64, CLASSES as i64]);
            let logits = match self.config.predict.reduce {
                CropReduce::Max => logits.amax(&[1i64][..], false),
                CropReduce::Mean => logits.mean_dim(&[1i64][..], false, Kind::Float),
            };
            out.extend(to_vec(&logits));
            if let Some(progress) = progress {
                progress.add(n as u64);
            }
        }
        if let Some(bad) = out.iter().position(|l| !l.is_finite()) {
            return Err(Error::failed(format!(
                "the network's output for sample {} is not a number",
                source.id(samples[bad / CLASSES])
            )));
        }
        Array2::from_shape_vec((samples.len(), CLASSES), out).map_err(Error::failed)
    }

    /// `predict.batch`, or what suits the device: on a CPU as few as stay in its cache, but for one
    /// thread in f32 so many that libtorch takes its fast convolutions.
    pub fn images_per_pass(&self) -> usize {
        match (self.config.predict.batch, self.network.device()) {
            (0, Device::Cpu) if self.config.threads() == 1 && self.precision == Precision::F32 => {
                20
            }
            (0, Device::Cpu) => 5,
            (0, _) => 40,
            (n, _) => n,
        }
    }
}

/// What a fold's training leaves for prediction.
pub struct Trained {
    pub network: Network,
    pub precision: Precision,
    pub normalization: Normalization,
}

impl Trained {
    pub fn predictor<'a>(&'a self, config: &'a Config, stop: &'a Stop) -> Predictor<'a> {
        Predictor {
            network: &self.network,
            precision: self.precision,
            normalization: &self.normalization,
            config,
            stop,
        }
    }
}

/// The network that a checkpoint's averaged (or plain) weights describe. Where the keys say `auto`,
/// it computes as in training.
pub fn load(path: &Path, config: &Config, device: Device) -> Result<Trained> {
    let checkpoint = Checkpoint::read(path)?;
    let state = &checkpoint.state;
    let trained = state.conditions.compute_mode;
    let compute_mode = ComputeMode::of(&config.train, trained);
    if compute_mode.channels_last != trained.channels_last {
        return Err(Error::usage(format!(
            "{}: was trained with the other memory layout; set train.layout as in the run's \
                config.toml",
            path.display()
        )));
    }
    let network = Network::new(&state.spec, 0, compute_mode.channels_last, device)?;
    set(&network, checkpoint.tensor("parameters")?, checkpoint.tensor("buffers")?);
    Ok(Trained {
        network,
        precision: compute_mode.precision,
        normalization: state.normalization.clone(),
    })
}

/// The network of any weight file that says how its images were normalised: a checkpoint, or what
/// was exported from one. It computes as the keys say, in f32 and channels-last where they say
/// `auto`.
///
/// # Errors
/// Usage where the file does not say it, or the network is not one of four channels and 28 classes;
/// data where it is damaged.
pub fn given(weights: &Weights, config: &Config, device: Device) -> Result<Trained> {
    let (spec, path) = (weights.spec(), weights.path().display());
    if (spec.channels, spec.classes) != (4, CLASSES as i64) {
        let what = format!(
            "{path}: the network has {} channels and {} classes, expected 4 and {CLASSES}",
            spec.channels, spec.classes
        );
        return Err(Error::usage(what));
    }
    let normalization = weights.normalization()?.ok_or_else(|| {
        Error::usage(format!(
            "{path}: does not say how images are normalised; name a checkpoint, or an \
                X.safetensors that `atlas weights export` made of one"
        ))
    })?;
    let compute_mode = ComputeMode::of(&config.train, ComputeMode::PREFERRED);
    let (network, _) = weights.network(spec, 0, compute_mode.channels_last, device)?;
    Ok(Trained { network, precision: compute_mode.precision, normalization })
}

/// Names what predictions depend on besides the images: the weights, with what `auto` came to, and
/// the settings.
pub fn source(config: &Config, weights: &[PathBuf]) -> Result<u64> {
    let settings = format!(
        "{:?} {} {} {:?}",
        config.predict, config.augment.resize, config.augment.crop, config.train.precision
    );
    let mut parts = vec![settings.into_bytes()];
    for file in weights {
        parts.push(checksum::of_file(file)?.to_le_bytes().to_vec());
    }
    Ok(checksum::of_parts(parts.iter().map(Vec::as_slice)))
}

/// Copies flat parameters and buffers into a network.
pub fn set(network: &Network, parameters: &Tensor, buffers: &Tensor) {
    tch::no_grad(|| {
        network.flat_parameters().copy_(parameters);
        network.flat_buffers().copy_(buffers);
    });
}

/// The values of a tensor as f32, row by row.
pub fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut out = vec![0f32; tensor.numel()];
    tensor.copy_data(&mut out, tensor.numel());
    out
}

/// Probability of a logit.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
