//! The patterns of organelles and other bodies in the cytoplasm.

use crate::{
    base::rng::Rng,
    synth::{
        cell::Phase,
        draw::{Canvas, Noise, RandomDraw},
        scene::Scene,
        stains::{fill, trace},
    },
};

/// A ribbon of short stacks along one side of the nucleus.
pub fn golgi(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let cell = &scene.cells[number];
        let side = (cell.mtoc.1 - cell.nucleus.1).atan2(cell.mtoc.0 - cell.nucleus.0);
        for _ in 0..rng.count(12, 16) {
            let a = side + 0.42 * rng.normal();
            let r = cell.nucleus_outline.at(a.cos(), a.sin()) + rng.range(2.0, 6.5) * unit;
            let p = (cell.nucleus.0 + r * a.cos(), cell.nucleus.1 + r * a.sin());
            let along = a + std::f32::consts::FRAC_PI_2 + 0.5 * rng.normal();
            let brightness = rng.range(0.75, 1.0);
            trace(p, along, rng.range(4.0, 7.0), 0.15, unit, rng, |p, _| {
                c.dot(p.0, p.1, 1.1 * unit, brightness);
                true
            });
        }
    }
}

/// Round bodies in the cytoplasm, with ranges for the number per cell, the distance from the centre
/// (1 at the outline) and the radius.
pub fn vesicles(
    scene: &Scene,
    c: &mut Canvas,
    rng: &mut Rng,
    number: (usize, usize),
    place: (f32, f32),
    radius: (f32, f32),
) {
    for cell in scene.resting() {
        for _ in 0..rng.count(number.0, number.1) {
            if let Some((x, y)) = scene.cytoplasm_spot(cell, place.0, place.1, rng) {
                c.dot(x, y, rng.range(radius.0, radius.1) * scene.unit, rng.range(0.7, 1.0));
            }
        }
    }
}

/// Large filled bodies of uneven size, crowded on the organizing center's side of the nucleus, the
/// larger ones with a paler core.
pub fn lysosomes(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let cell = &scene.cells[number];
        let side = (cell.mtoc.1 - cell.nucleus.1).atan2(cell.mtoc.0 - cell.nucleus.0);
        for _ in 0..rng.count(11, 15) {
            let a = side + 0.9 * rng.normal();
            let (rim, radius) =
                (cell.nucleus_outline.at(a.cos(), a.sin()), rng.range(2.0, 3.4) * unit);
            let r = rim + radius + rng.range(0.5, 7.0) * unit;
            let p = (cell.nucleus.0 + r * a.cos(), cell.nucleus.1 + r * a.sin());
            if scene.in_cytoplasm(number, p) {
                c.disc(p.0, p.1, radius, 0.55);
                c.ring(p.0, p.1, 0.85 * radius, 0.6 * unit, 1.0);
            }
        }
    }
}

/// Crisp empty rings in clusters.
pub fn lipid_droplets(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..4 {
            let Some(home) = scene.cytoplasm_spot(number, 0.5, 0.8, rng) else { continue };
            for _ in 0..rng.count(3, 4) {
                let p = (home.0 + 4.0 * unit * rng.normal(), home.1 + 4.0 * unit * rng.normal());
                if scene.in_cytoplasm(number, p) {
                    c.ring(p.0, p.1, rng.range(2.0, 3.2) * unit, 0.6 * unit, rng.range(0.8, 1.0));
                }
            }
        }
    }
}

/// Short wavy threads in the cytoplasm.
pub fn mitochondria(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..rng.count(34, 44) {
            let Some(start) = scene.cytoplasm_spot(number, 0.3, 0.82, rng) else { continue };
            let brightness = rng.range(0.65, 1.0);
            trace(start, rng.angle(), rng.range(5.0, 10.0), 0.18, unit, rng, |p, _| {
                let inside = scene.in_cytoplasm(number, p);
                if inside {
                    c.dot(p.0, p.1, 0.95 * unit, brightness);
                }
                inside
            });
        }
    }
}

/// One large uneven lump beside each nucleus.
pub fn aggresomes(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let cell = &scene.cells[number];
        let (x, y) = (
            1.35 * cell.mtoc.0 - 0.35 * cell.nucleus.0,
            1.35 * cell.mtoc.1 - 0.35 * cell.nucleus.1,
        );
        for _ in 0..6 {
            let (x, y) = (x + 2.2 * unit * rng.normal(), y + 2.2 * unit * rng.normal());
            c.disc(x, y, rng.range(3.2, 4.6) * unit, 1.0);
        }
    }
}

/// The whole cytoplasm evenly, paler in the nucleus.
pub fn cytosol(scene: &Scene, noise: &Noise, c: &mut Canvas) {
    let unit = scene.unit;
    fill(scene, c, |p, x, y| {
        let cloud = 0.8 + 0.4 * noise.at(x / (9.0 * unit) + 5.0, y / (9.0 * unit));
        let mitotic = scene.cells[usize::from(p.cell)].phase == Phase::Mitotic;
        let place = if p.n < 1.0 && !mitotic { 0.22 } else { 1.0 };
        let grain = 0.75 + 0.5 * noise.at(x / (0.8 * unit), y / (0.8 * unit) + 21.0);
        cloud * grain * place * (p.edge / (2.5 * unit)).clamp(0.0, 1.0)
    });
}

/// A few straight rods and open rings in each cell.
pub fn rods_and_rings(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..rng.count(2, 3) {
            if let Some(p) = scene.cytoplasm_spot(number, 0.45, 0.8, rng) {
                let (a, half) = (rng.angle(), rng.range(5.0, 7.0) * unit);
                let (dx, dy) = (half * a.cos(), half * a.sin());
                c.line((p.0 - dx, p.1 - dy), (p.0 + dx, p.1 + dy), 1.2 * unit, 1.0);
            }
            if let Some(p) = scene.cytoplasm_spot(number, 0.45, 0.8, rng) {
                c.ring(p.0, p.1, rng.range(4.0, 5.2) * unit, 1.1 * unit, 1.0);
            }
        }
    }
}
