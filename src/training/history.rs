//! The logs of a training: `history.csv` (a row per epoch), `metrics.jsonl` (a line per interval of
//! steps), `training_logs/epoch_NNN_{train,val}.csv` (a row per sample).

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    base::{Error, Result, atomic_file, csv_file},
    data::labels::{CLASSES, Labels},
};

/// One epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// From 1.
    pub epoch: usize,
    /// Mean of the weighted loss sum over the epoch's steps, skipped ones included.
    pub train_loss: Option<f64>,
    /// Macro F1 at 0.5 of the training samples as they were seen (augmented, with dropout).
    pub train_macro_f1: f64,
    pub valid_loss: Option<f64>,
    /// Macro F1 at 0.5.
    pub macro_f1: Option<f64>,
    /// Macro F1 at shrunken per-class thresholds, cross-fitted.
    pub macro_f1_fitted: Option<f64>,
    /// Mean average precision over the 28 classes; one without positives counts 0.
    pub map: Option<f64>,
    /// Learning rate of the last step.
    pub lr: f64,
    pub skipped_steps: usize,
}

/// The row of each epoch, in the folder of a fold.
pub const HISTORY: &str = "history.csv";

/// The files of one fold.
pub struct Logs {
    /// The folder of the fold.
    pub folder: PathBuf,
}

impl Logs {
    pub fn of(fold: &Path) -> Self {
        Self { folder: fold.into() }
    }

    /// Replaces `history.csv`.
    pub fn write_history(&self, rows: &[EpochRow]) -> Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in rows {
            writer.serialize(row).map_err(Error::failed)?;
        }
        let text = writer.into_inner().map_err(Error::failed)?;
        atomic_file::write(self.folder.join(HISTORY), text)
    }

    /// One line of `metrics.jsonl`; it must have the key `step`.
    pub fn metrics(&self, line: &Value) -> Result<()> {
        let path = self.folder.join("metrics.jsonl");
        fs::create_dir_all(&self.folder).map_err(Error::io("create the folder", &self.folder))?;
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.map_err(Error::io("open", &path))?;
        writeln!(file, "{line}").map_err(Error::io("write", &path))
    }

    /// The mean losses of the intervals in `metrics.jsonl`; NaN where one has none.
    pub fn losses(&self) -> Vec<f64> {
        let text = fs::read_to_string(self.folder.join("metrics.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| line["loss"].as_f64().unwrap_or(f64::NAN)).collect()
    }

    /// Drops the lines of `metrics.jsonl` after `step`: a resumed training writes them again.
    pub fn rewind_metrics(&self, step: u64) -> Result<()> {
        let path = self.folder.join("metrics.jsonl");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let kept = |line: &&str| {
            serde_json::from_str::<Value>(line)
                .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step))
        };
        let lines: String = text.lines().filter(kept).flat_map(|l| [l, "\n"]).collect();
        atomic_file::write(path, lines)
    }

    /// `training_logs/epoch_NNN_{train,val}.csv`: id, labels, the 28 probabilities, each loss of
    /// the sample.
    pub fn write_samples(&self, epoch: usize, part: &str, samples: &Samples) -> Result<()> {
        let path = self.folder.join("training_logs").join(format!("epoch_{epoch:03}_{part}.csv"));
        let mut writer = csv::Writer::from_writer(atomic_file::Writer::create(&path)?);
        samples
            .write_to(&mut writer)
            .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
        csv_file::finish(writer, &path)
    }
}

/// Rows of a training log.
pub struct Samples<'a> {
    pub ids: Vec<&'a str>,
    pub labels: Vec<Labels>,
    /// `[n][28]`, flat.
    pub probabilities: Vec<f32>,
    /// Name and one value per sample.
    pub losses: Vec<(&'static str, Vec<f32>)>,
}

impl Samples<'_> {
    fn write_to(&self, writer: &mut csv::Writer<impl Write>) -> csv::Result<()> {
        let classes = (0..CLASSES).map(|c| format!("p{c}"));
        let losses = self.losses.iter().map(|(name, _)| format!("{name}_loss"));
        let names = ["id", "labels"].into_iter().map(String::from);
        writer.write_record(names.chain(classes).chain(losses))?;
        for (i, (id, labels)) in self.ids.iter().zip(&self.labels).enumerate() {
            writer.write_field(id)?;
            writer.write_field(labels.to_string())?;
            for p in &self.probabilities[i * CLASSES..(i + 1) * CLASSES] {
                writer.write_field(format!("{p:.5}"))?;
            }
            for (_, values) in &self.losses {
                writer.write_field(format!("{:.6}", values[i]))?;
            }
            writer.write_record(None::<&str>)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_after_the_checkpoint_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, path) = (Logs::of(dir.path()), dir.path().join("metrics.jsonl"));
        for step in 1..=4 {
            logs.metrics(&serde_json::json!({ "step": step })).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "{\"st").unwrap();
        logs.rewind_metrics(2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn a_log_is_a_plain_table() {
        let dir = tempfile::tempdir().unwrap();
        let samples = Samples {
            ids: vec!["a", "b"],
            labels: vec![Labels::from_classes([3, 1]).unwrap(), Labels::default()],
            probabilities: vec![0.25; 2 * CLASSES],
            losses: vec![("focal", vec![0.5, 0.75])],
        };
        Logs::of(dir.path()).write_samples(2, "val", &samples).unwrap();
        let text = fs::read_to_string(dir.path().join("training_logs/epoch_002_val.csv")).unwrap();
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(rows.headers().unwrap().len(), 2 + CLASSES + 1);
        let rows: Vec<_> = rows.records().map(|r| r.unwrap()).collect();
        assert_eq!((&rows[0][1], &rows[1][30], &rows[0][2]), ("1 3", "0.750000", "0.25000"));
    }
}
