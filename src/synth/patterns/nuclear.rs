//! The patterns in the nucleus: classes 0 to 5.

use crate::{
    base::rng::Rng,
    synth::{
        draw::{Canvas, Noise, RandomDraw},
        scene::Scene,
        stains::fill,
    },
};

/// Draws one of the classes 0 to 5.
pub fn nuclear(class: usize, scene: &Scene, noise: &Noise, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    match class {
        0 => {
            let soft = |n: f32| ((1.0 - n) * 8.0).clamp(0.0, 1.0);
            fill(scene, c, |p, x, y| {
                soft(p.n) * (0.75 + 0.5 * noise.at(x / (2.5 * unit), y / (2.5 * unit) + 17.0))
            });
        }
        1 => {
            // A ring of the same width in pixels for nuclei of any size.
            fill(scene, c, |p, _, _| {
                let radius = scene.cells[usize::from(p.cell)].nucleus_outline.longest;
                let t = (p.n - 0.99) * radius / (1.5 * unit);
                (1.0 - t * t).max(0.0)
            });
        }
        _ => {}
    }
    for number in scene.resting() {
        let nucleoli = &scene.cells[number].nucleoli;
        match class {
            0 => nucleoli.iter().for_each(|&(x, y, r)| c.shade(x, y, r, 0.85)),
            2 => nucleoli.iter().for_each(|&(x, y, r)| {
                c.disc(x, y, r, 1.0);
                c.disc(x + 0.6 * r, y - 0.4 * r, 0.7 * r, 1.0);
            }),
            3 => {
                for &(x, y, r) in nucleoli {
                    c.disc(x, y, r, 0.25);
                    let turn = rng.angle();
                    for k in 0..3u8 {
                        let a = turn + 2.1 * f32::from(k);
                        c.dot(x + 0.75 * r * a.cos(), y + 0.75 * r * a.sin(), 0.75 * unit, 1.0);
                    }
                }
            }
            4 => {
                for _ in 0..rng.count(16, 22) {
                    if let Some((x, y)) = scene.nucleus_spot(number, 0.88, true, rng) {
                        let r = rng.range(0.9, 1.4) * unit;
                        c.dot(x, y, r, rng.range(0.6, 1.0));
                        c.dot(x + r * rng.normal(), y + r * rng.normal(), 0.8 * r, 0.8);
                    }
                }
                fill_nucleus(scene, c, number, 0.18);
            }
            5 => {
                for _ in 0..rng.count(3, 5) {
                    if let Some((x, y)) = scene.nucleus_spot(number, 0.8, true, rng) {
                        c.disc(x, y, rng.range(1.2, 1.6) * unit, 1.0);
                    }
                }
            }
            _ => {}
        }
    }
}

fn fill_nucleus(scene: &Scene, c: &mut Canvas, number: usize, brightness: f32) {
    let cell = &scene.cells[number];
    let r = 0.8 * cell.nucleus_outline.longest;
    c.disc(cell.nucleus.0, cell.nucleus.1, r, brightness);
}
