//! Batches of images in, logits out: the forward pass that validation and prediction share.

use std::sync::Arc;

use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use crate::{
    base::{Error, Result, progress::Progress, stop_request::Stop},
    config::{Augment, CropReduce, Predict, Tta},
    data::labels::CLASSES,
    loading::{
        loader::{Loader, Make, Source},
        normalization::Normalization,
        sampler::Draw,
    },
    network::model::{Folded, Network, Precision},
};

/// A network with everything that prediction needs besides the images.
pub struct Predictor<'a> {
    pub network: &'a Network,
    pub precision: Precision,
    pub normalization: &'a Normalization,
    pub augment: &'a Augment,
    pub predict: &'a Predict,
    /// Threads that load images.
    pub threads: usize,
    /// Ends the prediction at the next batch.
    pub stop: &'a Stop,
}

impl Predictor<'_> {
    /// Logits `[n, 28]` of `samples` (indices into the source). The crops of `tta` become one
    /// logit as `predict.reduce` says.
    ///
    /// # Errors
    /// [`Error::Stopped`] after `stop`; [`Error::Failed`] for a logit that is not finite; those of
    /// the source.
    pub fn logits<S: Source>(
        &self,
        source: &Arc<S>,
        samples: &[usize],
        tta: Tta,
        progress: Option<&Progress>,
    ) -> Result<Array2<f32>> {
        let make = Make::Eval { augment: self.augment.clone(), tta };
        let (views, side) = (make.views(), make.side());
        let images_per_pass = self.images_per_pass();
        let per_batch = (images_per_pass / views).max(1);
        let batches: Vec<Vec<Draw>> = samples
            .chunks(per_batch)
            .map(|c| c.iter().map(|&s| Draw { sample: s, key: 0 }).collect())
            .collect();
        let mut out = Vec::with_capacity(samples.len() * CLASSES);
        let folded = Folded::new(self.network, self.precision);
        for batch in Loader::new(source.clone(), batches, make, self.threads, 2) {
            let batch = batch?;
            if self.stop.asked() {
                let what = "stopped while predicting; run the same command again to go on";
                return Err(Error::Stopped(what.into()));
            }
            let n = batch.samples.len() as i64;
            let x = self.normalization.apply(&batch.images, side, self.network.device());
            // The views of a single sample may exceed one pass.
            let parts = x.split(images_per_pass as i64, 0);
            let parts: Vec<Tensor> = parts.iter().map(|part| folded.forward(part)).collect();
            let logits = Tensor::cat(&parts, 0).view([n, views as i64, CLASSES as i64]);
            let logits = match self.predict.reduce {
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

    /// Images per forward pass: `predict.batch`, or where that is 0 what suits the device. On a CPU
    /// that is as many as stay in its cache; with one thread in f32, enough for libtorch to choose
    /// its fast convolutions.
    pub fn images_per_pass(&self) -> usize {
        match (self.predict.batch, self.network.device()) {
            (0, Device::Cpu) if self.threads == 1 && self.precision == Precision::F32 => 20,
            (0, Device::Cpu) => 5,
            (0, _) => 40,
            (n, _) => n,
        }
    }
}

/// The values of a tensor as f32 in row-major order.
pub fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut out = vec![0f32; tensor.numel()];
    tensor.copy_data(&mut out, tensor.numel());
    out
}

/// The probability of a logit: 1 / (1 + exp(-x)).
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
