//! Charts as SVG.

use plotters::prelude::*;

use crate::{
    base::{Error, Result},
    data::labels::{CLASSES, NAMES},
    scoring::metrics::Counts,
};

/// Dark enough on white, light enough on black, and told apart by colour-blind eyes (Okabe & Ito).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const GREY: RGBColor = RGBColor(120, 120, 120);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// F1 of each class as bars, sorted by their number of positives, with the macro mean as a line.
pub fn per_class(title: &str, counts: &[Counts; CLASSES]) -> Result<String> {
    let mut order: Vec<usize> = (0..CLASSES).collect();
    order.sort_by_key(|&c| (counts[c].positives(), c));
    let mean = counts.iter().map(|c| c.f1()).sum::<f64>() / CLASSES as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (860, 640)).into_drawing_area();
        let draw = || -> std::result::Result<(), Box<dyn std::error::Error>> {
            root.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&root)
                .caption(format!("{title}: macro {mean:.3}"), ("sans-serif", 18))
                .margin(12)
                .x_label_area_size(36)
                .y_label_area_size(230)
                // the last one included
                .build_cartesian_2d(0f64..1f64, (0..CLASSES - 1).into_segmented())?;
            let name = |at: &SegmentValue<usize>| match at {
                SegmentValue::CenterOf(i) if *i < CLASSES => {
                    format!("{} ({})", NAMES[order[*i]], counts[order[*i]].positives())
                }
                _ => String::new(),
            };
            chart
                .configure_mesh()
                .disable_y_mesh()
                .x_desc("F1")
                .y_labels(CLASSES)
                .y_label_formatter(&name)
                .label_style(("sans-serif", 13))
                .draw()?;
            chart.draw_series((0..CLASSES).map(|i| {
                let high =
                    if i + 1 < CLASSES { SegmentValue::Exact(i + 1) } else { SegmentValue::Last };
                let mut bar = Rectangle::new(
                    [(0.0, SegmentValue::Exact(i)), (counts[order[i]].f1(), high)],
                    BLUE.filled(),
                );
                bar.set_margin(2, 2, 0, 0);
                bar
            }))?;
            let ends = [(mean, SegmentValue::Exact(0)), (mean, SegmentValue::Last)];
            chart.draw_series([PathElement::new(ends.to_vec(), GREY.stroke_width(2))])?;
            root.present()?;
            Ok(())
        };
        draw().map_err(|e| Error::failed(format!("cannot draw the chart: {e}")))?;
    }
    Ok(svg)
}

/// A step of a learning-rate range test: learning rate, loss, running mean of the loss.
pub type Tried = (f64, f64, f64);

/// A learning-rate range test, and the learning rates that it suggests, each with what it is.
pub fn find_lr(title: &str, points: &[Tried], suggested: [(f64, &str); 2]) -> Result<String> {
    let (from, to) =
        points.iter().fold((f64::INFINITY, 0f64), |(a, b), p| (a.min(p.0), b.max(p.0)));
    // Single steps may lie far above the mean; they may leave the picture.
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
            let inside = |p: &&Tried| losses.contains(&p.1);
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
            // Losses begin high at the left.
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
        let points: Vec<Tried> = (0..50)
            .map(|i| 1e-6 * 10f64.powf(f64::from(i) / 10.0))
            .map(|lr| (lr, 1.0 - lr, 1.0 - lr))
            .collect();
        let svg =
            find_lr("t", &points, [(1e-3, "steepest descent"), (2e-4, "a tenth of the minimum")])
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

    #[test]
    fn every_class_has_its_bar_and_name() {
        let counts = std::array::from_fn(|c| Counts { tp: c as u64 + 1, fp: 1, fn_: 2 });
        let svg = per_class("t", &counts).unwrap();
        assert!(NAMES.iter().all(|n| svg.contains(&n.replace('&', "&amp;"))), "a name is missing");
        assert!(svg.matches("<rect").count() >= CLASSES && svg.contains("macro 0."));
    }
}
