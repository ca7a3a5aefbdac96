//! A run of many samples, its files written directly: what a report of a real run has to read, in
//! seconds and without a training.

use std::{fs, path::Path};

use atlas::{
    base::rng::{self, Use},
    config::{Config, Method},
    data::{
        folds::table::{self, FoldRow},
        labels::{CLASSES, Labels, NAMES},
        manifest::{Manifest, Part, Pool, Sample, Source},
        shard::{self, Entry, Writer},
        work_folder::WorkFolder,
    },
    inference::{finished_run::OutOfFold, submit},
    scoring::{metrics, prediction_file::Predictions, thresholds},
    training::{
        history::{EpochRow, Logs, Samples},
        run_folder::Run,
    },
};
use ndarray::Array2;
use rand::RngExt;
use strum::VariantArray;

const SIZE: usize = 32;
const SHARD: usize = 1000;

/// Writes `samples` samples, `tests` test samples and a run of `folds` folds with `epochs` epochs
/// each. No checkpoints.
pub fn make(
    folder: &Path,
    samples: usize,
    tests: usize,
    folds: usize,
    epochs: usize,
) -> (Config, Run) {
    let mut config = Config::default();
    config.paths.work = folder.join("work");
    config.paths.results = folder.join("results");
    config.preprocess.size = SIZE as u32;
    config.split.folds = folds;
    let run = Run { folder: config.paths.results.join("large") };
    run.begin(&config, &WorkFolder::of(&config)).unwrap();
    let mut rng = rng::stream(Use::Synth, 1, 0, 0);
    // Class c in about 1 of 4 + c samples; probabilities that often say so.
    let truth: Vec<Labels> = (0..samples)
        .map(|_| {
            Labels::from_classes((0..CLASSES).filter(|c| rng.random_range(0..4 + c) == 0)).unwrap()
        })
        .collect();
    let probabilities = Array2::from_shape_fn((samples, CLASSES), |(i, c)| {
        let (a, b): (f32, f32) = (rng.random(), rng.random());
        if truth[i].contains(c) { 1.0 - a * b } else { a * b }
    });
    let manifest = write_data(&config.paths.work, &truth, tests);
    let id = |i: usize| manifest.samples[i].id.clone();
    let row = |i: usize| FoldRow { id: id(i), group: i / 3, folds: vec![i / 3 % folds] };
    table::write_table(
        &config.paths.work.join(table::NAME),
        &(0..samples).map(row).collect::<Vec<_>>(),
    )
    .unwrap();
    for fold in 0..folds {
        let (valid, train): (Vec<usize>, Vec<usize>) =
            (0..samples).partition(|i| i / 3 % folds == fold);
        let of_fold = probabilities.select(ndarray::Axis(0), &valid);
        Predictions { ids: valid.iter().map(|&i| id(i)).collect(), probabilities: of_fold }
            .write(&run.validation(fold), 0)
            .unwrap();
        let logs = Logs::of(&run.fold(fold));
        for epoch in 1..=epochs {
            for (part, rows) in [("train", &train), ("val", &valid)] {
                let samples = Samples {
                    ids: rows.iter().map(|&i| manifest.samples[i].id.as_str()).collect(),
                    labels: rows.iter().map(|&i| truth[i]).collect(),
                    probabilities: rows
                        .iter()
                        .flat_map(|&i| probabilities.row(i).to_vec())
                        .collect(),
                    losses: vec![("focal", vec![0.5; rows.len()])],
                };
                logs.write_samples(epoch, part, &samples).unwrap();
            }
        }
        logs.write_history(&(1..=epochs).map(history).collect::<Vec<_>>()).unwrap();
        for step in 1..=10 * epochs {
            let metrics = serde_json::json!({
                "step": 40 * step,
                "lr": 1e-3,
                "samples_per_s": 900.0,
                "ranks": 1,
            });
            logs.metrics(&metrics).unwrap();
        }
    }
    write_tables(&config, &run);
    (config, run)
}

fn history(epoch: usize) -> EpochRow {
    let good = 1.0 - 1.0 / (epoch as f64 + 1.0);
    EpochRow {
        epoch,
        train_loss: Some(1.0 - good),
        train_macro_f1: good,
        valid_loss: Some(1.1 - good),
        macro_f1: Some(0.9 * good),
        macro_f1_fitted: Some(0.95 * good),
        map: Some(0.97 * good),
        lr: 1e-3,
        skipped_steps: 0,
    }
}

/// Manifest, shards, and what `dedup` leaves: every hundredth sample has a near-duplicate, every
/// third test sample is in training.
fn write_data(work: &Path, truth: &[Labels], tests: usize) -> Manifest {
    let mut pool = Pool::default();
    let mut sample = |part: Part, i: usize, labels: Labels| {
        let id = format!(
            "{}{i:06}-bb9b-11e8-b2b9-ac1f6b6435d0",
            if part == Part::Train { "a" } else { "t" }
        );
        let files = pool.files(&id, ["r.png", "g.png", "b.png", "y.png"]);
        Sample { id, source: Source::Official, part, labels, files, shard: i / SHARD }
    };
    let train: Vec<Sample> =
        truth.iter().enumerate().map(|(i, labels)| sample(Part::Train, i, *labels)).collect();
    let test: Vec<Sample> = (0..tests).map(|i| sample(Part::Test, i, Labels::default())).collect();
    let manifest = Manifest { samples: train.into_iter().chain(test).collect() };
    manifest.write(work).unwrap();
    for plan in manifest.shards() {
        let mut writer = Writer::create(
            &shard::path(work, plan.part, plan.number),
            plan.part,
            plan.samples.len(),
            SIZE,
        )
        .unwrap();
        for i in plan.samples {
            let sample = &manifest.samples[i];
            let image = (0..SIZE * SIZE * 4).map(|p| (p * (i + 3) % 251) as u8).collect();
            writer
                .push(Entry::new(sample.id.clone(), sample.labels, [i as u64; 4], image))
                .unwrap();
        }
        writer.finish(manifest.hash()).unwrap();
    }
    let id = |i: usize| &manifest.samples[i].id;
    let mut duplicates = String::from("id,group,kept,of,red,green,blue,correlation\n");
    let mut leaks = String::from("train,test,red,green,blue,correlation,kept\n");
    for i in (0..truth.len() - 1).step_by(100) {
        duplicates += &format!(
            "{0},{0},1,{0},0,0,0,1.0000\n{1},{0},0,{0},1,2,0,0.98{2:02}\n",
            id(i),
            id(i + 1),
            i / 100 % 100
        );
    }
    for t in (0..tests).step_by(3) {
        leaks += &format!("{},{},1,0,2,0.9911,1\n", id(t), id(truth.len() + t));
    }
    fs::write(work.join("duplicates.csv"), duplicates).unwrap();
    fs::write(work.join("conflicts.csv"), "group,id,kept,labels\n").unwrap();
    fs::write(work.join("leaks.csv"), leaks).unwrap();
    manifest
}

/// What `submit` would leave; it asks for checkpoints, and there are none.
fn write_tables(config: &Config, run: &Run) {
    let answer = OutOfFold::read(config, &WorkFolder::of(config), run).unwrap();
    let (mut table, mut scores) = (
        String::from("class,name"),
        String::from("method,cross_fitted_macro_f1,in_sample_macro_f1\n"),
    );
    let mut columns = Vec::new();
    for &method in Method::VARIANTS {
        let fitted = thresholds::fit(method, answer.probabilities.view(), &answer.truth);
        let in_sample = metrics::macro_f1(&metrics::counts(
            answer.probabilities.view(),
            &answer.truth,
            &fitted,
        ));
        scores += &format!(
            "{method},{:.6},{in_sample:.6}\n",
            submit::cross_fitted(method, &answer, config.split.seed).macro_f1
        );
        table += &format!(",{method}");
        columns.push(fitted);
    }
    table.push('\n');
    for (c, name) in NAMES.iter().enumerate() {
        let values: Vec<String> = columns.iter().map(|t| t[c].to_string()).collect();
        table += &format!("{c},{name},{}\n", values.join(","));
    }
    fs::write(run.folder.join("thresholds.csv"), table).unwrap();
    fs::write(run.folder.join("scores.csv"), scores).unwrap();
}
