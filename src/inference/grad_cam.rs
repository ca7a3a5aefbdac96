//! Which parts of an image support a class (Grad-CAM), and image embeddings.

use ndarray::Array2;
use tch::{Kind, Tensor};

use crate::network::{
    model::{Folded, Network, Precision},
    predictor::to_vec,
};

/// A network whose last feature maps are accessible. Computes in f32, whatever the precision of
/// its predictions.
pub struct FeatureExtractor<'a>(Folded<'a>);

/// The last feature maps of a batch of images.
pub struct FeatureMaps<'a> {
    extractor: &'a FeatureExtractor<'a>,
    /// `[n, features, h, w]`
    features: Tensor,
}

impl<'a> FeatureExtractor<'a> {
    pub fn new(network: &'a Network) -> Self {
        Self(Folded::new(network, Precision::F32))
    }

    /// The feature maps of `x` `[n, channels, h, w]`, normalized, on the network's device.
    pub fn features(&'a self, x: &Tensor) -> FeatureMaps<'a> {
        FeatureMaps { extractor: self, features: self.0.features(x) }
    }
}

impl FeatureMaps<'_> {
    /// `[n, classes]`
    pub fn logits(&self) -> Array2<f32> {
        matrix(&tch::no_grad(|| self.extractor.0.head(&self.features)))
    }

    /// The feature maps averaged over the image, `[n, features]`. Images that are similar to the
    /// network have embeddings with a large cosine.
    pub fn embeddings(&self) -> Array2<f32> {
        matrix(&self.features.mean_dim([2, 3].as_slice(), false, Kind::Float))
    }

    /// The activation map of image `i` for `class`, `[h, w]` from 0 to 1: Grad-CAM (Selvaraju et
    /// al. 2017), the feature maps weighted with the mean gradient of the class's logit, negative
    /// sums set to 0, divided by the maximum. All zeros where no part of the image supports the
    /// class.
    pub fn activation_map(&self, i: usize, class: usize) -> Array2<f32> {
        let features = self.features.narrow(0, i as i64, 1).detach().set_requires_grad(true);
        let logit = self.extractor.0.head(&features).select(1, class as i64).sum(Kind::Float);
        let gradient = Tensor::run_backward(&[logit], &[&features], false, false).remove(0);
        tch::no_grad(|| {
            let weights = gradient.mean_dim([2, 3].as_slice(), true, Kind::Float);
            let map =
                (&features * weights).sum_dim_intlist(1, false, Kind::Float).relu().squeeze_dim(0);
            let most = map.max().double_value(&[]);
            matrix(&if most > 0.0 { map / most } else { map })
        })
    }
}

fn matrix(tensor: &Tensor) -> Array2<f32> {
    let shape = (tensor.size()[0] as usize, tensor.size()[1] as usize);
    Array2::from_shape_vec(shape, to_vec(tensor)).expect("as many values as its shape says")
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{
        config::{Head, Stem},
        network::model::{Mode, Spec},
    };

    fn network(head: Head) -> Network {
        let spec = Spec {
            arch: "se_resnext_tiny".into(),
            stem: Stem::Standard,
            head,
            channels: 4,
            classes: 28,
            dropout: 0.0,
        };
        Network::new(&spec, 3, true, Device::Cpu).unwrap()
    }

    fn images() -> Tensor {
        Tensor::arange(2 * 4 * 96 * 96, (Kind::Float, Device::Cpu))
            .multiply_scalar(0.37)
            .sin()
            .view([2, 4, 96, 96])
    }

    #[test]
    fn a_linear_head_has_the_plain_class_activation_map() {
        let network = network(Head::Linear);
        let extractor = FeatureExtractor::new(&network);
        let maps = extractor.features(&images());
        let weights = network
            .named_tensors()
            .into_iter()
            .find(|(name, _)| name == "last_linear.weight")
            .unwrap()
            .1;
        for class in [0, 27] {
            // Zhou et al. 2016: the feature maps weighted with the weights of the class.
            let w = weights.select(0, class).view([1, -1, 1, 1]);
            let want = tch::no_grad(|| {
                (maps.features.narrow(0, 1, 1) * w)
                    .sum_dim_intlist(1, false, Kind::Float)
                    .relu()
                    .squeeze_dim(0)
            });
            let most = want.max().double_value(&[]);
            let want = matrix(&if most > 0.0 { want / most } else { want });
            let got = maps.activation_map(1, class as usize);
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4), "{got} {want}");
        }
    }

    #[test]
    fn feature_maps_give_the_logits_of_the_network_and_their_means() {
        for head in [Head::Linear, Head::Seed] {
            let network = network(head);
            let extractor = FeatureExtractor::new(&network);
            let maps = extractor.features(&images());
            let want = matrix(&network.forward(&images(), Mode::Eval, Precision::F32));
            let scale = want.iter().fold(0f32, |most, v| most.max(v.abs()));
            assert!(
                maps.logits().iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4 * scale.max(1.0))
            );
            let (n, c) = maps.embeddings().dim();
            assert_eq!((n, c as i64), (2, maps.features.size()[1]));
            let first = maps.features.select(0, 1).select(0, 5).mean(Kind::Float).double_value(&[]);
            assert!((f64::from(maps.embeddings()[[1, 5]]) - first).abs() < 1e-5);
            let map = maps.activation_map(0, 3);
            assert!(map.iter().all(|v| (0.0..=1.0).contains(v)));
        }
    }
}
