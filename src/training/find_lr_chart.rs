//! `find_lr.svg`: the loss of a learning-rate range test by learning rate.

use plotters::prelude::*;

use crate::base::{Error, Result};

/// Dark enough on white, light enough on black, and distinct for colour-blind eyes (Okabe & Ito).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const GREY: RGBColor = RGBColor(120, 120, 120);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// One step of a learning-rate range test: learning rate, loss, running mean of the loss.
pub type TestStep = (f64, f64, f64);

/// The SVG: a point per step, the running mean as a line, and each suggested learning rate with its
/// name as a vertical line.
pub fn draw(title: &str, points: &[TestStep], suggested: [(f64, &str); 2]) -> Result<String> {
    let (from, to) =
        points.iter().fold((f64::INFINITY, 0f64), |(a, b), p| (a.min(p.0), b.max(p.0)));
    // Single steps may lie far above the mean: points outside the axes are left out.
    let (least, most) =
        points.iter().fold((f64::INFINITY, 0f64), |(a, b), p| (a.min(p.2), b.max(p.2)));
    let rise = (most - least).max(1e-9);
    let losses = least - 0.25 * rise..most + 0.25 * rise;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (860, 480)).into_drawing_area();
        let draw = || -> std::result::Result<(), Box<dyn std::error::Error>> {
            root.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&root)
                .caption(title, ("sans-serif", 18))
                .margin(16)
                .x_label_area_size(44)
                .y_label_area_size(64)
                .build_cartesian_2d((from..to.max(from * 1.01)).log_scale(), losses.clone())?;
            let power = |lr: &f64| format!("{lr:.0e}");
            chart
                .configure_mesh()
                .x_desc("learning rate")
                .y_desc("loss")
                .x_label_formatter(&power)
                .label_style(("sans-serif", 13))
                .draw()?;
            let inside = |p: &&TestStep| losses.contains(&p.1);
            chart
                .draw_series(
                    points
                        .iter()
                        .filter(inside)
                        .map(|p| Circle::new((p.0, p.1), 2, GREY.mix(0.5).filled())),
                )?
                .label("each step")
                .legend(|(x, y)| Circle::new((x + 10, y), 2, GREY.filled()));
            chart
                .draw_series(LineSeries::new(
                    points.iter().map(|p| (p.0, p.2)),
                    BLUE.stroke_width(2),
                ))?
                .label("running mean")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLUE.stroke_width(2)));
            for ((lr, what), colour) in suggested.into_iter().zip([ORANGE, GREEN]) {
                chart
                    .draw_series([PathElement::new(
                        [(lr, losses.start), (lr, losses.end)],
                        colour.stroke_width(2),
                    )])?
                    .label(format!("{what}: {lr:.1e}"))
                    .legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
                    });
            }
            // The curve begins high at the left: the lower left corner is free.
            let labels = &mut chart.configure_series_labels();
            labels
                .position(SeriesLabelPosition::LowerLeft)
                .background_style(WHITE.mix(0.9))
                .border_style(GREY)
                .label_font(("sans-serif", 13))
                .draw()?;
            root.present()?;
            Ok(())
        };
        draw().map_err(|e| Error::failed(format!("cannot draw the chart: {e}")))?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_test_shows_axes_curve_and_suggestions() {
        let points: Vec<TestStep> = (0..50)
            .map(|i| 1e-6 * 10f64.powf(f64::from(i) / 10.0))
            .map(|lr| (lr, 1.0 - lr, 1.0 - lr))
            .collect();
        let svg =
            draw("t", &points, [(1e-3, "steepest descent"), (2e-4, "a tenth of the minimum")])
                .unwrap();
        for text in [
            "learning rate",
            "loss",
            "steepest descent: 1.0e-3",
            "a tenth of the minimum: 2.0e-4",
            "running mean",
            "1e-5",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.matches("<circle").count() >= points.len());
    }
}
