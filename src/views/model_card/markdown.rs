//! The model card as a Markdown page.

use std::fmt::Write;

use super::card::{Card, CardThresholds, SampleCounts, TrainingSummary};
use crate::config::Normalize;

/// The format of the exported network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Onnx,
    Safetensors,
}

// Writing to a String does not fail: the results are dropped.

/// The page to lie beside the exported file `name`; `notes` are those of
/// [`weights::export`](crate::network::weights::export).
pub fn markdown(card: &Card, name: &str, format: Format, notes: &[String]) -> String {
    let mut page = String::new();
    let of = |key: &str| card.network.get(key).map_or("", String::as_str);
    let _ = writeln!(
        page,
        "# {name}\n\n{} (stem `{}`, head `{}`): {} classes of images with {} channels. Written by \
            atlas {} ({}).\n",
        of("arch"),
        of("stem"),
        of("head"),
        of("classes"),
        of("channels"),
        card.exported_by.atlas_version,
        card.exported_by.git_commit
    );
    page += "## Input and output\n\n| | |\n|---|---|\n";
    for (what, is) in input(card, format) {
        let _ = writeln!(page, "| {what} | {is} |");
    }
    let _ = match format {
        Format::Onnx => {
            writeln!(page, "\n```python\n{}\n```", onnx(name, card.normalization.is_some()))
        }
        Format::Safetensors => writeln!(page, "\n{}", notes.join("; ")),
    };
    classes(card, &mut page);
    scores(card, &mut page);
    provenance(card, &mut page);
    page
}

fn input(card: &Card, format: Format) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if format == Format::Onnx {
        let (channels, classes) = (&card.network["channels"], &card.network["classes"]);
        rows.push((
            "input",
            format!("`image` f32 `[n, {channels}, h, w]`, any n, h and w from 32 on"),
        ));
        rows.push((
            "output",
            format!("`logits` f32 `[n, {classes}]`; sigmoid gives the probability of each class"),
        ));
    }
    if let Some(channels) = card.channel_order {
        rows.push(("channels", channels.join(", ")));
    }
    if let Some(origin) = &card.origin {
        let (side, crop) = (origin.image_side, origin.crop_side);
        let text =
            format!("whole images of {side} x {side} pixels; trained on crops of {crop} x {crop}");
        rows.push(("side", text));
    }
    let inside = match format {
        Format::Onnx => "in the graph: it takes pixel values, 0 to 255. ",
        Format::Safetensors => "of pixel values, 0 to 255: ",
    };
    let formula = card.normalization.as_ref().map(|n| match n.method {
        Normalize::Unit => "x / 255".into(),
        Normalize::Dataset => {
            format!("(x - mean) / std per channel, mean {:?}, std {:?}", n.mean, n.std)
        }
        Normalize::Image => "(x - mean) / max(std, 1) per channel of each image".into(),
    });
    rows.push((
        "normalisation",
        formula.map_or("not known: this weight file does not say it".into(), |f: String| {
            format!("{inside}{f}")
        }),
    ));
    rows
}

fn classes(card: &Card, page: &mut String) {
    let Some(names) = card.class_names else { return };
    let origin = card.origin.as_ref();
    let data = origin.and_then(|o| o.data.as_ref());
    let thresholds = origin.and_then(|o| o.thresholds.as_ref());
    *page += "\n## Classes\n\n| number | name | threshold | training samples | validation samples \
        |\n|---|---|---|---|---|\n";
    for (class, name) in names.iter().enumerate() {
        let threshold = thresholds.map_or("-".into(), |t| format!("{:.4}", t.fitted.values[class]));
        let counts = data.map_or("- | -".into(), |d| {
            format!("{} | {}", d.train.positives[class], d.validation.positives[class])
        });
        let _ = writeln!(page, "| {class} | {name} | {threshold} | {counts} |");
    }
}

fn scores(card: &Card, page: &mut String) {
    if let Some(TrainingSummary { epoch, validation: Some(row) }) = &card.training {
        let _ = writeln!(
            page,
            "\n## Score\n\nOf these weights (epoch {epoch}) on whole images of the fold's \
                validation samples:\n\n| | |\n|---|---|"
        );
        for (what, value) in [
            ("macro F1 at 0.5", row.macro_f1),
            ("macro F1, thresholds cross-fitted", row.macro_f1_fitted),
            ("mean average precision", row.map),
        ] {
            if let Some(value) = value {
                let _ = writeln!(page, "| {what} | {value:.4} |");
            }
        }
    }
    let thresholds = card.origin.as_ref().and_then(|o| o.thresholds.as_ref());
    if let Some(CardThresholds { fitted, tta }) = thresholds {
        let tta = serde_json::to_value(tta).unwrap_or_default();
        let _ = writeln!(
            page,
            "\nThe thresholds (method {}) were fitted on the out-of-fold predictions of all \
                finished folds of the run, views `{}`: macro F1 {:.4}{} on samples that they had \
                not seen, {:.4} on those that they were fitted on. Where no class is above its \
                threshold, the most probable one counts.",
            fitted.method,
            tta.as_str().unwrap_or_default(),
            fitted.cross_fitted,
            fitted.over_present(),
            fitted.in_sample
        );
    }
}

fn provenance(card: &Card, page: &mut String) {
    let Some(origin) = &card.origin else { return };
    if let Some(data) = &origin.data {
        let line = |c: &SampleCounts| {
            format!("{} samples ({} official, {} external)", c.samples, c.official, c.external)
        };
        let (train, validation) = (line(&data.train), line(&data.validation));
        let _ = writeln!(page, "\n## Data\n\nTrained on {train}; validated on {validation}.");
    }
    let (run, fold) = (&origin.run, origin.fold);
    let _ =
        writeln!(page, "\n## Provenance\n\n| | |\n|---|---|\n| run | {run} |\n| fold | {fold} |");
    for (key, value) in origin.provenance.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), String::from);
        let _ = writeln!(page, "| {key} | {value} |");
    }
}

fn onnx(name: &str, normalised: bool) -> String {
    let values = if normalised { "pixel values, 0 to 255" } else { "normalised as in training" };
    format!(
        "import numpy, onnxruntime\nsession = onnxruntime.InferenceSession(\"{name}\")\n\
         image = numpy.stack([red, green, blue, yellow]).astype(numpy.float32)[None]  # {values}\n\
         logits, = session.run([\"logits\"], {{\"image\": image}})\nprobabilities = 1 / (1 + \
             numpy.exp(-logits))"
    )
}
