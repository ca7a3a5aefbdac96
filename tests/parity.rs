//! The network against PyTorch: always against committed values of timm's model, and on request
//! against timm itself.

#[path = "common/needs.rs"]
mod needs;
#[path = "golden/formula.rs"]
mod formula;

use std::{collections::HashMap, path::Path, process::Command};

use atlas::{
    config::{self, Head, Losses, Stem},
    network::{
        loss,
        model::{DropKeys, Mode, Network, Norms, Precision, Spec},
        optim::{Optimizer, Rates},
        weights::{self, Weights},
    },
};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Written by tests/golden/network.py.
#[derive(Deserialize)]
struct Training {
    loss: f64,
    gradients: HashMap<String, [f64; 2]>,
    running: HashMap<String, f64>,
}

fn network(arch: &str, stem: Stem, head: Head, nhwc: bool, kind: Kind) -> Network {
    let spec = Spec { arch: arch.into(), stem, head, channels: 4, classes: 28, dropout: 0.0 };
    let network = Network::of_kind(&spec, 0, nhwc, Device::Cpu, kind).unwrap();
    formula::fill(network.named_tensors());
    network
}

fn largest(t: Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

#[test]
fn logits_are_those_of_timm() {
    let golden = formula::golden();
    for (key, arch, stem, head, side) in [
        ("se_resnext50_32x4d", "se_resnext50_32x4d", Stem::Standard, Head::Linear, 64),
        ("se_resnext14_32x4d_seed", "se_resnext14_32x4d", Stem::Seed, Head::Seed, 96),
    ] {
        for nhwc in [false, true] {
            let logits = network(arch, stem, head, nhwc, Kind::Float).forward(
                &formula::input(4, 2, side),
                Mode::Eval,
                Precision::F32,
            );
            let off = largest(logits - formula::matrix(&golden[key]));
            assert!(off < 1e-4, "{key}, nhwc {nhwc}: off by {off}");
        }
    }
}

/// How far our values may be from timm's, which are of f64.
struct Bounds {
    loss: f64,
    /// Relative to the norm of the gradient of each parameter.
    gradients: f64,
    /// Relative.
    running: f64,
}

fn gradients_and_running_statistics_are_those_of_timm(kind: Kind, bounds: &Bounds) {
    let golden: Training = serde_json::from_value(formula::golden()["training"].clone()).unwrap();
    tch::set_num_threads(2);
    for nhwc in [false, true] {
        let network = network("se_resnext14_32x4d", Stem::Standard, Head::Linear, nhwc, kind);
        let targets = formula::noise(998, &[16, 28]).gt(0.5).to_kind(kind);
        let keys: Vec<u64> = (0..16).collect();
        let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
        let images = formula::input(4, 16, 64).to_kind(kind);
        let loss = loss::total(&network.forward(&images, mode, Precision::F32), &targets, &bce());
        loss.backward();
        let loss = loss.double_value(&[]);
        assert!((loss - golden.loss).abs() < bounds.loss, "loss {loss}");
        assert_eq!(network.named_gradients().len(), golden.gradients.len());
        for (name, gradient) in network.named_gradients() {
            let [norm, along] = golden.gradients[&name];
            let (ours, most) = (gradient.norm().double_value(&[]), bounds.gradients * norm);
            assert!((ours - norm).abs() < most, "{name}: norm {ours}, expected {norm}");
            let direction = formula::noise(997, &gradient.size());
            let ours = (&gradient * direction).sum(kind).double_value(&[]);
            assert!(
                (ours - along).abs() < most,
                "{name}: along the direction {ours}, expected {along}"
            );
        }
        for (name, buffer) in
            network.named_tensors().into_iter().filter(|(n, _)| n.contains("running"))
        {
            let (ours, expected) = (buffer.norm().double_value(&[]), golden.running[&name]);
            assert!(
                (ours - expected).abs() < bounds.running * expected,
                "{name}: {ours}, expected {expected}"
            );
        }
    }
}

#[test]
fn in_f64_gradients_and_running_statistics_are_those_of_timm() {
    let bounds = Bounds { loss: 1e-12, gradients: 1e-10, running: 1e-12 };
    gradients_and_running_statistics_are_those_of_timm(Kind::Double, &bounds);
}

/// A unit that rounds to the other side of a ReLU shifts f32 gradients, timm's too, by up to 7e-3.
/// `one_step_moves_each_tensor_as_pytorch_does` compares with timm in f32 and is tighter.
#[test]
fn in_f32_gradients_and_running_statistics_are_near_those_of_timm() {
    let bounds = Bounds { loss: 1e-5, gradients: 2e-2, running: 1e-4 };
    gradients_and_running_statistics_are_those_of_timm(Kind::Float, &bounds);
}

fn bce() -> Losses {
    Losses { bce: 1.0, focal: 0.0, lovasz: 0.0, soft_f1: 0.0, ..Default::default() }
}

/// timm's model as tests/peers/sgd_step.py leaves it: the weight file and, after one SGD step of 1,
/// `.after`.
fn reference(folder: &Path, channels: i64, size: i64, layout: &str) -> std::path::PathBuf {
    let out = folder.join(format!("{channels}-{size}-{layout}.safetensors"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/sgd_step.py");
    let mut command = Command::new(needs::python());
    command.arg(script).arg("--out").arg(&out).args([
        "--channels",
        &channels.to_string(),
        "--size",
        &size.to_string(),
    ]);
    assert!(command.args(["--layout", layout]).status().unwrap().success());
    out
}

#[test]
#[ignore = "needs ATLAS_PYTHON with timm, takes a minute; run by make test-all"]
fn logits_of_an_imported_model_are_those_of_timm() {
    let folder = tempfile::tempdir().unwrap();
    for (channels, size) in [(3, 160), (4, 160), (3, 224), (4, 224)] {
        let file = reference(folder.path(), channels, size, "nchw");
        let path = |name: &str| folder.path().join(name);
        let atlas = || assert_cmd::Command::new(env!("CARGO_BIN_EXE_atlas"));
        atlas()
            .args(["weights", "import"])
            .arg(&file)
            .arg("--output")
            .arg(path("ours"))
            .assert()
            .success();
        let mut forward = atlas();
        forward.arg("forward").arg("--weights").arg(path("ours")).arg("--input").arg(&file);
        forward.arg("--output").arg(path("logits")).assert().success();
        let (ours, theirs) =
            (weights::read(&path("logits")).unwrap().0, weights::read(&file).unwrap().0);
        let off = largest(&ours["logits"] - &theirs["logits"]);
        println!("{channels} channels, {size} px: logits off by {off:.2e}");
        assert!(off < 1e-4, "{channels} channels, {size} px: off by {off}");
    }
}

#[test]
#[ignore = "needs ATLAS_PYTHON with timm, takes a minute; run by make test-all"]
fn one_step_moves_each_tensor_as_pytorch_does() {
    let folder = tempfile::tempdir().unwrap();
    tch::set_num_threads(2);
    for (layout, nhwc) in [("nchw", false), ("nhwc", true)] {
        let file = reference(folder.path(), 4, 128, layout);
        let (before, after) = (
            weights::read(&file).unwrap().0,
            weights::read(&file.with_extension("safetensors.after")).unwrap().0,
        );
        let weights = Weights::open(&file).unwrap();
        let spec = Spec { dropout: 0.0, ..weights.spec().clone() };
        let (network, notes) = weights.network(&spec, 0, nhwc, Device::Cpu).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let keys: Vec<u64> = (0..16).collect();
        let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
        let loss = loss::total(
            &network.forward(&before["input"], mode, Precision::F32),
            &after["targets"],
            &bce(),
        );
        loss.backward();
        let config = config::Train {
            optimizer: config::Optimizer::Sgd,
            weight_decay: 0.0,
            clip: 0.0,
            ..Default::default()
        };
        Optimizer::new(&config, &network).step(&network, Rates { lr: 1.0, momentum: 0.0 });
        let (mut worst, mut wrong, mut all) = ((0.0, String::new()), 0.0, 0.0);
        for (name, ours) in network.named_tensors() {
            let start = &before[&format!("model.{name}")];
            let theirs = &after[&name] - start;
            let (off, size) = (
                (ours - start - &theirs).norm().double_value(&[]),
                theirs.norm().double_value(&[]),
            );
            assert!(off <= 1e-3 * size, "{layout}: {name} moved {off} beside a way of {size}");
            if off / size > worst.0 {
                worst = (off / size, name);
            }
            wrong += off * off;
            all += size * size;
        }
        let together = (wrong / all).sqrt();
        println!(
            "{layout}: relative L2 of the update {together:.2e} together, at most {:.2e} ({})",
            worst.0, worst.1
        );
        assert!(together < 1e-5, "{layout}: {together}");
    }
}
