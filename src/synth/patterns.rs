//! The patterns of the protein (green) in its 28 locations, which differ in texture, shape and
//! position.
//!
//! Sizes are in the scene's units, so that a pattern looks the same at every image size.

mod cytoskeleton;
mod nuclear;
mod organelles;

use super::{
    draw::{Canvas, Noise, RandomDraw},
    scene::Scene,
    stains::{fill, reticulum, spindles},
};
use crate::base::rng::Rng;

/// Draws one class on an empty canvas; 1 is the brightness of a fully labelled structure.
pub fn draw(class: usize, scene: &Scene, noise: &Noise, red: &Canvas, rng: &mut Rng) -> Canvas {
    let mut canvas = Canvas::new(scene.size);
    let c = &mut canvas;
    match class {
        0..=5 => nuclear::nuclear(class, scene, noise, c, rng),
        6 => c.data = reticulum(scene, noise).data,
        7 => organelles::golgi(scene, c, rng),
        8 => organelles::vesicles(scene, c, rng, (45, 65), (0.25, 0.92), (0.65, 0.85)),
        9 => organelles::vesicles(scene, c, rng, (12, 17), (0.3, 0.85), (1.5, 2.1)),
        10 => organelles::lysosomes(scene, c, rng),
        11 => cytoskeleton::intermediate_filaments(scene, c, rng),
        12 => cytoskeleton::actin(scene, c, rng),
        13 => cytoskeleton::focal_adhesions(scene, c, rng),
        14 => c.data.clone_from(&red.data),
        15 => cytoskeleton::microtubule_ends(scene, c, rng),
        16 => cytoskeleton::bridges(scene, c),
        17 => spindles(scene, c, 1.0, rng),
        18 | 19 => cytoskeleton::centres(class, scene, c, rng),
        20 => organelles::lipid_droplets(scene, c, rng),
        21 => {
            fill(scene, c, |p, _, _| (1.0 - p.edge / (1.9 * scene.unit)).clamp(0.0, 1.0).powf(0.6))
        }
        22 => cytoskeleton::junctions(scene, noise, c),
        23 => organelles::mitochondria(scene, c, rng),
        24 => organelles::aggresomes(scene, c, rng),
        25 => organelles::cytosol(scene, noise, c),
        26 => organelles::vesicles(scene, c, rng, (3, 5), (0.4, 0.8), (2.7, 3.3)),
        _ => organelles::rods_and_rings(scene, c, rng),
    }
    canvas
}

/// Brightness of a class among others: diffuse stains are weaker, so that fine structures stay
/// visible.
pub fn strength(class: usize) -> f32 {
    match class {
        0 | 6 | 25 => 0.45,
        14 => 0.75,
        _ => 1.0,
    }
}

/// Unspecific staining: a grainy haze in the cell, in the nucleus more or less than around it.
pub fn stray(scene: &Scene, noise: &Noise, rng: &mut Rng) -> Canvas {
    let mut canvas = Canvas::new(scene.size);
    let nucleus = rng.range(0.3, 1.2);
    fill(scene, &mut canvas, |p, x, y| {
        let (fine, coarse) = (1.1 * scene.unit, 4.0 * scene.unit);
        let cloud = 0.3
            + 1.6 * noise.at(x / fine, y / fine + 40.0) * (0.5 + noise.at(x / coarse, y / coarse));
        cloud * if p.n < 1.0 { nucleus } else { 1.0 }
    });
    canvas
}
