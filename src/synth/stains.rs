//! The three reference stains of a scene: microtubules (red), nucleus (blue), endoplasmic reticulum
//! (yellow).

use super::{
    cell::Phase,
    draw::{Canvas, Noise, RandomDraw},
    outline::Point,
    scene::{Pixel, Scene},
};
use crate::base::rng::Rng;

/// Sets each pixel in a cell to `f(pixel, x, y)` where that is brighter.
pub fn fill(scene: &Scene, canvas: &mut Canvas, f: impl Fn(&Pixel, f32, f32) -> f32) {
    for (y, (row, pixels)) in canvas
        .data
        .chunks_exact_mut(scene.size)
        .zip(scene.pixels.chunks_exact(scene.size))
        .enumerate()
    {
        for (x, (value, p)) in row.iter_mut().zip(pixels).enumerate() {
            if p.cell != u16::MAX {
                *value = value.max(f(p, x as f32, y as f32));
            }
        }
    }
}

/// Follows a random, smoothly bending path in steps of one unit until `draw`, called with the place
/// and the share of the path, returns false.
pub fn trace(
    start: Point,
    mut angle: f32,
    length: f32,
    waver: f32,
    unit: f32,
    rng: &mut Rng,
    mut draw: impl FnMut(Point, f32) -> bool,
) {
    let (mut p, steps) = (start, length.max(1.0) as usize);
    let mut bend = 0.0;
    for i in 0..steps {
        if !draw(p, i as f32 / steps as f32) {
            return;
        }
        bend = 0.8 * bend + waver * rng.normal();
        angle += bend;
        p = (p.0 + unit * angle.cos(), p.1 + unit * angle.sin());
    }
}

/// Filaments from the organizing center to the rim, a spindle in mitotic cells, a bundle between
/// sister cells.
pub fn microtubules(scene: &Scene, noise: &Noise, rng: &mut Rng) -> Canvas {
    let (mut canvas, unit) = (Canvas::new(scene.size), scene.unit);
    fill(scene, &mut canvas, |p, x, y| {
        let cloud = noise.at(x / (7.0 * unit), y / (7.0 * unit))
            * noise.at(x / (1.3 * unit), y / (1.3 * unit) + 3.0);
        (if p.n < 0.97 { 0.04 } else { 0.08 + 0.4 * cloud }) * (1.2 - 0.7 * p.q)
    });
    for number in scene.resting() {
        let cell = &scene.cells[number];
        for k in 0..90 {
            // Half of them start at the center, half around the nucleus and go outwards.
            let (start, angle) = if k % 2 == 0 {
                let mut near = |at: f32| at + unit * 2.5 * rng.normal();
                ((near(cell.mtoc.0), near(cell.mtoc.1)), rng.angle())
            } else {
                let a = rng.angle();
                let r = cell.nucleus_outline.at(a.cos(), a.sin()) * rng.range(1.0, 1.3);
                let start = (cell.nucleus.0 + r * a.cos(), cell.nucleus.1 + r * a.sin());
                (start, a + 0.7 * rng.normal())
            };
            let brightness = rng.range(0.35, 1.0);
            let length = rng.range(15.0, 60.0);
            trace(start, angle, length, 0.05, unit, rng, |p, t| {
                let Some(pixel) = scene.at(p) else { return true };
                if usize::from(pixel.cell) != number {
                    return false;
                }
                // Over or under the nucleus a filament is out of focus and dimmer.
                let dim = if pixel.n < 1.0 { 0.25 } else { 1.0 };
                canvas.dot(p.0, p.1, 0.4 * unit, dim * brightness * (1.0 - 0.4 * t));
                true
            });
        }
    }
    spindles(scene, &mut canvas, 0.9, rng);
    for &(a, b) in &scene.bridges {
        canvas.line(a, b, 0.9 * unit, 0.9);
    }
    canvas
}

/// Two fans of fibres from the poles of each mitotic cell to its plate.
pub fn spindles(scene: &Scene, canvas: &mut Canvas, brightness: f32, rng: &mut Rng) {
    let unit = scene.unit;
    for cell in scene.cells.iter().filter(|c| c.phase == Phase::Mitotic) {
        let (dx, dy) = (cell.axis.cos(), cell.axis.sin());
        for sign in [-1.0, 1.0] {
            let pole =
                (cell.centre.0 + sign * 12.0 * unit * dx, cell.centre.1 + sign * 12.0 * unit * dy);
            for k in -4i8..=4 {
                let across = f32::from(k) * 2.0 * unit;
                let end = (
                    cell.centre.0 + sign * 2.0 * unit * dx - across * dy,
                    cell.centre.1 + sign * 2.0 * unit * dy + across * dx,
                );
                canvas.line(pole, end, 0.55 * unit, brightness * rng.range(0.7, 1.0));
            }
            canvas.dot(pole.0, pole.1, 2.0 * unit, brightness);
        }
    }
}

/// DNA: mottled nuclei with dark nucleoli, plates in mitotic cells.
pub fn nuclei(scene: &Scene, noise: &Noise) -> Canvas {
    let (mut canvas, unit) = (Canvas::new(scene.size), scene.unit);
    fill(scene, &mut canvas, |p, x, y| {
        if p.n >= 1.0 {
            return if p.q < 1.0 { 0.006 } else { 0.0 };
        }
        let grain = noise.at(x / (2.2 * unit), y / (2.2 * unit)) * 0.5
            + 0.5 * noise.at(x / (5.0 * unit) + 9.0, y / (5.0 * unit));
        (0.55 + 0.6 * grain) * ((1.0 - p.n) * 9.0).min(1.0)
    });
    for number in scene.resting() {
        for &(x, y, r) in &scene.cells[number].nucleoli {
            canvas.shade(x, y, r, 0.5);
        }
    }
    for cell in scene.cells.iter().filter(|c| c.phase == Phase::Mitotic) {
        let (dx, dy) = (-cell.axis.sin(), cell.axis.cos());
        for k in -8i8..=8 {
            let (along, off) = (f32::from(k) * 1.1 * unit, (f32::from(k) * 2.3).sin() * 0.7 * unit);
            canvas.dot(
                cell.centre.0 + along * dx + off * dy,
                cell.centre.1 + along * dy - off * dx,
                2.3 * unit,
                1.25,
            );
        }
    }
    canvas
}

/// A net that is densest around the nucleus and fades before the rim.
pub fn reticulum(scene: &Scene, noise: &Noise) -> Canvas {
    let (mut canvas, unit) = (Canvas::new(scene.size), scene.unit);
    fill(scene, &mut canvas, |p, x, y| {
        if p.n < 0.97 {
            return 0.07;
        }
        let net = noise
            .net(x / (3.2 * unit), y / (3.2 * unit))
            .max(0.7 * noise.net(x / (4.6 * unit) + 31.0, y / (4.6 * unit)));
        let grain = noise.at(x / (0.9 * unit) + 7.0, y / (0.9 * unit))
            * noise.at(x / (2.0 * unit), y / (2.0 * unit) + 11.0);
        let fade = (1.1 - p.q).clamp(0.0, 1.0);
        // Densest at the nucleus, but with no line around it.
        let near = 1.0 / (1.0 + 2.5 * (p.n - 1.0).max(0.0));
        fade * (0.25 + 0.45 * net + 0.7 * grain) * (0.45 + 0.9 * near)
    });
    canvas
}
