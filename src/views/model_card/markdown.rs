//! The card as a page to read.

use std::fmt::{Display, Write};

use super::{Card, Counts, Training};
use crate::config::Normalize;

/// What a network is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Onnx,
    Safetensors,
}

impl Card {
    /// Markdown beside the exported file `name`; `notes` are those of
    /// [`weights::export`](crate::network::weights::export).
    pub fn markdown(&self, name: &str, format: Format, notes: &[String]) -> String {
        let mut page = String::new();
        let mut put = |text: &dyn Display| {
            let _ = writeln!(page, "{text}"); // a String takes anything
        };
        put(&format!("# {name}\n"));
        let of = |key: &str| self.network.get(key).map_or("", String::as_str);
        put(&format!(
            "{} (stem `{}`, head `{}`): {} classes of images with {} channels. Written by atlas {} \
                ({}).\n",
            of("arch"),
            of("stem"),
            of("head"),
            of("classes"),
            of("channels"),
            self.exported_by.atlas_version,
            self.exported_by.git_commit
        ));
        put(&"## Input and output\n\n| | |\n|---|---|");
        self.input(format).iter().for_each(|(what, is)| put(&format!("| {what} | {is} |")));
        match format {
            Format::Onnx => {
                put(&format!("\n```python\n{}\n```", onnx(name, self.normalization.is_some())))
            }
            Format::Safetensors => put(&format!("\n{}", notes.join("; "))),
        }
        self.classes(&mut put);
        self.scores(&mut put);
        self.provenance(&mut put);
        page
    }

    fn input(&self, format: Format) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if format == Format::Onnx {
            rows.push((
                "input",
                format!(
                    "`image` f32 `[n, {}, h, w]`, any n, h and w from 32 on",
                    self.network["channels"]
                ),
            ));
            rows.push((
                "output",
                format!(
                    "`logits` f32 `[n, {}]`; sigmoid gives the probability of each class",
                    self.network["classes"]
                ),
            ));
        }
        if let Some(channels) = self.channel_order {
            rows.push(("channels", channels.join(", ")));
        }
        if let Some(origin) = &self.origin {
            let (side, crop) = (origin.image_side, origin.crop_side);
            rows.push((
                "side",
                format!(
                    "whole images of {side} x {side} pixels; trained on crops of {crop} x {crop}"
                ),
            ));
        }
        let inside = if format == Format::Onnx {
            "in the graph: it takes pixel values, 0 to 255. "
        } else {
            "of pixel values, 0 to 255: "
        };
        let formula = self.normalization.as_ref().map(|n| match n.method {
            Normalize::Unit => "x / 255".into(),
            Normalize::Dataset => {
                format!("(x - mean) / std per channel, mean {:?}, std {:?}", n.mean, n.std)
            }
            Normalize::Image => "(x - mean) / max(std, 1) per channel of each image".into(),
        });
        rows.push((
            "normalisation",
            formula.map_or("not known: this weight file does not say it".into(), |f| {
                format!("{inside}{f}")
            }),
        ));
        rows
    }

    fn classes(&self, put: &mut impl FnMut(&dyn Display)) {
        let Some(names) = self.class_names else { return };
        let (data, thresholds) =
            self.origin.as_ref().map_or((None, None), |o| (o.data.as_ref(), o.thresholds.as_ref()));
        put(
            &"\n## Classes\n\n| number | name | threshold | training samples | validation samples \
                |\n|---|---|---|---|---|",
        );
        for (class, name) in names.iter().enumerate() {
            let threshold = thresholds.map_or("-".into(), |t| format!("{:.4}", t.values[class]));
            let counts = data.map_or("- | -".into(), |d| {
                format!("{} | {}", d.train.positives[class], d.validation.positives[class])
            });
            put(&format!("| {class} | {name} | {threshold} | {counts} |"));
        }
    }

    fn scores(&self, put: &mut impl FnMut(&dyn Display)) {
        if let Some(Training { epoch, validation: Some(row) }) = &self.training {
            put(&format!(
                "\n## Score\n\nOf these weights (epoch {epoch}) on whole images of the fold's \
                    validation samples:\n"
            ));
            put(&"| | |\n|---|---|");
            let rows = [
                ("macro F1 at 0.5", row.macro_f1),
                ("macro F1, thresholds cross-fitted", row.macro_f1_fitted),
                ("mean average precision", row.map),
            ];
            rows.iter()
                .filter_map(|(what, value)| Some((what, (*value)?)))
                .for_each(|(what, value)| put(&format!("| {what} | {value:.4} |")));
        }
        if let Some(fitted) = self.origin.as_ref().and_then(|o| o.thresholds.as_ref()) {
            let tta = serde_json::to_value(fitted.tta).unwrap_or_default();
            put(&format!(
                "\nThe thresholds (method {}) were fitted on the out-of-fold predictions of all finished folds of the run, views `{}`: macro F1 {:.4} on \
                 samples that they had not seen, {:.4} on those that they were fitted on. Where no class is above its threshold, the most \
                 probable one counts.",
                fitted.method,
                tta.as_str().unwrap_or_default(),
                fitted.cross_fitted_macro_f1,
                fitted.in_sample_macro_f1
            ));
        }
    }

    fn provenance(&self, put: &mut impl FnMut(&dyn Display)) {
        let Some(origin) = &self.origin else { return };
        if let Some(data) = &origin.data {
            let line = |c: &Counts| {
                format!("{} samples ({} official, {} external)", c.samples, c.official, c.external)
            };
            put(&format!(
                "\n## Data\n\nTrained on {}; validated on {}.",
                line(&data.train),
                line(&data.validation)
            ));
        }
        put(&format!(
            "\n## Provenance\n\n| | |\n|---|---|\n| run | {} |\n| fold | {} |",
            origin.run, origin.fold
        ));
        for (key, value) in origin.provenance.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), String::from);
            put(&format!("| {key} | {value} |"));
        }
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
