//! Exported networks: what they say of themselves, and that ONNX Runtime and timm agree with us.

use std::path::{Path, PathBuf};

use atlas::{
    config::{Head, Normalize, Stem},
    data::image,
    loading::normalization::Normalization,
    network::{
        model::{ComputeMode, Mode, Network, Precision, Spec},
        weights::{self, Metadata, NetworkState},
    },
    training::checkpoint::Checkpoint,
};
use tch::{Device, Kind, Tensor};

use super::{atlas, formula, needs, text, training_state::training_state};

/// A checkpoint of a network with weights from the formula.
fn checkpoint(path: &Path, spec: &Spec, normalization: &Normalization) -> Network {
    let network = Network::new(spec, 0, ComputeMode::PREFERRED.channels_last, Device::Cpu).unwrap();
    formula::fill(network.named_tensors());
    let network_state = NetworkState { spec: spec.clone(), normalization: normalization.clone() };
    let state = training_state(network_state, 2, 9);
    let tensors = [
        ("parameters".to_string(), network.flat_parameters()),
        ("buffers".to_string(), network.flat_buffers()),
    ];
    Checkpoint { state, tensors: tensors.into() }.write(path).unwrap();
    network
}

fn export(file: &Path, output: &Path) -> assert_cmd::assert::Assert {
    atlas().args(["weights", "export"]).arg(file).arg("--output").arg(output).assert()
}

#[test]
fn an_export_describes_itself_and_keeps_the_normalisation() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let spec = Spec {
        arch: "se_resnext_tiny".into(),
        stem: Stem::Seed,
        head: Head::Seed,
        channels: 4,
        classes: 28,
        dropout: 0.5,
    };
    let normalization = Normalization {
        method: Normalize::Dataset,
        mean: [1.0, 2.0, 3.0, 4.5],
        std: [20.0, 30.0, 40.0, 50.0],
    };
    checkpoint(&path("c.safetensors"), &spec, &normalization);
    for name in ["x.pt", "x", "x.onnx.gz"] {
        let message =
            text(&export(&path("c.safetensors"), &path(name)).code(2).get_output().stderr);
        assert!(
            [name, ".onnx", ".safetensors"].iter().all(|part| message.contains(part)),
            "{message}"
        );
        assert!(!path(name).exists());
    }
    export(&path("c.safetensors"), &path("x.onnx")).success();
    export(&path("c.safetensors"), &path("s.safetensors")).success();
    let metadata = weights::read(&path("s.safetensors")).unwrap().1;
    for (key, value) in [
        ("channel_order", r#"["red","green","blue","yellow"]"#),
        ("epoch", "2"),
        ("format", "pt"),
        ("stem", "seed"),
    ] {
        assert_eq!(metadata[key], value);
    }
    assert_eq!(
        weights::Weights::open(&path("s.safetensors")).unwrap().normalization().unwrap(),
        Some(normalization)
    );
    for (page, parts) in [
        (
            "x.md",
            &[
                "`image` f32 `[n, 4, h, w]`",
                "takes pixel values, 0 to 255",
                "onnxruntime.InferenceSession(\"x.onnx\")",
            ][..],
        ),
        (
            "s.md",
            &[
                "layer0.conv1.stride = (3, 3)",
                "of pixel values, 0 to 255: (x - mean) / std per channel, mean [1.0, 2.0, 3.0, \
                    4.5]",
            ],
        ),
    ] {
        let page = std::fs::read_to_string(path(page)).unwrap();
        for part in parts.iter().chain(&[
            "se_resnext_tiny",
            "| 27 | Rods & rings | - | - | - |",
            "red, green, blue, yellow",
        ]) {
            assert!(page.contains(part), "{part} in {page}");
        }
    }
    // Exported again from the first export, the network is the same.
    export(&path("s.safetensors"), &path("again.onnx")).success();
    let [a, b] = ["x.onnx", "again.onnx"].map(|name| std::fs::read(path(name)).unwrap());
    let graph = a.len().min(b.len()) - 4000; // the model card follows
    assert!(graph > 500_000 && a[..graph] == b[..graph], "the graph differs");
}

/// 32 samples of the competition as u8 `[32, 224, 224, 4]`.
fn real_samples(folder: &Path) -> Vec<u8> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    // Sorted by name, the channels of a sample are blue, green, red, yellow.
    let sample = |files: &[PathBuf]| {
        let plane = |(file, channel): (usize, usize)| {
            image::resize(&image::read_channel(&files[file], channel, 4096).unwrap(), 224).pixels
        };
        let planes: Vec<Vec<u8>> = [(2, 0), (1, 1), (0, 2), (3, 3)].map(plane).into();
        (0..224 * 224)
            .flat_map(|i| planes.iter().map(|p| p[i]).collect::<Vec<_>>())
            .collect::<Vec<u8>>()
    };
    let images: Vec<Vec<u8>> = names.chunks_exact(4).map(sample).collect();
    assert_eq!(images.len(), 32);
    images.concat()
}

#[test]
#[ignore = "needs ATLAS_PYTHON with timm and onnxruntime, ../shared/data; run by make test-all"]
fn onnx_runtime_and_timm_give_our_logits_on_real_samples() {
    let (python, data) = (needs::python(), needs::shared_data().join("kaggle/train"));
    tch::set_num_threads(2);
    let images = real_samples(&data);
    let pixels = Tensor::from_slice(&images)
        .view([32, 224, 224, 4])
        .permute([0, 3, 1, 2])
        .to_kind(Kind::Float)
        .contiguous();
    let dataset = Normalization {
        method: Normalize::Dataset,
        mean: [20.0, 13.0, 14.0, 20.0],
        std: [30.0, 24.0, 37.0, 31.0],
    };
    let image = Normalization { method: Normalize::Image, ..dataset.clone() };
    for (arch, stem, head, normalization) in [
        ("se_resnext50_32x4d", Stem::Standard, Head::Linear, &dataset),
        ("se_resnext26_32x4d", Stem::Seed, Head::Seed, &image),
        ("se_resnext_small", Stem::Standard, Head::Seed, &Normalization::unit()),
        ("se_resnext_tiny", Stem::Seed, Head::Linear, &dataset),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let spec = Spec { arch: arch.into(), stem, head, channels: 4, classes: 28, dropout: 0.2 };
        let network = checkpoint(&path("c.safetensors"), &spec, normalization);
        let input = normalization.apply(&images, 224, Device::Cpu).contiguous();
        weights::write(
            &path("images"),
            &[("image".into(), pixels.shallow_clone()), ("input".into(), input.shallow_clone())],
            &Metadata::new(),
        )
        .unwrap();
        export(&path("c.safetensors"), &path("x.onnx")).success();
        export(&path("c.safetensors"), &path("x.safetensors")).success();
        let mut peer = std::process::Command::new(&python);
        peer.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/exchange.py"))
            .arg("--images")
            .arg(path("images"));
        peer.arg("--onnx").arg(path("x.onnx")).arg("--out").arg(path("out"));
        let in_timm = arch == "se_resnext50_32x4d";
        if in_timm {
            peer.arg("--timm").arg(path("x.safetensors")).arg("--pth").arg(path("timm.pth"));
        }
        assert!(peer.status().unwrap().success());
        let theirs = weights::read(&path("out")).unwrap().0;
        let off = |name: &str, ours: &Tensor| {
            let off = (ours - &theirs[name]).abs().max().double_value(&[]);
            println!(
                "{arch}, {stem:?}, {head:?}, {:?}: {name} off by {off:.2e}, logits up to {:.1}",
                normalization.method,
                ours.abs().max().double_value(&[])
            );
            assert!(off < 1e-4, "{arch}: {name} off by {off}");
        };
        let logits = network.forward(&input, Mode::Eval, Precision::F32);
        off("onnx", &logits);
        if normalization.method != Normalize::Image {
            let cut = input.narrow(0, 0, 2).narrow(2, 0, 97).narrow(3, 0, 130);
            off("cut", &network.forward(&cut, Mode::Eval, Precision::F32));
        }
        if in_timm {
            off("timm", &logits);
            atlas()
                .args(["weights", "import"])
                .arg(path("timm.pth"))
                .arg("--output")
                .arg(path("back.safetensors"))
                .assert()
                .success();
            let back = weights::read(&path("back.safetensors")).unwrap().0;
            assert!(network.named_tensors().iter().all(|(name, tensor)| back[name].equal(tensor)));
        }
    }
}
