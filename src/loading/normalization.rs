//! Normalisation: from the u8 of a batch to the f32 that a network takes.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{config::Normalize, data::shard::Store};

/// A normalisation. Stored with the weights, which only fit inputs that are normalised alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    pub method: Normalize,
    /// Per channel on the 0..255 scale; used by `dataset`.
    pub mean: [f64; 4],
    pub std: [f64; 4],
}

impl Normalization {
    /// x / 255.
    pub fn unit() -> Self {
        Self { method: Normalize::Unit, mean: [0.0; 4], std: [255.0; 4] }
    }

    /// `dataset` takes mean and standard deviation of the training part.
    pub fn of(method: Normalize, store: &Store) -> Self {
        match method {
            Normalize::Unit => Self::unit(),
            _ => Self { method, mean: store.mean(), std: store.std().map(|s| s.max(1.0)) },
        }
    }

    /// u8 `[n, h, w, 4]` as it comes from the loader → f32 `[n, 4, h, w]` (channels last in
    /// memory).
    pub fn apply(&self, images: &[u8], side: usize, device: Device) -> Tensor {
        let side = side as i64;
        let n = images.len() as i64 / (side * side * 4);
        let x = Tensor::from_slice(images)
            .to_device(device)
            .view([n, side, side, 4])
            .to_kind(Kind::Float);
        let x = match self.method {
            Normalize::Unit | Normalize::Dataset => {
                let row =
                    |v: [f64; 4]| Tensor::from_slice(&v).to_kind(Kind::Float).to_device(device);
                (x - row(self.mean)) / row(self.std)
            }
            Normalize::Image => {
                let mean = x.mean_dim(&[1i64, 2][..], true, Kind::Float);
                let std = (&x - &mean).square().mean_dim(&[1i64, 2][..], true, Kind::Float).sqrt();
                (x - mean) / std.clamp_min(1.0)
            }
        };
        x.permute([0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(t: &Tensor) -> Vec<f32> {
        Vec::try_from(t.contiguous().view([-1])).unwrap()
    }

    /// Two images of 2x2, computed by hand from the definitions.
    #[test]
    fn channels_come_first_and_each_method_follows_its_definition() {
        let images: Vec<u8> = (0..32).map(|i| (i * 7 % 251) as u8).collect();
        let at = |n: usize, c: usize, p: usize| f64::from(images[n * 16 + p * 4 + c]);
        let methods = [
            Normalization::unit(),
            Normalization {
                method: Normalize::Dataset,
                mean: [1.0, 2.0, 3.0, 4.0],
                std: [2.0, 4.0, 8.0, 16.0],
            },
            Normalization { method: Normalize::Image, mean: [0.0; 4], std: [1.0; 4] },
        ];
        for m in methods {
            let x = m.apply(&images, 2, Device::Cpu);
            assert_eq!(x.size(), [2, 4, 2, 2]);
            let got = values(&x);
            for (i, &got) in got.iter().enumerate() {
                let (n, c, p) = (i / 16, i / 4 % 4, i % 4);
                let want = match m.method {
                    Normalize::Unit => at(n, c, p) / 255.0,
                    Normalize::Dataset => (at(n, c, p) - m.mean[c]) / m.std[c],
                    Normalize::Image => {
                        let mean = (0..4).map(|p| at(n, c, p)).sum::<f64>() / 4.0;
                        let var = (0..4).map(|p| (at(n, c, p) - mean).powi(2)).sum::<f64>() / 4.0;
                        (at(n, c, p) - mean) / var.sqrt().max(1.0)
                    }
                };
                assert!((f64::from(got) - want).abs() < 1e-4, "{:?} {i}: {got} {want}", m.method);
            }
        }
    }
}
