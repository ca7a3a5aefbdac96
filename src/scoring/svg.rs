//! What the charts of this program share: how one becomes an SVG, and colours.

use plotters::{coord::Shift, prelude::*};

use crate::base::{Error, Result};

/// Dark enough on white, light enough on black, and distinct for colour-blind eyes (Okabe & Ito).
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const ORANGE: RGBColor = RGBColor(213, 94, 0);
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
pub const GREY: RGBColor = RGBColor(120, 120, 120);

/// What drawing a chart returns.
pub type DrawResult = std::result::Result<(), Box<dyn std::error::Error>>;

/// The SVG of `size` pixels that `draw` fills; `name` tells in an error which chart it is.
///
/// # Errors
/// [`Error::Failed`] where `draw` fails.
pub fn svg(
    name: &str,
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> DrawResult,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&root)
            .and_then(|()| Ok(root.present()?))
            .map_err(|e| Error::failed(format!("cannot draw the chart `{name}`: {e}")))?;
    }
    Ok(svg)
}
