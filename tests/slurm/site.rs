//! A clone of the project and a synthetic data set in folders with blanks, and the Slurm at hand.
#![allow(dead_code)] // each test binary uses a part of it

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::small::{Small, stderr, succeeds};

pub struct Site {
    pub small: Small,
    /// What the jobs find in their environment, besides the experiment.
    env: Vec<(&'static str, String)>,
}

impl Site {
    /// With `samples` training, `test` and `external` samples of `size` pixels.
    pub fn new(samples: usize, test: usize, external: usize, size: usize) -> Self {
        let site = Self::bare();
        let out = site.small.path("data");
        let numbers = [samples, test, external, size].map(|n| n.to_string());
        let [samples, test, external, size] = numbers.each_ref().map(String::as_str);
        let made = [
            "synth",
            "--samples",
            samples,
            "--test",
            test,
            "--external",
            external,
            "--size",
            size,
            "--out",
            &out,
        ];
        succeeds(&site.small.atlas(&made).output().unwrap());
        site
    }

    /// Without data.
    pub fn bare() -> Self {
        let mut small = Small::empty();
        small.set("threads=1").set("preprocess.tasks=4");
        let clone = small.folder.path().join("a clone");
        for folder in ["slurm", "configs"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            fs::create_dir_all(clone.join(folder)).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, clone.join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::create_dir_all(clone.join("target/release")).unwrap();
        std::os::unix::fs::symlink(
            assert_cmd::cargo::cargo_bin!("atlas"),
            clone.join("target/release/atlas"),
        )
        .unwrap();
        fs::create_dir(small.folder.path().join("elsewhere")).unwrap();
        let site = Self { small, env: vec![("OMP_WAIT_POLICY", "PASSIVE".into())] };
        site.configure();
        site
    }

    /// Writes the keys of `small` as the experiment's TOML.
    pub fn configure(&self) {
        let out = self.small.job(&["config"]).output().unwrap();
        succeeds(&out);
        fs::write(self.path("an experiment.toml"), out.stdout).unwrap();
    }

    pub fn env(&mut self, name: &'static str, value: impl Into<String>) {
        self.env.push((name, value.into()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.small.folder.path().join(name)
    }

    /// A script of the clone or a program of Slurm, in the folder `elsewhere`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.path("elsewhere"));
        // The test may itself be a job.
        for (name, _) in std::env::vars().filter(|(n, _)| {
            (n.starts_with("SLURM_") && n != "SLURM_CONF") || n.starts_with("SBATCH_")
        }) {
            command.env_remove(name);
        }
        command
            .env("ATLAS_CONFIG", self.path("an experiment.toml"))
            .envs(self.env.iter().map(|(n, v)| (n, v)));
        command
    }

    pub fn pipeline(&self, args: &[&str]) -> Output {
        self.command(self.path("a clone/slurm/pipeline.sh"), args).output().unwrap()
    }

    /// `sbatch` of a script of the clone; the job's id.
    pub fn sbatch(&self, options: &[&str], script: &str, args: &[&str]) -> String {
        let script = self.path("a clone/slurm").join(script);
        let out = self
            .command(
                "sbatch",
                &[&["--parsable"], options, &[script.to_str().unwrap()], args].concat(),
            )
            .output()
            .unwrap();
        succeeds(&out);
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    }

    /// Waits until the queue has none of our jobs.
    pub fn wait(&self, minutes: u64) {
        until(minutes * 60, "an empty queue", || {
            let out = self.command("squeue", &["--me", "--noheader"]).output().unwrap();
            out.status.success() && out.stdout.is_empty()
        });
    }

    pub fn status(&self, run: &str) -> serde_json::Value {
        let config = self.path("an experiment.toml");
        let out = self
            .small
            .atlas(&["status", "--json", "--run", run, "--config", config.to_str().unwrap()])
            .output()
            .unwrap();
        succeeds(&out);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&out)))
    }

    /// The pipeline is done in every task of every step.
    pub fn is_finished(&self, run: &str) {
        let status = self.status(run);
        assert_eq!(status["finished"], true, "{status:#}");
    }

    /// The lines of a task's log in the work folder.
    pub fn records(&self, job: &str, task: usize) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path(&format!("work/tasks/{job}-{task:05}.jsonl")))
            .unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// The steps that pipeline.sh submitted for a run, with their jobs.
    pub fn submitted(&self, run: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.path(&format!("work/pipeline/{run}/jobs.csv"))).unwrap();
        let row = |l: &str| {
            let mut fields = l.split(',').map(String::from);
            (fields.next().unwrap(), fields.next().unwrap())
        };
        text.lines().skip(1).map(row).collect()
    }
}

pub fn until(seconds: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "no {what} after {seconds} s");
        thread::sleep(Duration::from_millis(200));
    }
}
