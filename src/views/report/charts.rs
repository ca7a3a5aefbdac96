//! Charts of the report as SVG to embed in a page: without a background and in the colour of the
//! page's text, so that they are legible in light and dark mode.

use std::ops::Range;

use plotters::{coord::Shift, prelude::*, style::text_anchor};

use crate::{
    base::Result,
    data::labels::{CLASSES, NAMES},
    scoring::svg,
    views::report::bootstrap::Interval,
};

/// Distinct for colour-blind eyes, on white and on black (Okabe & Ito, without their yellow and
/// black).
pub const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Placeholders for the page's text colour, at full and at low opacity.
const INK: RGBColor = RGBColor(1, 2, 3);
const FAINT: RGBColor = RGBColor(4, 5, 6);

/// Sizes in pixels: a line of the page holds two charts, or four small ones.
const CHART: (u32, u32) = (440, 250);
const SMALL: (u32, u32) = (210, 140);

/// A line through points.
pub struct Line {
    pub points: Vec<(f64, f64)>,
    /// Index into [`COLOURS`], modulo their number.
    pub colour: usize,
    pub dashed: bool,
}

/// Labels, size and ranges of a chart of lines.
pub struct Axes<'a> {
    /// What a screen reader reads out.
    pub label: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// Pixels.
    pub size: (u32, u32),
    /// `None`: the range of the points.
    pub x_range: Option<Range<f64>>,
    pub y_range: Option<Range<f64>>,
}

impl<'a> Axes<'a> {
    /// Of a chart of usual size.
    pub fn new(label: &'a str, x: &'a str, y: &'a str) -> Self {
        Self { label, x, y, size: CHART, x_range: None, y_range: None }
    }

    /// Of a small chart, whose axes have no names.
    pub fn small(label: &'a str, x: Range<f64>, y: Range<f64>) -> Self {
        Self { size: SMALL, x_range: Some(x), y_range: Some(y), ..Self::new(label, "", "") }
    }
}

fn colour(i: usize) -> RGBColor {
    let hex = u32::from_str_radix(&COLOURS[i % COLOURS.len()][1..], 16).expect("a constant");
    RGBColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// Lines over two numeric axes; up to 30 points are marked.
pub fn lines(axes: &Axes, lines: &[Line]) -> Result<String> {
    let within = |given: &Option<Range<f64>>, at: fn(&(f64, f64)) -> f64| {
        given.clone().unwrap_or_else(|| around(lines.iter().flat_map(|l| l.points.iter().map(at))))
    };
    let (x, y) = (within(&axes.x_range, |p| p.0), within(&axes.y_range, |p| p.1));
    let small = axes.size.0 < 300;
    let text = if small { 11 } else { 13 };
    let digits = if y.end - y.start < 0.02 {
        4
    } else if y.end - y.start < 5.0 {
        2
    } else {
        0
    };
    svg(axes.label, axes.size, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(6)
            .margin_right(12)
            .x_label_area_size(if small { 20 } else { 36 })
            .y_label_area_size(if small { 30 } else { 56 })
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .x_desc(axes.x)
            .y_desc(axes.y)
            .x_labels(if small { 3 } else { 7 })
            .y_labels(if small { 3 } else { 6 })
            .x_label_formatter(&|v| {
                if v.fract().abs() < 1e-9 { format!("{v:.0}") } else { format!("{v:.1}") }
            })
            .y_label_formatter(&|v| format!("{v:.digits$}"))
            .label_style(("sans-serif", text, &INK))
            .axis_desc_style(("sans-serif", text, &INK))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for line in lines {
            let style = colour(line.colour).stroke_width(2);
            match line.dashed {
                true => chart.draw_series(DashedLineSeries::new(
                    line.points.iter().copied(),
                    5,
                    4,
                    style,
                ))?,
                false => chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?,
            };
            if line.points.len() <= 30 {
                let filled = colour(line.colour).filled();
                let radius = if line.points.len() == 1 { 4 } else { 2 };
                chart.draw_series(line.points.iter().map(|p| Circle::new(*p, radius, filled)))?;
            }
        }
        Ok(())
    })
}

/// F1 of every class as a dot on the line of its interval, the best on top, with the macro mean as
/// a vertical line.
pub fn f1_of_classes(
    label: &str,
    f1: &[f64; CLASSES],
    intervals: &[Interval],
    positives: &[u64; CLASSES],
) -> Result<String> {
    let mut order: Vec<usize> = (0..CLASSES).collect();
    order.sort_by(|&a, &b| f1[a].total_cmp(&f1[b]).then(b.cmp(&a)));
    let mean = f1.iter().sum::<f64>() / CLASSES as f64;
    svg(label, (560, 640), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(8)
            .margin_right(14)
            .x_label_area_size(36)
            .y_label_area_size(228)
            .build_cartesian_2d(0f64..1f64, -0.6f64..CLASSES as f64 - 0.4)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc("F1")
            .y_labels(0)
            .label_style(("sans-serif", 13, &INK))
            .axis_desc_style(("sans-serif", 13, &INK))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        chart.draw_series([PathElement::new(
            [(mean, -0.6), (mean, CLASSES as f64 - 0.4)],
            INK.stroke_width(1),
        )])?;
        for (at, &class) in order.iter().enumerate() {
            let at = at as f64;
            let Interval { low, high } = intervals[class];
            chart.draw_series([PathElement::new(
                [(low, at), (high, at)],
                colour(0).stroke_width(2),
            )])?;
            chart.draw_series([Circle::new((f1[class], at), 4, colour(0).filled())])?;
            let (_, y) = chart.backend_coord(&(0.0, at));
            let style = ("sans-serif", 13, &INK)
                .into_text_style(root)
                .pos(text_anchor::Pos::new(text_anchor::HPos::Right, text_anchor::VPos::Center));
            root.draw_text(&format!("{} ({})", NAMES[class], positives[class]), &style, (230, y))?;
        }
        Ok(())
    })
}

/// A range a little wider than the values; 0 to 1 where there are none.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match high - low {
        _ if low > high => 0.0..1.0,
        0.0 => low - 0.5..high + 0.5,
        span => low - 0.04 * span..high + 0.04 * span,
    }
}

/// An SVG of `size` pixels with an accessible `label`.
fn svg(
    label: &str,
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> svg::DrawResult,
) -> Result<String> {
    let svg = svg::svg(label, size, draw)?;
    let label = label.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let svg = svg
        .replace("\"#010203\"", "\"currentColor\"")
        .replace("\"#040506\"", "\"currentColor\" stroke-opacity=\"0.15\"");
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_have_the_text_colour_of_the_page_and_a_label() {
        let axes = Axes { y_range: Some(0.0..1.0), ..Axes::new("a \"b\" & c", "epoch", "F1") };
        let points = vec![(1.0, 0.2), (2.0, 0.5)];
        let line = |dashed| Line { points: points.clone(), colour: 7, dashed };
        let svg = lines(&axes, &[line(false), line(true)]).unwrap();
        assert!(
            svg.starts_with("<svg role=\"img\" aria-label=\"a &quot;b&quot; &amp; c\""),
            "{}",
            &svg[..80]
        );
        assert!(
            svg.contains("currentColor")
                && !svg.contains("#010203")
                && !svg.contains("#040506")
                && !svg.contains("#FFFFFF")
        );
        assert!(
            svg.contains("#D55E00") && svg.matches("<circle").count() == 4,
            "colours start again after the last"
        );
    }

    #[test]
    fn every_class_has_its_dot_line_and_name() {
        let f1 = std::array::from_fn(|c| c as f64 / 30.0);
        let intervals = [Interval { low: 0.1, high: 0.9 }; CLASSES];
        let svg = f1_of_classes("t", &f1, &intervals, &[7; CLASSES]).unwrap();
        assert!(NAMES.iter().all(|n| svg.contains(&n.replace('&', "&amp;"))), "a name is missing");
        assert_eq!(svg.matches("<circle").count(), CLASSES);
    }

    #[test]
    fn ranges_contain_all_values() {
        assert_eq!(around([].into_iter()), 0.0..1.0);
        assert_eq!(around([2.0].into_iter()), 1.5..2.5);
        let range = around([1.0, f64::NAN, 2.0].into_iter());
        assert!(range.start < 1.0 && range.end > 2.0 && range.end < 2.1);
    }
}
