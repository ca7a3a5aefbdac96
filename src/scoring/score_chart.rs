//! `scores.svg`: the F1 of every class as a bar chart.

use plotters::prelude::*;

use crate::{
    base::Result,
    data::labels::{CLASSES, NAMES},
    scoring::{
        metrics::{self, Counts},
        svg::{BLUE, GREY, svg},
    },
};

/// The SVG: one bar per class, classes with fewer positives below, the macro mean as a vertical
/// line.
pub fn draw(title: &str, counts: &[Counts; CLASSES]) -> Result<String> {
    let mut order: Vec<usize> = (0..CLASSES).collect();
    order.sort_by_key(|&c| (counts[c].positives(), c));
    let mean = metrics::macro_f1(counts);
    let present =
        metrics::over_present(metrics::macro_f1_present(counts), metrics::classes_present(counts));
    svg(title, (860, 640), |root| {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(root)
            .caption(format!("{title}: macro {mean:.3}{present}"), ("sans-serif", 18))
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
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_bar_and_name() {
        let counts = std::array::from_fn(|c| Counts { tp: c as u64 + 1, fp: 1, fn_: 2 });
        let svg = draw("t", &counts).unwrap();
        assert!(NAMES.iter().all(|n| svg.contains(&n.replace('&', "&amp;"))), "a name is missing");
        assert!(svg.matches("<rect").count() >= CLASSES && svg.contains("macro 0."));
    }
}
