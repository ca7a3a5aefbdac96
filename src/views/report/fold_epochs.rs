//! The epochs of a fold: `history.csv`, `metrics.jsonl`, and F1 per class from the training logs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use crate::{
    base::{Error, Result, advice, csv_file},
    data::labels::{CLASSES, Labels},
    scoring::metrics::{self, Counts},
    training::{
        history::{EpochRow, HISTORY},
        run_folder::Run,
    },
};

/// One line of `metrics.jsonl`; a value that an older version did not write is 0.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct StepMetrics {
    pub step: u64,
    pub lr: f64,
    pub samples_per_s: f64,
    pub data_wait: f64,
    pub ranks: usize,
    pub resident_mib: u64,
    pub gpu_mib: Option<u64>,
}

/// The epochs of a fold.
pub struct FoldEpochs {
    pub fold: usize,
    pub history: Vec<EpochRow>,
    pub steps: Vec<StepMetrics>,
}

impl FoldEpochs {
    /// Reads both files of a fold; either may be missing.
    ///
    /// # Errors
    /// Data where `history.csv` is damaged.
    pub fn read(fold: usize, run: &Run) -> Result<Self> {
        let folder = run.fold(fold);
        let path = folder.join(HISTORY);
        let history = match path.exists() {
            true => csv_file::read(&path, &training(run, fold))?,
            false => Vec::new(),
        };
        let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
        // The last line may be incomplete after a kill.
        let steps = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Self { fold, history, steps })
    }

    /// Warns where the rows of `history.csv` are not those of the training of the fold's weights,
    /// which begin with `trained`.
    pub fn compare(&self, trained: &[EpochRow], run: &Run) {
        let key = |row: &EpochRow| (row.epoch, row.train_macro_f1, row.lr);
        if !self.history.is_empty()
            && self.history.iter().take(trained.len()).map(key).ne(trained.iter().map(key))
        {
            log::warn!(
                "{}: not of the training of the weights beside it; it may be of another fold or \
                 run; `atlas {}` writes it again",
                run.fold(self.fold).join(HISTORY).display(),
                training(run, self.fold)
            );
        }
    }
}

/// The job that writes the history of a fold.
fn training(run: &Run, fold: usize) -> String {
    format!("train --run {} --fold {fold}", advice::quoted(run.name()))
}

/// F1 at 0.5 of every class by epoch (from 1).
#[derive(Default)]
pub struct ClassF1ByEpoch {
    /// Of the augmented samples, as in training.
    pub train: BTreeMap<usize, [f64; CLASSES]>,
    pub valid: BTreeMap<usize, [f64; CLASSES]>,
}

/// Reads the training logs of some folds row by row, and adds up the counts of all folds by epoch.
///
/// # Errors
/// Data, with file and line, where a log is damaged.
pub fn class_f1_by_epoch(folds: &[PathBuf]) -> Result<ClassF1ByEpoch> {
    let mut files = Vec::new();
    for fold in folds {
        for entry in fs::read_dir(fold.join("training_logs")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let parts = name
                .to_str()
                .and_then(|n| n.strip_prefix("epoch_")?.strip_suffix(".csv")?.split_once('_'));
            if let Some((epoch, part @ ("train" | "val"))) = parts
                && let Ok(epoch) = epoch.parse::<usize>()
            {
                files.push((part == "train", epoch, entry.path()));
            }
        }
    }
    let counted = files
        .into_par_iter()
        .map(|(train, epoch, path)| Ok((train, epoch, count(&path)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut sums = [BTreeMap::<usize, [Counts; CLASSES]>::new(), BTreeMap::new()];
    for (train, epoch, counts) in counted {
        for (sum, more) in sums[usize::from(train)].entry(epoch).or_default().iter_mut().zip(counts)
        {
            *sum += more;
        }
    }
    let [valid, train] = sums.map(|epochs| {
        epochs.into_iter().map(|(epoch, counts)| (epoch, counts.map(Counts::f1))).collect()
    });
    Ok(ClassF1ByEpoch { train, valid })
}

/// Counts at a threshold of 0.5 from one training log.
fn count(path: &Path) -> Result<[Counts; CLASSES]> {
    let wrong = |line: u64| {
        let what = "is not id,labels,p0..p27; move the file away, or train the fold again";
        Error::data(path, format!("line {line} {what}"))
    };
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 18).from_reader(file);
    let line = |e: csv::Error| wrong(e.position().map_or(1, csv::Position::line));
    let header = reader.headers().map_err(line)?;
    if header.iter().take(3).ne(["id", "labels", "p0"]) {
        return Err(wrong(1));
    }
    let (mut record, mut counts) = (csv::StringRecord::new(), [Counts::default(); CLASSES]);
    while reader.read_record(&mut record).map_err(line)? {
        let number = record.position().map_or(0, csv::Position::line);
        let (truth, probabilities) = row(&record).ok_or_else(|| wrong(number))?;
        let predicted = metrics::above(probabilities, &[0.5; CLASSES]);
        for (sum, one) in counts.iter_mut().zip(metrics::counts_of([predicted], &[truth])) {
            *sum += one;
        }
    }
    Ok(counts)
}

fn row(record: &csv::StringRecord) -> Option<(Labels, [f32; CLASSES])> {
    let mut parts = record.iter().skip(1);
    let truth = Labels::parse(parts.next()?).ok()?;
    let mut probabilities = [0.0; CLASSES];
    for p in &mut probabilities {
        *p = parts.next()?.parse().ok()?;
    }
    Some((truth, probabilities))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        training::history::{Logs, Samples},
        views::report::golden,
    };

    #[test]
    fn classes_are_counted_over_all_folds_of_an_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let g = golden::read();
        let (truth, half) = (g.truth(), g.groups.len() / 2);
        let folds: Vec<PathBuf> = (0..2).map(|k| dir.path().join(format!("fold_{k}"))).collect();
        for (fold, rows) in folds.iter().zip([0..half, half..truth.len()]) {
            let samples = Samples {
                ids: vec!["x"; rows.len()],
                labels: truth[rows.clone()].to_vec(),
                probabilities: g.probabilities[rows.clone()].concat(),
                losses: vec![("focal", vec![0.25; rows.len()])],
            };
            Logs::of(fold).write_samples(3, "val", &samples).unwrap();
        }
        let got = class_f1_by_epoch(&folds).unwrap();
        assert_eq!(got.valid[&3], metrics::counts_of(g.predicted(), &truth).map(Counts::f1));
        assert!(got.train.is_empty() && got.valid.len() == 1);

        let broken = folds[0].join("training_logs/epoch_004_train.csv");
        fs::write(&broken, "id,labels,p0,p1\nx,1,0.5\n").unwrap();
        let error = class_f1_by_epoch(&folds).err().unwrap().to_string();
        assert!(error.contains("epoch_004_train.csv") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn an_incomplete_line_of_metrics_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run { folder: dir.path().join("my run") };
        let folder = run.fold(0);
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("metrics.jsonl"),
            "{\"step\":4,\"samples_per_s\":9.5,\"gpu_mib\":null}\n{\"st",
        )
        .unwrap();
        let fold = FoldEpochs::read(0, &run).unwrap();
        assert_eq!(
            fold.steps,
            [StepMetrics { step: 4, samples_per_s: 9.5, ..StepMetrics::default() }]
        );
        fs::write(folder.join(HISTORY), "epoch\nx\n").unwrap();
        let e = FoldEpochs::read(0, &run).err().unwrap();
        assert!(e.exit_code() == 65 && e.to_string().contains("--run 'my run' --fold 0`"), "{e}");
    }
}
