//! The 28 places where the made protein (green) may lie, each told from the others by texture,
//! shape and position.
//!
//! Sizes are in the scene's units, so that a pattern keeps its look at every picture size.

use super::{
    draw::{Canvas, Draw, Noise},
    scene::{Phase, Point, Scene},
    stains::{fill, reticulum, spindles, trace},
};
use crate::base::rng::Rng;

/// Draws one class into an empty canvas; 1 is the brightness of a fully labelled structure.
pub fn draw(class: usize, scene: &Scene, noise: &Noise, red: &Canvas, rng: &mut Rng) -> Canvas {
    let mut canvas = Canvas::new(scene.size);
    let c = &mut canvas;
    match class {
        0..=5 => nuclear(class, scene, noise, c, rng),
        6 => c.data = reticulum(scene, noise).data,
        7 => golgi(scene, c, rng),
        8 => vesicles(scene, c, rng, (45, 65), (0.25, 0.92), (0.65, 0.85)),
        9 => vesicles(scene, c, rng, (12, 17), (0.3, 0.85), (1.5, 2.1)),
        10 => lysosomes(scene, c, rng),
        11 => intermediate_filaments(scene, c, rng),
        12 => actin(scene, c, rng),
        13 => focal_adhesions(scene, c, rng),
        14 => c.data.clone_from(&red.data),
        15 => microtubule_ends(scene, c, rng),
        16 => bridges(scene, c),
        17 => spindles(scene, c, 1.0, rng),
        18 | 19 => centres(class, scene, c, rng),
        20 => lipid_droplets(scene, c, rng),
        21 => {
            fill(scene, c, |p, _, _| (1.0 - p.edge / (1.9 * scene.unit)).clamp(0.0, 1.0).powf(0.6))
        }
        22 => junctions(scene, noise, c),
        23 => mitochondria(scene, c, rng),
        24 => aggresomes(scene, c, rng),
        25 => cytosol(scene, noise, c),
        26 => vesicles(scene, c, rng, (3, 5), (0.4, 0.8), (2.7, 3.3)),
        _ => rods_and_rings(scene, c, rng),
    }
    canvas
}

/// Brightness of a class beside others: diffuse stains lie below the fine structures that they
/// would drown.
pub fn strength(class: usize) -> f32 {
    match class {
        0 | 6 | 25 => 0.45,
        14 => 0.75,
        _ => 1.0,
    }
}

fn nuclear(class: usize, scene: &Scene, noise: &Noise, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    match class {
        0 => {
            let soft = |n: f32| ((1.0 - n) * 8.0).clamp(0.0, 1.0);
            fill(scene, c, |p, x, y| {
                soft(p.n) * (0.75 + 0.5 * noise.at(x / (2.5 * unit), y / (2.5 * unit) + 17.0))
            });
        }
        1 => {
            // A ring of even width in pixels, whatever the size of the nucleus.
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

/// A ribbon of short stacks along one side of the nucleus.
fn golgi(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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

/// Round bodies strewn over the cytoplasm: how many per cell, where between centre and outline, how
/// large.
fn vesicles(
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

/// Large full bodies of uneven size crowded on the organizing center's side of the nucleus, the
/// larger ones with a paler core.
fn lysosomes(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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

/// A basket of thick wavy bundles that run around the nucleus.
fn intermediate_filaments(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let cell = &scene.cells[number];
        for _ in 0..18 {
            let (a, turn) = (rng.angle(), if rng.chance(0.5) { 1.0 } else { -1.0 });
            let r = cell.nucleus_outline.at(a.cos(), a.sin()) + rng.range(1.0, 12.0) * unit;
            let start = (cell.nucleus.0 + r * a.cos(), cell.nucleus.1 + r * a.sin());
            let brightness = rng.range(0.6, 1.0);
            // The path turns with the nucleus, so it stays at about its distance.
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
fn actin(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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
fn focal_adhesions(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..rng.count(11, 15) {
            let (from, to) = radial(
                scene,
                number,
                rng.angle(),
                rng.range(0.86, 0.95),
                -rng.range(5.0, 8.0) * unit,
            );
            if scene.at(from).is_none_or(|p| usize::from(p.cell) == number) {
                c.line(from, to, 1.5 * unit, rng.range(0.75, 1.0));
            }
        }
    }
}

/// A stretch of the line from a cell's centre to its rim: from the share `q` of the way, `length`
/// pixels outwards.
fn radial(scene: &Scene, number: usize, angle: f32, q: f32, length: f32) -> (Point, Point) {
    let cell = &scene.cells[number];
    let (dx, dy) = (angle.cos(), angle.sin());
    let r = q * cell.outline.at(dx, dy);
    let place = |r: f32| (cell.centre.0 + r * dx, cell.centre.1 + r * dy);
    (place(r), place(r + length))
}

/// A halo of many fine ticks and dots just inside the rim.
fn microtubule_ends(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        for _ in 0..70 {
            let (from, to) = radial(
                scene,
                number,
                rng.angle(),
                rng.range(0.74, 0.95),
                rng.range(0.5, 2.2) * unit,
            );
            if scene.at(from).is_none_or(|p| usize::from(p.cell) == number) {
                c.line(from, to, 0.6 * unit, rng.range(0.65, 1.0));
            }
        }
    }
}

/// A bright bar between sister cells, brightest in the middle.
fn bridges(scene: &Scene, c: &mut Canvas) {
    let unit = scene.unit;
    for &(a, b) in &scene.bridges {
        c.line(a, b, 1.6 * unit, 0.85);
        c.dot(0.5 * (a.0 + b.0), 0.5 * (a.1 + b.1), 3.0 * unit, 1.0);
    }
}

/// 18: a fuzzy star at the organizing center; 19: a pair of crisp dots.
fn centres(class: usize, scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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

/// Crisp empty rings in clusters.
fn lipid_droplets(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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

/// Beaded bands, only where two cells touch.
fn junctions(scene: &Scene, noise: &Noise, c: &mut Canvas) {
    let unit = scene.unit;
    fill(scene, c, |p, x, y| {
        if p.contact > 3.2 * unit {
            return 0.0;
        }
        let bead = ((noise.at(x / (2.6 * unit), y / (2.6 * unit)) - 0.3) * 5.0).clamp(0.0, 1.0);
        bead * (1.5 - p.contact / (2.1 * unit)).clamp(0.0, 1.0)
    });
}

/// Short wavy threads in the cytoplasm.
fn mitochondria(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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
fn aggresomes(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
    let unit = scene.unit;
    for number in scene.resting() {
        let cell = &scene.cells[number];
        let (x, y) = (
            1.35 * cell.mtoc.0 - 0.35 * cell.nucleus.0,
            1.35 * cell.mtoc.1 - 0.35 * cell.nucleus.1,
        );
        for _ in 0..6 {
            c.disc(
                x + 2.2 * unit * rng.normal(),
                y + 2.2 * unit * rng.normal(),
                rng.range(3.2, 4.6) * unit,
                1.0,
            );
        }
    }
}

/// An even fill of the cytoplasm, paler in the nucleus.
fn cytosol(scene: &Scene, noise: &Noise, c: &mut Canvas) {
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
fn rods_and_rings(scene: &Scene, c: &mut Canvas, rng: &mut Rng) {
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
