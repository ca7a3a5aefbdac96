//! `find_lr.svg`: the loss of a learning-rate range test by learning rate.

use plotters::prelude::*;

use crate::{
    base::Result,
    scoring::svg::{BLUE, GREEN, GREY, ORANGE, svg},
};

/// One step of a learning-rate range test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub lr: f64,
    /// Mean over the step's batch.
    pub loss: f64,
    /// Running mean, corrected for its start at 0 (as Adam's).
    pub smoothed: f64,
}

/// The SVG: a point per step, the running mean as a line, and each suggested learning rate with its
/// name as a vertical line.
pub fn draw(title: &str, points: &[Point], suggested: [(f64, &str); 2]) -> Result<String> {
    let range = |value: fn(&Point) -> f64| {
        points.iter().map(value).fold((f64::INFINITY, 0f64), |(a, b), v| (a.min(v), b.max(v)))
    };
    let (from, to) = range(|p| p.lr);
    // Single steps may lie far above the mean: points outside the axes are left out.
    let (least, most) = range(|p| p.smoothed);
    let rise = (most - least).max(1e-9);
    let losses = least - 0.25 * rise..most + 0.25 * rise;
    svg(title, (860, 480), |root| {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(root)
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
        let inside = points.iter().filter(|p| losses.contains(&p.loss));
        chart
            .draw_series(inside.map(|p| Circle::new((p.lr, p.loss), 2, GREY.mix(0.5).filled())))?
            .label("each step")
            .legend(|(x, y)| Circle::new((x + 10, y), 2, GREY.filled()));
        chart
            .draw_series(LineSeries::new(
                points.iter().map(|p| (p.lr, p.smoothed)),
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
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_test_shows_axes_curve_and_suggestions() {
        let points: Vec<Point> = (0..50)
            .map(|i| 1e-6 * 10f64.powf(f64::from(i) / 10.0))
            .map(|lr| Point { lr, loss: 1.0 - lr, smoothed: 1.0 - lr })
            .collect();
        let suggested = [(1e-3, "steepest descent"), (2e-4, "a tenth of the minimum")];
        let svg = draw("t", &points, suggested).unwrap();
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
