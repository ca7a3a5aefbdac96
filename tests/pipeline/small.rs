//! A synthetic data set so small that the whole pipeline takes seconds, for the tests that train.
#![allow(dead_code)] // each test binary uses a part of it

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A folder with a data set, its work folder and its results.
pub struct Small {
    pub folder: tempfile::TempDir,
    sets: Vec<String>,
}

impl Small {
    /// 60 training, 12 test and 6 external samples of 64 pixels.
    pub fn new() -> Self {
        let small = Self::empty();
        let data = small.path("data");
        let out = small
            .atlas(&[
                "synth",
                "--samples",
                "60",
                "--test",
                "12",
                "--external",
                "6",
                "--size",
                "64",
                "--out",
                &data,
            ])
            .output()
            .unwrap();
        succeeds(&out);
        small
    }

    /// Without data; for those who bring their own to `data/`. Small networks and few steps; what
    /// the clock would decide is set, so that runs can be compared byte for byte.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("with blanks ").tempdir().unwrap();
        let at = |key: &str, name: &str| format!("{key}={}", folder.path().join(name).display());
        let mut sets = vec![
            at("paths.work", "work"),
            at("paths.results", "results"),
            at("data.kaggle", "data"),
            at("data.external", "data/external"),
        ];
        let keys = "threads=2 preprocess.size=64 preprocess.shard_samples=20 split.folds=2 \
            model.arch=se_resnext_tiny model.dropout=0.2 augment.resize=64 augment.crop=48 \
            train.epochs=1 train.batch=8 train.ema=0.9 train.precision=f32 train.layout=nhwc \
            predict.tta=five_crop";
        sets.extend(keys.split_whitespace().map(String::from));
        Self { folder, sets }
    }

    /// With the real images beside the clone: 24 training and 8 test samples of the competition, 6
    /// external ones and 3 incomplete ones.
    pub fn real(data: &Path) -> Self {
        let small = Self::empty();
        let to = |name: &str| PathBuf::from(small.path(name));
        for folder in ["data/train", "data/test", "data/external/images"] {
            fs::create_dir_all(to(folder)).unwrap();
        }
        let link = |from: &Path, folder: &str| {
            symlink(from, to(folder).join(from.file_name().unwrap())).unwrap()
        };
        let list = |folder: &str| {
            let mut paths: Vec<_> =
                fs::read_dir(data.join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
            paths.sort();
            paths
        };
        let id_of = |path: &Path| {
            path.file_stem().unwrap().to_str().unwrap().rsplit_once('_').unwrap().0.to_string()
        };
        let mut ids: Vec<String> = list("kaggle/train").iter().map(|p| id_of(p)).collect();
        ids.dedup();
        assert_eq!(ids.len(), 32);
        for path in list("kaggle/train") {
            let number = ids.binary_search(&id_of(&path)).unwrap();
            link(&path, if number < 24 { "data/train" } else { "data/test" });
        }
        list("hpav18/images").iter().for_each(|p| link(p, "data/external/images"));
        let cut = |from: &str, keep: &dyn Fn(&str) -> bool| -> String {
            let text = fs::read_to_string(data.join(from)).unwrap();
            let rows = text
                .lines()
                .enumerate()
                .filter(|(i, l)| *i == 0 || keep(l.split(',').next().unwrap()))
                .map(|(_, l)| format!("{l}\n"));
            rows.collect()
        };
        fs::write(
            to("data/train.csv"),
            cut("kaggle/train.csv", &|id| ids[..24].iter().any(|i| i == id)),
        )
        .unwrap();
        let sample: String = ids[24..].iter().map(|id| format!("{id},0\n")).collect();
        fs::write(to("data/sample_submission.csv"), format!("Id,Predicted\n{sample}")).unwrap();
        let external: Vec<String> = list("hpav18/images").iter().map(|p| id_of(p)).collect();
        fs::write(
            to("data/external/labels.csv"),
            cut("hpav18/HPAv18RBGY_wodpl.csv", &|id| external.iter().any(|i| i == id)),
        )
        .unwrap();
        small
    }

    /// Changes a key for all jobs that follow.
    pub fn set(&mut self, set: &str) -> &mut Self {
        self.sets.push(set.into());
        self
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The program with `words`.
    pub fn atlas(&self, words: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("atlas"));
        command
            .args(words)
            .env_remove("SLURM_ARRAY_TASK_ID")
            .env_remove("SLURM_ARRAY_JOB_ID")
            .env_remove("ATLAS_RUN")
            .env("OMP_WAIT_POLICY", "PASSIVE");
        command
    }

    /// A job with the keys of this folder; those among `words` come after them.
    pub fn job(&self, words: &[&str]) -> Command {
        let mut command = self.atlas(&words[..1]);
        command.args(self.sets.iter().map(|s| format!("--set={s}"))).args(&words[1..]);
        command
    }

    /// Runs a job to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.job(words).output().unwrap()
    }

    /// Runs the jobs up to `split`, so that training can begin.
    pub fn prepare(&self) {
        for job in ["plan", "preprocess", "dedup", "split"] {
            succeeds(&self.run(&[job]));
        }
    }

    pub fn result(&self, run: &str, name: &str) -> PathBuf {
        self.folder.path().join("results").join(run).join(name)
    }
}

pub fn succeeds(out: &Output) {
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

pub fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Every file below a folder with its content, by its relative path.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// What an undisturbed training of fold 0 leaves: everything but the run's own times and the
/// checkpoints on the way.
pub fn outcome(small: &Small, run: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = files(&small.result(run, "fold_0"));
    all.retain(|name, _| {
        name != "metrics.jsonl"
            && name != ".lock"
            && !name.contains("/step_")
            && !name.starts_with("tensorboard/")
    });
    assert!(all.keys().all(|name| !name.contains(".tmp.")), "litter: {:?}", all.keys());
    assert!(
        all.contains_key("model_checkpoints/last.safetensors")
            && all.contains_key("validation.h5")
            && !all.contains_key("heartbeat.json")
            && all.len() == 10,
        "{:?}",
        all.keys()
    );
    all
}

/// The trainings of fold 0 in both runs left the same.
pub fn assert_equal(small: &Small, run: &str, other: &str) {
    for ((name, a), (other_name, b)) in outcome(small, run).into_iter().zip(outcome(small, other)) {
        assert!(name == other_name && a == b, "{name} of {run} differs from that of {other}");
    }
}
