//! A synthetic run, as training, prediction and `submit` would leave it, and the explorer over it.
#![allow(dead_code)] // each test uses a part of it

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use atlas::{
    base::stop_request::Stop,
    config::Config,
    data::{
        image::Plane,
        labels::{Labels, NAMES},
        manifest::{Manifest, Part, Pool, Sample, Source},
        phash::phash,
        shard::{Entry, Writer, path},
        work_folder::WorkFolder,
    },
    inference::predict,
    loading::normalization::Normalization,
    network::{
        model::{Network, Spec},
        weights::NetworkState,
    },
    scoring::{prediction_file::Predictions, prediction_freshness},
    training::{checkpoint::Checkpoint, run_folder::Run},
};
use ndarray::Array2;

use super::training_state::training_state;

pub const SIDE: usize = 32;
/// What a hostile data set could call a sample.
pub const EVIL: &str = "<img src=x onerror=alert(1)>";
/// Every class's threshold.
pub const THRESHOLD: f32 = 0.4;

pub struct SyntheticRun {
    pub folder: tempfile::TempDir,
    pub config: PathBuf,
    pub work: PathBuf,
}

/// Channel `c` of the synthetic sample `i`; 1 is nearly the same as 0.
pub fn plane(i: usize, c: usize) -> Vec<u8> {
    let (of, more) = if i == 1 { (0, 1) } else { (i, 0) };
    let (a, b) = (of * 7 % 23 + 3, of * 5 % 17 + c);
    (0..SIDE * SIDE)
        .map(|p| ((p % SIDE * a / 4 + p / SIDE * b / 3 + of * of) % 200 + more) as u8)
        .collect()
}

/// Classes of the synthetic sample `i`.
pub fn truth(i: usize) -> Labels {
    Labels::from_classes([i % 28, (i / 3) % 5]).unwrap()
}

/// Its probability of class `c`: high for what it has, unless it is one in five, and here and there
/// for another.
pub fn probability(i: usize, c: usize) -> f32 {
    let right = truth(i).contains(c) != (i + c).is_multiple_of(5);
    (if right { 0.55 } else { 0.05 }) + ((i * 31 + c * 17) % 300) as f32 / 1000.0
}

pub fn id(i: usize) -> String {
    if i == 3 { EVIL.into() } else { format!("made-{i:06}") }
}

impl SyntheticRun {
    /// Samples of `SIDE` pixels; two folds of untrained networks. The last training sample stands
    /// in no fold, as a dropped duplicate.
    pub fn new(train: usize, test: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("with blanks ").tempdir().unwrap();
        let work = folder.path().join("work");
        let config = config(folder.path());
        let sample = |i: usize| {
            let (part, at) = if i < train { (Part::Train, i) } else { (Part::Test, i - train) };
            let files = Pool::default().files(&id(i), ["/nowhere"; 4]);
            let labels = if part == Part::Train { truth(i) } else { Labels::default() };
            Sample { id: id(i), source: Source::Official, part, labels, files, shard: at / 512 }
        };
        let manifest = Manifest { samples: (0..train + test).map(sample).collect() };
        manifest.write(&work).unwrap();
        for shard in manifest.shards() {
            let mut writer = Writer::create(
                &path(&work, shard.part, shard.number),
                shard.part,
                shard.samples.len(),
                SIDE,
            )
            .unwrap();
            for i in shard.samples {
                let planes: [Vec<u8>; 4] = std::array::from_fn(|c| plane(i, c));
                let hashes = planes
                    .each_ref()
                    .map(|p| phash(&Plane { width: SIDE, height: SIDE, pixels: p.clone() }));
                let image = (0..SIDE * SIDE)
                    .flat_map(|p| planes.each_ref().map(|plane| plane[p]))
                    .collect();
                writer.push(Entry::new(id(i), manifest.samples[i].labels, hashes, image)).unwrap();
            }
            writer.finish(manifest.hash()).unwrap();
        }
        let run = Run { folder: config.paths.results.join("made") };
        run.begin(&config, &WorkFolder::of(&config)).unwrap();
        for fold in 0..2 {
            let weights = run.weights(fold, config.train.keep);
            checkpoint(&config, fold as u64).write(&weights).unwrap();
            let samples: Vec<usize> = (0..train - 1).filter(|i| i % 2 == fold).collect();
            let probabilities =
                Array2::from_shape_fn((samples.len(), 28), |(row, c)| probability(samples[row], c));
            let predictions =
                Predictions { ids: samples.iter().map(|&i| id(i)).collect(), probabilities };
            let (predict, augment, precision) =
                (&config.predict, &config.augment, config.train.precision);
            let source = prediction_freshness::source(predict, augment, precision, &[weights]);
            predictions.write(&run.validation(fold), source.unwrap()).unwrap();
        }
        static STOP: Stop = Stop::new();
        predict::predict(&config, &WorkFolder::of(&config), &run, 0, 1, &STOP).unwrap();
        let rows: String =
            NAMES.iter().enumerate().map(|(c, name)| format!("{c},{name},{THRESHOLD}\n")).collect();
        fs::write(run.folder.join("thresholds.csv"), format!("class,name,constant\n{rows}"))
            .unwrap();
        fs::write(
            run.folder.join("scores.csv"),
            "method,cross_fitted_macro_f1,in_sample_macro_f1\nconstant,0.5,0.6\n",
        )
        .unwrap();
        Self { config: run.folder.join("config.toml"), work, folder }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("atlas"));
        command.arg("explore").arg("--config").arg(&self.config).args(words);
        command.env_remove("ATLAS_RUN").env("OMP_WAIT_POLICY", "PASSIVE");
        command
    }

    pub fn explore(&self, words: &[&str]) -> Explored {
        Explored::start(self.command(words))
    }
}

fn config(folder: &Path) -> Config {
    let mut config = Config { threads: Some(2), ..Config::default() };
    config.paths.work = folder.join("work");
    config.paths.results = folder.join("results");
    (config.preprocess.size, config.augment.resize, config.augment.crop) = (SIDE as u32, 48, 32);
    config.preprocess.shard_samples = 512;
    config.split.folds = 2;
    config.model.arch = "se_resnext_tiny".into();
    config
}

fn checkpoint(config: &Config, seed: u64) -> Checkpoint {
    let spec = Spec::of(&config.model);
    let network = Network::new(&spec, seed, true, tch::Device::Cpu).unwrap();
    let network_state = NetworkState { spec, normalization: Normalization::unit() };
    let state = training_state(network_state, 1, 1);
    let tensors = [
        ("parameters".to_string(), network.flat_parameters()),
        ("buffers".into(), network.flat_buffers()),
    ]
    .into();
    Checkpoint { state, tensors }
}

/// A running explorer.
pub struct Explored {
    pub child: Child,
    pub url: String,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Explored {
    /// Starts the explorer that `command` is, at a free port.
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.args(["--port", "0", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let url = told["url"].as_str().unwrap().to_string();
        let port = url.split(['/', '?']).nth(2).unwrap().rsplit(':').next().unwrap();
        Self { child, address: format!("127.0.0.1:{port}"), url }
    }

    /// Status, headers and body of an answer.
    pub fn get(&self, path: &str) -> Answer {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Posts files as a browser does.
    pub fn post(&self, files: &[(&str, &[u8])]) -> Answer {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut body = Vec::new();
        for (name, bytes) in files {
            write!(
                body,
                "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
            )
            .unwrap();
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--x--\r\n");
        let url = format!("http://{}/api/uploads", self.address);
        let mut response = agent
            .post(url)
            .content_type("multipart/form-data; boundary=x")
            .send(&body[..])
            .unwrap();
        Answer {
            status: response.status().as_u16(),
            head: String::new(),
            body: response.body_mut().read_to_vec().unwrap(),
        }
    }

    /// Sends exactly these bytes.
    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer to {request:?}"));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        Answer { status: head[9..12].parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
    }

    pub fn interrupt(&self) {
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) }, 0);
    }
}

impl Drop for Explored {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Refused with this status, for people in words that contain `part`, for programs as JSON.
    pub fn refused(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{}{}", self.head, self.text());
        let told: serde_json::Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()));
        assert!(told["error"].as_str().unwrap().contains(part), "{told}");
    }
}
