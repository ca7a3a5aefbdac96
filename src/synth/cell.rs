//! One cell: its shape and the places of its parts.

use super::{
    draw::RandomDraw,
    outline::{Outline, Point},
};
use crate::base::rng::Rng;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Interphase,
    /// Round, without a nucleus; the chromosomes are condensed into a plate.
    Mitotic,
    /// Just divided, still tied to its sister.
    Daughter,
}

pub struct Cell {
    pub centre: Point,
    pub outline: Outline,
    /// Centre of the nucleus, or of the plate of a mitotic cell.
    pub nucleus: Point,
    pub nucleus_outline: Outline,
    /// Nucleoli: centre and radius.
    pub nucleoli: Vec<(f32, f32, f32)>,
    /// Microtubule organizing center, beside the nucleus.
    pub mtoc: Point,
    /// Direction of the long axis; in a mitotic cell that of the spindle.
    pub axis: f32,
    pub phase: Phase,
    /// Brightness of this cell's red, green, blue, yellow.
    pub brightness: [f32; 4],
}

/// The appearance of the cells of a well; its fields share it, as they show one cell line.
pub struct CellStyle {
    /// Distance of the centres, in radii.
    pub spacing: f32,
    /// Share of the places that have a cell.
    pub kept: f32,
    /// In units of length of the scene.
    pub radius: f32,
    /// Long axis over short axis, less 1.
    elongation: f32,
    /// Length of the tails of spindle-shaped cells, in radii.
    tails: f32,
    spikes: f32,
    /// Radius of the nucleus over that of the cell.
    nucleus: f32,
}

impl CellStyle {
    pub fn new(rng: &mut Rng) -> Self {
        // Sheets of round cells, or spindle-shaped ones with tails, or sparse ones.
        let (sheet, spindle) = (rng.chance(0.4), rng.chance(0.45));
        Self {
            spacing: if sheet { rng.range(1.35, 1.5) } else { rng.range(1.45, 1.9) },
            kept: if sheet { 1.0 } else { rng.range(0.4, 0.95) },
            radius: rng.range(0.88, 1.2),
            elongation: if spindle { rng.range(1.0, 2.6) } else { rng.range(0.1, 0.9) },
            tails: if spindle { rng.range(0.3, 1.4) } else { rng.range(0.0, 0.4) },
            spikes: rng.range(0.005, 0.045),
            nucleus: rng.range(0.36, 0.5),
        }
    }
}

impl Cell {
    /// Draws a cell. A mitotic or daughter cell is round; `axis` is drawn if it is not given.
    pub fn new(
        centre: Point,
        radius: f32,
        style: &CellStyle,
        phase: Phase,
        axis: Option<f32>,
        rng: &mut Rng,
    ) -> Self {
        let axis = axis.unwrap_or_else(|| rng.angle());
        let round = phase != Phase::Interphase;
        let outline = cell_outline(radius, style, round, axis, rng);
        let drift = if round { 0.0 } else { 0.14 * radius };
        let nucleus = (centre.0 + rng.range(-drift, drift), centre.1 + rng.range(-drift, drift));
        let (size, flat) = (style.nucleus * radius * rng.range(0.9, 1.1), rng.range(0.03, 0.2));
        let (turn, dent) = (axis + rng.range(-0.4, 0.4), (rng.range(0.0, 0.04), rng.angle()));
        let nucleus_outline = Outline::new(|a| {
            size * (1.0 + flat * (2.0 * (a - turn)).cos() + dent.0 * (3.0 * a + dent.1).cos())
        });
        let nucleoli = nucleoli(nucleus, size, rng);
        let side = rng.angle();
        let (dx, dy) = (side.cos(), side.sin());
        let away = nucleus_outline.at(dx, dy) + 0.12 * radius;
        Self {
            centre,
            outline,
            nucleus,
            nucleus_outline,
            nucleoli,
            mtoc: (nucleus.0 + away * dx, nucleus.1 + away * dy),
            axis,
            phase,
            brightness: std::array::from_fn(|_| rng.range(0.65, 1.25)),
        }
    }
}

/// An ellipse with waves or spikes and, if spindle-shaped, tails.
fn cell_outline(radius: f32, style: &CellStyle, round: bool, axis: f32, rng: &mut Rng) -> Outline {
    let (aspect, tails) = if round {
        (1.05, 0.0)
    } else {
        (1.0 + style.elongation * rng.range(0.4, 1.2), style.tails * rng.range(0.0, 1.2))
    };
    let bend = rng.range(-0.4, 0.4);
    let waves: Vec<(f32, f32, f32)> = (2..=11)
        .map(|k| {
            let size = match k {
                _ if round => 0.01,
                ..5 => 0.07,
                _ => style.spikes,
            };
            (k as f32, rng.range(-size, size), rng.angle())
        })
        .collect();
    Outline::new(|a| {
        let wave: f32 = waves.iter().map(|&(k, size, phase)| size * (k * a + phase).cos()).sum();
        let (cos, sin) = ((a - axis).cos(), (a - axis).sin());
        let ellipse = 1.0 / (cos * cos / aspect + sin * sin * aspect).sqrt();
        let tail = tails
            * (cos.abs().powi(8) * f32::from(u8::from(cos > 0.0))
                + (a - axis - bend).cos().min(0.0).powi(8));
        radius * (ellipse * (1.0 + wave) + tail).max(0.45)
    })
}

/// Up to four discs (centre and radius) in a nucleus of radius `size`, apart from each other.
fn nucleoli(nucleus: Point, size: f32, rng: &mut Rng) -> Vec<(f32, f32, f32)> {
    let mut nucleoli: Vec<(f32, f32, f32)> = Vec::new();
    for _ in 0..12 {
        let (a, d, r) = (rng.angle(), rng.range(0.1, 0.62) * size, rng.range(0.17, 0.27) * size);
        let (x, y) = (nucleus.0 + d * a.cos(), nucleus.1 + d * a.sin());
        if nucleoli.len() < 4 && nucleoli.iter().all(|o| (o.0 - x).hypot(o.1 - y) > 1.5 * (o.2 + r))
        {
            nucleoli.push((x, y, r));
        }
    }
    nucleoli
}
