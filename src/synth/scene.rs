//! The cells of one image: where they are and, for each pixel, which part of which cell it shows.

use super::{
    cell::{Cell, CellStyle, Phase},
    draw::RandomDraw,
    outline::Point,
};
use crate::{base::rng::Rng, data::labels::Labels};

/// The part of a cell that a pixel shows.
#[derive(Clone, Copy)]
pub struct Pixel {
    /// Cell number.
    pub cell: u16,
    /// Distance from the cell's centre, 1 at its outline.
    pub q: f32,
    /// Distance in pixels inwards from the outline, free or shared.
    pub edge: f32,
    /// Distance in pixels from the line shared with a neighbour; large where there is none.
    pub contact: f32,
    /// Distance from the centre of the nucleus, 1 at its rim.
    pub n: f32,
}

/// A pixel without a cell.
const BACKGROUND: Pixel = Pixel { cell: u16::MAX, q: 9.0, edge: 0.0, contact: 99.0, n: 9.0 };

/// The cells of one image.
pub struct Scene {
    pub size: usize,
    /// Pixels per unit of length; a cell's radius is about 30 units.
    pub unit: f32,
    pub cells: Vec<Cell>,
    /// Bridges between sister cells, from rim to rim.
    pub bridges: Vec<(Point, Point)>,
    pub pixels: Vec<Pixel>,
}

impl Scene {
    /// Lays out the cells. The field of view shrinks with `size`, so that textures keep a readable
    /// scale: about 7 cells at 128 px, 25 at 512 px.
    pub fn new(size: usize, labels: Labels, style: &CellStyle, rng: &mut Rng) -> Self {
        let unit = 1.2 * (size as f32 / 128.0).powf(0.4) * style.radius;
        let radius = 30.0 * unit;
        let wants_contacts = labels.contains(22);
        let spacing = radius * if wants_contacts { style.spacing.min(1.42) } else { style.spacing };
        let side = size as f32;
        let few = (side / (6.0 * radius)).ceil() as usize;
        // Dividing cells also occur unlabelled, so that they alone do not reveal the label.
        let mut dividing = |label| match labels.contains(label) {
            true => rng.count(few, few + 1),
            false => usize::from(rng.chance(0.06)),
        };
        let (spindles, bridges) = (dividing(17), dividing(16));
        let scene = Self {
            size,
            unit,
            cells: Vec::new(),
            bridges: Vec::new(),
            pixels: vec![BACKGROUND; size * size],
        };
        let mut layout = SceneLayout { scene, taken: Vec::new(), side, radius, spacing, style };
        for _ in 0..bridges {
            layout.add_daughters(rng);
        }
        for _ in 0..spindles {
            let p = layout.find_place(1.2 * spacing, rng);
            layout.add(p, 0.72 * radius, Phase::Mitotic, None, rng);
        }
        layout.fill(if wants_contacts { 1.0 } else { style.kept }, rng);
        let mut scene = layout.scene;
        scene.map();
        scene
    }

    /// Fills [`pixels`](Self::pixels): each belongs to the cell in whose outline it is innermost.
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
                        let edge = (1.0 - q) * r;
                        *p = Pixel { cell: number as u16, q, edge, contact: r, n: 9.0 };
                    } else if q < second[i] {
                        second[i] = q;
                    }
                }
            }
        }
        self.finish_pixels(&second);
    }

    /// Distances to neighbours and nuclei. `second` is the `q` of each pixel for the second nearest
    /// cell.
    fn finish_pixels(&mut self, second: &[f32]) {
        for (i, p) in self.pixels.iter_mut().enumerate() {
            if p.q >= 1.0 {
                *p = BACKGROUND;
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

    /// The pixel at a place, if the place is in the image.
    pub fn at(&self, p: Point) -> Option<&Pixel> {
        let (x, y) = (p.0.round(), p.1.round());
        let inside = x >= 0.0 && y >= 0.0 && x < self.size as f32 && y < self.size as f32;
        inside.then(|| &self.pixels[y as usize * self.size + x as usize])
    }

    /// Whether a place belongs to the cytoplasm of a cell (outside the image: by its outline only).
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

    /// A random place in the cytoplasm whose distance from the cell's centre is `low..high` of that
    /// of the outline.
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

    /// A random place in the nucleus, up to `high` of the way to its rim and, if `off_nucleoli`,
    /// outside the nucleoli.
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

/// A scene while its cells are placed.
struct SceneLayout<'a> {
    scene: Scene,
    /// Places that have or might have had a cell.
    taken: Vec<Point>,
    side: f32,
    /// Typical radius of a cell, and distance of two, in pixels.
    radius: f32,
    spacing: f32,
    style: &'a CellStyle,
}

impl SceneLayout<'_> {
    fn add(&mut self, p: Point, radius: f32, phase: Phase, axis: Option<f32>, rng: &mut Rng) {
        self.taken.push(p);
        self.scene.cells.push(Cell::new(p, radius, self.style, phase, axis, rng));
    }

    fn inside(&self, rng: &mut Rng) -> Point {
        (rng.range(0.2, 0.8) * self.side, rng.range(0.2, 0.8) * self.side)
    }

    fn is_free(&self, p: Point, distance: f32) -> bool {
        self.taken.iter().all(|t| (t.0 - p.0).hypot(t.1 - p.1) > distance)
    }

    /// A place at `distance` from all others. A labelled event must be visible, so the distance
    /// shrinks until a place is found.
    fn find_place(&self, distance: f32, rng: &mut Rng) -> Point {
        (0..60u8)
            .map(|k| (self.inside(rng), distance * (1.0 - f32::from(k) / 60.0)))
            .find(|&(p, distance)| self.is_free(p, distance))
            .map_or((0.5 * self.side, 0.5 * self.side), |(p, _)| p)
    }

    /// Two sister cells with a bridge between them.
    fn add_daughters(&mut self, rng: &mut Rng) {
        let p = self.find_place(1.5 * self.spacing, rng);
        let (axis, half) = (rng.angle(), rng.range(0.82, 0.95) * self.radius);
        let (dx, dy) = (axis.cos(), axis.sin());
        let small = 0.68 * self.radius;
        for sign in [-1.0, 1.0] {
            let p = (p.0 + sign * dx * half, p.1 + sign * dy * half);
            self.add(p, small, Phase::Daughter, Some(axis), rng);
        }
        let end = |sign: f32| {
            (p.0 + sign * dx * (half - 0.75 * small), p.1 + sign * dy * (half - 0.75 * small))
        };
        self.scene.bridges.push((end(-1.0), end(1.0)));
    }

    /// Adds cells in interphase wherever there is room, to a share `kept` of the places.
    fn fill(&mut self, kept: f32, rng: &mut Rng) {
        let (side, radius, spacing) = (self.side, self.radius, self.spacing);
        let tries = 40.0 * (1.0 + side / spacing).powi(2);
        let mut resting = 0;
        for attempt in 0..tries as usize {
            let margin = 0.7 * radius;
            let p = if resting < 2 {
                self.inside(rng)
            } else {
                (rng.range(-margin, side + margin), rng.range(-margin, side + margin))
            };
            // Two cells with a nucleus must find room, as most classes need one.
            let share = if resting < 2 { 1.0 - 0.7 * attempt as f32 / tries } else { 0.95 };
            if !self.is_free(p, spacing * share) {
                continue;
            }
            if resting < 2 || rng.chance(kept) {
                let r = radius * rng.range(0.9, 1.15);
                self.add(p, r, Phase::Interphase, None, rng);
                resting += 1;
            } else {
                self.taken.push(p);
            }
        }
    }
}
