//! The cells of one picture: where they lie, how they are shaped, and for each pixel what part of
//! which cell it is.

use super::draw::Draw;
use crate::{base::rng::Rng, data::labels::Labels};

pub type Point = (f32, f32);

/// Distance from a centre to an outline, by direction.
///
/// Directions are looked up by their "diamond angle" y/(|x|+|y|), which needs no arc tangent per
/// pixel.
pub struct Outline {
    table: Vec<f32>,
    pub longest: f32,
}

impl Outline {
    const STEPS: usize = 256;

    /// From the radius as a function of the angle.
    fn new(radius: impl Fn(f32) -> f32) -> Self {
        let table: Vec<f32> = (0..Self::STEPS)
            .map(|i| {
                let t = (i as f32 + 0.5) * 4.0 / Self::STEPS as f32;
                let (x, y) = match t as usize {
                    0 => (1.0 - t, t),
                    1 => (1.0 - t, 2.0 - t),
                    2 => (t - 3.0, 2.0 - t),
                    _ => (t - 3.0, t - 4.0),
                };
                radius(y.atan2(x))
            })
            .collect();
        let longest = table.iter().copied().fold(0.0, f32::max);
        Self { table, longest }
    }

    /// Radius in the direction (dx, dy).
    pub fn at(&self, dx: f32, dy: f32) -> f32 {
        let sum = dx.abs() + dy.abs();
        if sum < 1e-6 {
            return self.table[0];
        }
        let s = dy / sum;
        let t = if dx >= 0.0 { if s >= 0.0 { s } else { 4.0 + s } } else { 2.0 - s };
        self.table[(t * (Self::STEPS as f32 / 4.0)) as usize % Self::STEPS]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Interphase,
    /// Round, without a nucleus, its chromosomes condensed into a plate.
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
    /// Nucleoli: place and radius.
    pub nucleoli: Vec<(f32, f32, f32)>,
    /// Microtubule organizing center, beside the nucleus.
    pub mtoc: Point,
    /// Long axis; in a mitotic cell the spindle's.
    pub axis: f32,
    pub phase: Phase,
    /// Brightness of this cell's red, green, blue, yellow.
    pub brightness: [f32; 4],
}

/// How the cells of a well look; the fields of one well share it, as they show one cell line.
pub struct Style {
    spacing: f32,
    kept: f32,
    radius: f32,
    /// Long axis over short axis, less 1.
    elongation: f32,
    /// Length of the tails of spindle-shaped cells, in radii.
    tails: f32,
    spikes: f32,
    nucleus: f32,
}

impl Style {
    pub fn new(rng: &mut Rng) -> Self {
        // Sheets of round cells, or spindle-shaped ones with tails, or few and far between.
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

/// What a pixel of a cell is part of.
#[derive(Clone, Copy)]
pub struct Pixel {
    /// Cell number.
    pub cell: u16,
    /// Distance from the cell's centre, 1 at its outline.
    pub q: f32,
    /// Distance in pixels inwards from the outline, be it free or shared.
    pub edge: f32,
    /// Distance in pixels from the line shared with a neighbour; large where there is none.
    pub contact: f32,
    /// Distance from the centre of the nucleus, 1 at its rim.
    pub n: f32,
}

/// No cell lies here.
const NOBODY: Pixel = Pixel { cell: u16::MAX, q: 9.0, edge: 0.0, contact: 99.0, n: 9.0 };

pub struct Scene {
    pub size: usize,
    /// Pixels per unit of length; a cell's radius is about 30 units.
    pub unit: f32,
    pub cells: Vec<Cell>,
    /// Pairs of sister cells' rims, tied by a bridge.
    pub bridges: Vec<(Point, Point)>,
    pub pixels: Vec<Pixel>,
}

impl Scene {
    /// Lays out the cells. The field of view shrinks with `size`, so that textures keep a readable
    /// scale: about 7 cells at 128 px, 25 at 512 px.
    pub fn new(size: usize, labels: Labels, style: &Style, rng: &mut Rng) -> Self {
        let unit = 1.2 * (size as f32 / 128.0).powf(0.4) * style.radius;
        let radius = 30.0 * unit;
        let (wants_spindle, wants_bridge, wants_contacts) =
            (labels.contains(17), labels.contains(16), labels.contains(22));
        let spacing = radius * if wants_contacts { style.spacing.min(1.42) } else { style.spacing };
        let kept = if wants_contacts { 1.0 } else { style.kept };
        let side = size as f32;
        let few = (side / (6.0 * radius)).ceil() as usize;
        // Dividing cells turn up unlabelled too, so that they alone tell little.
        let spindles =
            if wants_spindle { rng.count(few, few + 1) } else { usize::from(rng.chance(0.06)) };
        let bridges =
            if wants_bridge { rng.count(few, few + 1) } else { usize::from(rng.chance(0.06)) };
        let mut scene = Self {
            size,
            unit,
            cells: Vec::new(),
            bridges: Vec::new(),
            pixels: vec![NOBODY; size * size],
        };
        let mut taken: Vec<Point> = Vec::new();
        let inside = |rng: &mut Rng| (rng.range(0.2, 0.8) * side, rng.range(0.2, 0.8) * side);
        let free = |p: Point, taken: &[Point], distance: f32| {
            taken.iter().all(|t| (t.0 - p.0).hypot(t.1 - p.1) > distance)
        };
        // A labelled event must be there: where room is short the distance asked for shrinks until
        // a place is found.
        let room = |distance: f32, taken: &[Point], rng: &mut Rng| {
            let tries = (0..60u8).map(|k| (inside(rng), distance * (1.0 - f32::from(k) / 60.0)));
            tries
                .filter(|&(p, distance)| free(p, taken, distance))
                .map(|t| t.0)
                .next()
                .unwrap_or((0.5 * side, 0.5 * side))
        };
        for _ in 0..bridges {
            let p = room(1.5 * spacing, &taken, rng);
            let (axis, half) = (rng.angle(), rng.range(0.82, 0.95) * radius);
            let (dx, dy) = (axis.cos(), axis.sin());
            let small = 0.68 * radius;
            for sign in [-1.0, 1.0] {
                let p = (p.0 + sign * dx * half, p.1 + sign * dy * half);
                taken.push(p);
                scene.cells.push(cell(p, small, style, Phase::Daughter, Some(axis), rng));
            }
            let end = |sign: f32| {
                (p.0 + sign * dx * (half - 0.75 * small), p.1 + sign * dy * (half - 0.75 * small))
            };
            scene.bridges.push((end(-1.0), end(1.0)));
        }
        for _ in 0..spindles {
            let p = room(1.2 * spacing, &taken, rng);
            taken.push(p);
            scene.cells.push(cell(p, 0.72 * radius, style, Phase::Mitotic, None, rng));
        }
        let tries = 40.0 * (1.0 + side / spacing).powi(2);
        let mut resting = 0;
        for attempt in 0..tries as usize {
            let margin = 0.7 * radius;
            let p = if resting < 2 {
                inside(rng)
            } else {
                (rng.range(-margin, side + margin), rng.range(-margin, side + margin))
            };
            // Two cells with a nucleus must find room, as most classes need one.
            let share = if resting < 2 { 1.0 - 0.7 * attempt as f32 / tries } else { 0.95 };
            if !free(p, &taken, spacing * share) {
                continue;
            }
            taken.push(p);
            if resting < 2 || rng.chance(kept) {
                let r = radius * rng.range(0.9, 1.15);
                scene.cells.push(cell(p, r, style, Phase::Interphase, None, rng));
                resting += 1;
            }
        }
        scene.map();
        scene
    }

    /// Fills [`pixels`](Self::pixels): each belongs to the cell relative to whose outline it lies
    /// innermost.
    fn map(&mut self) {
        let mut second = vec![9.0f32; self.pixels.len()];
        for (number, cell) in self.cells.iter().enumerate() {
            let reach = 1.12 * cell.outline.longest;
            let span = |c: f32| {
                ((c - reach).max(0.0) as usize, ((c + reach).max(0.0) as usize).min(self.size))
            };
            let ((x0, x1), (y0, y1)) = (span(cell.centre.0), span(cell.centre.1));
            for y in y0..y1 {
                for x in x0..x1 {
                    let (dx, dy) = (x as f32 - cell.centre.0, y as f32 - cell.centre.1);
                    let r = cell.outline.at(dx, dy);
                    let d2 = dx * dx + dy * dy;
                    if d2 > r * r * 1.25 {
                        continue;
                    }
                    let i = y * self.size + x;
                    let (q, p) = (d2.sqrt() / r, &mut self.pixels[i]);
                    if q < p.q {
                        second[i] = p.q;
                        *p = Pixel {
                            cell: number as u16,
                            q,
                            edge: (1.0 - q) * r,
                            contact: r,
                            n: 9.0,
                        };
                    } else if q < second[i] {
                        second[i] = q;
                    }
                }
            }
        }
        for (i, p) in self.pixels.iter_mut().enumerate() {
            if p.q >= 1.0 {
                *p = NOBODY;
                continue;
            }
            let cell = &self.cells[usize::from(p.cell)];
            p.contact = if second[i] < 1.1 { 0.5 * (second[i] - p.q) * p.contact } else { 99.0 };
            p.edge = p.edge.min(p.contact);
            if cell.phase != Phase::Mitotic {
                let (x, y) = ((i % self.size) as f32, (i / self.size) as f32);
                let (dx, dy) = (x - cell.nucleus.0, y - cell.nucleus.1);
                p.n = (dx * dx + dy * dy).sqrt() / cell.nucleus_outline.at(dx, dy);
            }
        }
    }

    /// The pixel at a place, if the place lies in the picture.
    pub fn at(&self, p: Point) -> Option<&Pixel> {
        let (x, y) = (p.0.round(), p.1.round());
        let inside = x >= 0.0 && y >= 0.0 && x < self.size as f32 && y < self.size as f32;
        inside.then(|| &self.pixels[y as usize * self.size + x as usize])
    }

    /// Whether a place belongs to the cytoplasm of a cell (outside the picture: by its outlines
    /// alone).
    pub fn in_cytoplasm(&self, number: usize, p: Point) -> bool {
        match self.at(p) {
            Some(pixel) => usize::from(pixel.cell) == number && pixel.n > 1.05,
            None => {
                let cell = &self.cells[number];
                let (dx, dy) = (p.0 - cell.centre.0, p.1 - cell.centre.1);
                dx.hypot(dy) < cell.outline.at(dx, dy)
            }
        }
    }

    /// A place in the cytoplasm whose distance from the cell's centre lies in `low..high` of the
    /// way to the outline.
    pub fn cytoplasm_spot(
        &self,
        number: usize,
        low: f32,
        high: f32,
        rng: &mut Rng,
    ) -> Option<Point> {
        let cell = &self.cells[number];
        (0..8).find_map(|_| {
            let (angle, q) = (rng.angle(), rng.range(low * low, high * high).sqrt());
            let (dx, dy) = (angle.cos(), angle.sin());
            let r = q * cell.outline.at(dx, dy);
            Some((cell.centre.0 + r * dx, cell.centre.1 + r * dy))
                .filter(|&p| self.in_cytoplasm(number, p))
        })
    }

    /// A place in the nucleus, up to `high` of the way to its rim and, if asked, off the nucleoli.
    pub fn nucleus_spot(
        &self,
        number: usize,
        high: f32,
        off_nucleoli: bool,
        rng: &mut Rng,
    ) -> Option<Point> {
        let cell = &self.cells[number];
        (0..8).find_map(|_| {
            let (angle, n) = (rng.angle(), high * rng.range(0.0, 1.0).sqrt());
            let (dx, dy) = (angle.cos(), angle.sin());
            let r = n * cell.nucleus_outline.at(dx, dy);
            let p = (cell.nucleus.0 + r * dx, cell.nucleus.1 + r * dy);
            let clear = !off_nucleoli
                || cell.nucleoli.iter().all(|o| (o.0 - p.0).hypot(o.1 - p.1) > 1.25 * o.2);
            clear.then_some(p)
        })
    }

    /// Numbers of the cells with a nucleus.
    pub fn resting(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.cells.len()).filter(|&i| self.cells[i].phase != Phase::Mitotic)
    }
}

fn cell(
    centre: Point,
    radius: f32,
    style: &Style,
    phase: Phase,
    axis: Option<f32>,
    rng: &mut Rng,
) -> Cell {
    let axis = axis.unwrap_or_else(|| rng.angle());
    let round = phase != Phase::Interphase;
    let (aspect, tails) = if round {
        (1.05, 0.0)
    } else {
        (1.0 + style.elongation * rng.range(0.4, 1.2), style.tails * rng.range(0.0, 1.2))
    };
    let bend = rng.range(-0.4, 0.4);
    let waves: Vec<(f32, f32, f32)> = (2..=11)
        .map(|k| {
            let size = if round {
                0.01
            } else if k < 5 {
                0.07
            } else {
                style.spikes
            };
            (k as f32, rng.range(-size, size), rng.angle())
        })
        .collect();
    let outline = Outline::new(|a| {
        let wave: f32 = waves.iter().map(|&(k, size, phase)| size * (k * a + phase).cos()).sum();
        let (cos, sin) = ((a - axis).cos(), (a - axis).sin());
        let ellipse = 1.0 / (cos * cos / aspect + sin * sin * aspect).sqrt();
        let tail = tails
            * (cos.abs().powi(8) * f32::from(u8::from(cos > 0.0))
                + (a - axis - bend).cos().min(0.0).powi(8));
        radius * (ellipse * (1.0 + wave) + tail).max(0.45)
    });
    let drift = if round { 0.0 } else { 0.14 * radius };
    let nucleus = (centre.0 + rng.range(-drift, drift), centre.1 + rng.range(-drift, drift));
    let (size, flat) = (style.nucleus * radius * rng.range(0.9, 1.1), rng.range(0.03, 0.2));
    let (turn, dent) = (axis + rng.range(-0.4, 0.4), (rng.range(0.0, 0.04), rng.angle()));
    let nucleus_outline = Outline::new(|a| {
        size * (1.0 + flat * (2.0 * (a - turn)).cos() + dent.0 * (3.0 * a + dent.1).cos())
    });
    let mut nucleoli: Vec<(f32, f32, f32)> = Vec::new();
    for _ in 0..12 {
        let (a, d, r) = (rng.angle(), rng.range(0.1, 0.62) * size, rng.range(0.17, 0.27) * size);
        let (x, y) = (nucleus.0 + d * a.cos(), nucleus.1 + d * a.sin());
        if nucleoli.len() < 4 && nucleoli.iter().all(|o| (o.0 - x).hypot(o.1 - y) > 1.5 * (o.2 + r))
        {
            nucleoli.push((x, y, r));
        }
    }
    let side = rng.angle();
    let (dx, dy) = (side.cos(), side.sin());
    let away = nucleus_outline.at(dx, dy) + 0.12 * radius;
    Cell {
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
