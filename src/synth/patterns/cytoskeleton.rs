//! The patterns of filaments, the cell's rim and cell division.

use crate::{
    base::rng::Rng,
    synth::{
        draw::{Canvas, Noise, RandomDraw},
        outline::Point,
        scene::Scene,
        stains::fill,
    },
};

/// Thick wavy bundles around the nucleus.
pub fn intermediate_filaments(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let cell = &scene.cells[number];
        for _ in 0..18 {
            let (a, turn) = (rng.angle(), if rng.chance(0.5) { 1.0 } else { -1.0 });
            let r = cell.nucleus_outline.at(a.cos(), a.sin()) + rng.range(1.0, 12.0) * unit;
            let start = (cell.nucleus.0 + r * a.cos(), cell.nucleus.1 + r * a.sin());
            let brightness = rng.range(0.6, 1.0);
            // The path bends around the nucleus at an about constant distance.
            let (mut p, mut angle) = (start, a + turn * 1.4);
            for _ in 0..rng.count(18, 32) {
                if scene.at(p).is_some_and(|x| usize::from(x.cell) != number || x.n < 1.0) {
                    break;
                }
                c.dot(p.0, p.1, 0.8 * unit, brightness);
                angle += turn * 0.85 * unit / r + 0.22 * rng.normal();
                p = (p.0 + unit * angle.cos(), p.1 + unit * angle.sin());
            }
        }
    }
}

/// Straight parallel stress fibres across the whole cell.
pub fn actin(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in 0..scene.cells.len() {
        let cell = &scene.cells[number];
        let axis = cell.axis;
        let reach = cell.outline.longest;
        let mut offset = -reach;
        while offset < reach {
            let angle = axis + 0.05 * rng.normal();
            let brightness = rng.range(0.55, 1.0);
            let (mut along, end) = (-reach * rng.range(0.5, 1.0), reach * rng.range(0.5, 1.0));
            while along < end {
                let p = (
                    cell.centre.0 + along * angle.cos() - offset * axis.sin(),
                    cell.centre.1 + along * angle.sin() + offset * axis.cos(),
                );
                if scene.at(p).is_some_and(|x| usize::from(x.cell) == number && x.q < 0.97) {
                    c.dot(p.0, p.1, 0.6 * unit, brightness);
                }
                along += 0.8 * unit;
            }
            offset += rng.range(3.0, 4.6) * unit;
        }
    }
}

/// Long bright patches at the rim that point inwards.
pub fn focal_adhesions(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..rng.count(11, 15) {
            let (angle, q) = (rng.angle(), rng.range(0.86, 0.95));
            let (from, to) = radial(scene, number, angle, q, -rng.range(5.0, 8.0) * unit);
            if scene.at(from).is_none_or(|p| usize::from(p.cell) == number) {
                c.line(from, to, 1.5 * unit, rng.range(0.75, 1.0));
            }
        }
    }
}

/// A halo of many fine ticks and dots just inside the rim.
pub fn microtubule_ends(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..70 {
            let (angle, q) = (rng.angle(), rng.range(0.74, 0.95));
            let (from, to) = radial(scene, number, angle, q, rng.range(0.5, 2.2) * unit);
            if scene.at(from).is_none_or(|p| usize::from(p.cell) == number) {
                c.line(from, to, 0.6 * unit, rng.range(0.65, 1.0));
            }
        }
    }
}

/// The ends of a radial line, from the share `q` of the way to the rim `length` pixels outwards.
fn radial(scene: &Scene, number: usize, angle: f32, q: f32, length: f32) -> (Point, Point) {
    let cell = &scene.cells[number];
    let (dx, dy) = (angle.cos(), angle.sin());
    let r = q * cell.outline.at(dx, dy);
    let place = |r: f32| (cell.centre.0 + r * dx, cell.centre.1 + r * dy);
    (place(r), place(r + length))
}

/// A bright bar between sister cells, brightest in the middle.
pub fn bridges(scene: &Scene, c: &mut Canvas) {
    let unit = scene.unit;
    for &(a, b) in &scene.bridges {
        c.line(a, b, 1.6 * unit, 0.85);
        c.dot(0.5 * (a.0 + b.0), 0.5 * (a.1 + b.1), 3.0 * unit, 1.0);
    }
}

/// 18: a fuzzy star at the organizing center; 19: a pair of crisp dots.
pub fn centres(class: usize, scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let (x, y) = scene.cells[number].mtoc;
        let turn = rng.angle();
        if class == 18 {
            c.dot(x, y, 3.0 * unit, 1.0);
            for k in 0..9u8 {
                let (a, r) = (turn + 0.698 * f32::from(k), rng.range(6.0, 9.0) * unit);
                c.line((x, y), (x + r * a.cos(), y + r * a.sin()), 0.7 * unit, 0.75);
            }
        } else {
            let (dx, dy) = (2.3 * unit * turn.cos(), 2.3 * unit * turn.sin());
            c.disc(x + dx, y + dy, 1.5 * unit, 1.0);
            c.disc(x - dx, y - dy, 1.5 * unit, 1.0);
        }
    }
}

/// Beaded bands, only where two cells touch.
pub fn junctions(scene: &Scene, noise: &Noise, c: &mut Canvas) {
    let unit = scene.unit;
    fill(scene, c, |p, x, y| {
        if p.contact > 3.2 * unit {
            return 0.0;
        }
        let bead = ((noise.at(x / (2.6 * unit), y / (2.6 * unit)) - 0.3) * 5.0).clamp(0.0, 1.0);
        bead * (1.5 - p.contact / (2.1 * unit)).clamp(0.0, 1.0)
    });
}
