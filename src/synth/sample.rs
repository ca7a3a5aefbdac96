//! One synthetic sample: a scene painted in its four channels.

use super::{
    camera::Exposure,
    cell::CellStyle,
    draw::{Canvas, Noise, RandomDraw},
    patterns,
    scene::Scene,
    stains,
};
use crate::{base::rng::Rng, data::labels::Labels};

/// Four planes `[size, size]` in the order red, green, blue, yellow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planes {
    pub size: usize,
    pub planes: [Vec<u8>; 4],
}

/// Paints a sample with the given labels. A pure function of its arguments and the generator's
/// state.
pub fn paint(size: usize, labels: Labels, style: &CellStyle, rng: &mut Rng) -> Planes {
    let scene = Scene::new(size, labels, style, rng);
    let noise = Noise::new(rng);
    let red = stains::microtubules(&scene, &noise, rng);
    let green = protein(&scene, labels, &noise, &red, rng);
    let blue = stains::nuclei(&scene, &noise);
    let yellow = stains::reticulum(&scene, &noise);
    let mut channel = 0;
    let planes = [red, green, blue, yellow].map(|mut canvas| {
        for (value, p) in canvas.data.iter_mut().zip(&scene.pixels) {
            if p.cell != u16::MAX {
                *value *= scene.cells[usize::from(p.cell)].brightness[channel];
            }
        }
        let exposure = Exposure::new(channel, size, rng);
        channel += 1;
        exposure.expose(canvas, rng)
    });
    Planes { size, planes }
}

/// The union of the labelled patterns, each with its own strength, over some unspecific staining.
///
/// Strengths, the contrast curve and the unspecific part vary per image, so that gray values alone
/// say little about the labels.
fn protein(scene: &Scene, labels: Labels, noise: &Noise, red: &Canvas, rng: &mut Rng) -> Canvas {
    let mut green = patterns::stray(scene, noise, rng);
    let stray = rng.log_range(0.02, 0.09);
    green.data.iter_mut().for_each(|v| *v *= stray);
    for class in labels.iter() {
        let layer = patterns::draw(class, scene, noise, red, rng);
        let strength = patterns::strength(class) * rng.range(0.85, 1.1);
        let curve = rng.range(0.75, 1.3);
        for (v, l) in green.data.iter_mut().zip(&layer.data) {
            if *l > 0.0 {
                *v += strength * l.powf(curve);
            }
        }
    }
    green
}
