//! `atlas weights` and `atlas forward` from outside.

#[path = "common/needs.rs"]
mod needs;
#[path = "golden/formula.rs"]
mod formula;
#[path = "common/training_state.rs"]
mod training_state;
#[path = "weights/export.rs"]
mod export;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use atlas::{
    config::{Head, Stem},
    network::{
        model::{Network, Spec},
        weights::{self, Metadata},
    },
};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

type Tensors = Vec<(String, Tensor)>;

fn atlas() -> Command {
    Command::new(env!("CARGO_BIN_EXE_atlas"))
}

/// timm's state dict for three channels and 28 classes.
fn state_dict() -> Tensors {
    let spec = Spec {
        arch: "se_resnext14_32x4d".into(),
        stem: Stem::Standard,
        head: Head::Linear,
        channels: 3,
        classes: 28,
        dropout: 0.0,
    };
    let network = Network::new(&spec, 0, false, Device::Cpu).unwrap();
    formula::fill(network.named_tensors());
    let mut tensors = network.named_tensors();
    tensors.push(("layer0.bn1.num_batches_tracked".into(), Tensor::from(3i64)));
    tensors
}

fn prefixed(prefix: &str, tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(n, t)| (format!("{prefix}{n}"), t.shallow_clone())).collect()
}

/// A folder with the file `in.safetensors`.
fn folder(tensors: &Tensors) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.safetensors");
    weights::write(&file, tensors, &Metadata::new()).unwrap();
    (folder, file)
}

fn import(file: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    atlas()
        .args(["weights", "import"])
        .arg(file)
        .arg("--output")
        .arg(file.with_file_name("out.safetensors"))
        .args(more)
        .assert()
}

fn imported(file: &Path) -> (std::collections::BTreeMap<String, Tensor>, Metadata) {
    weights::read(&file.with_file_name("out.safetensors")).unwrap()
}

fn forward(weights: &Path, input: &Path) -> Tensor {
    let output = input.with_file_name("logits.safetensors");
    let mut job = atlas();
    job.arg("forward")
        .arg("--weights")
        .arg(weights)
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(&output);
    job.assert().success();
    weights::read(&output).unwrap().0.remove("logits").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_imported_state_dict_gives_timms_logits_and_exports_unchanged() {
    let plain = state_dict();
    let golden = formula::matrix(&formula::golden()["se_resnext14_32x4d_3ch"]);
    for prefix in ["", "model.", "module.model."] {
        let mut tensors = prefixed(prefix, &plain);
        tensors.extend([
            ("input".into(), formula::input(3, 2, 64)),
            ("logits".into(), golden.shallow_clone()),
        ]);
        let (folder, file) = folder(&tensors);
        import(&file, &[]).success();
        let (ours, metadata) = imported(&file);
        for (key, value) in [
            ("arch", "se_resnext14_32x4d"),
            ("stem", "standard"),
            ("head", "linear"),
            ("channels", "3"),
            ("classes", "28"),
        ] {
            assert_eq!(metadata[key], value);
        }
        assert_eq!(ours.len(), plain.len() - 1);
        let out = folder.path().join("out.safetensors");
        let off = (forward(&out, &file) - &golden).abs().max().double_value(&[]);
        assert!(off < 1e-4, "`{prefix}`: logits off by {off}");
        let exported = folder.path().join("timm.safetensors");
        atlas()
            .args(["weights", "export"])
            .arg(&out)
            .arg("--output")
            .arg(&exported)
            .assert()
            .success();
        let (exported, _) = weights::read(&exported).unwrap();
        assert_eq!(exported.len(), plain.len() - 1);
        assert!(
            plain
                .iter()
                .filter(|(n, _)| !n.ends_with("tracked"))
                .all(|(n, t)| exported[n].equal(t))
        );
    }
}

#[test]
fn a_fourth_channel_keeps_the_size_of_activations() {
    let (folder, file) = folder(&state_dict());
    let message = import(&file, &["--channels", "4"]).success();
    let log = text(&message.get_output().stderr);
    assert!(log.contains("3 input channels became 4"), "{log}");
    assert_eq!(imported(&file).1["channels"], "4");
    // Three equal channels before, four equal ones after: the same sums, so the same logits.
    let gray = formula::input(1, 2, 64);
    let input = |channels: i64| {
        let path = folder.path().join(format!("gray{channels}"));
        weights::write(
            &path,
            &[("input".into(), gray.expand([2, channels, 64, 64], false).contiguous())],
            &Metadata::new(),
        )
        .unwrap();
        path
    };
    let (three, four) =
        (forward(&file, &input(3)), forward(&folder.path().join("out.safetensors"), &input(4)));
    assert!((&three - four).abs().max().double_value(&[]) < 1e-4);
    let kernel = &imported(&file).0["layer0.conv1.weight"];
    let others = kernel.narrow(1, 0, 3).mean_dim([1].as_slice(), true, tch::Kind::Float);
    assert!((kernel.narrow(1, 3, 1) - others).abs().max().double_value(&[]) < 1e-6);
    import(&folder.path().join("out.safetensors"), &["--channels", "3"]).code(2);
}

#[test]
fn another_number_of_classes_gives_a_new_head_and_a_note() {
    let plain = state_dict();
    let (_folder, file) = folder(&plain);
    for more in [&["--classes", "5"][..], &["--head", "seed"]] {
        let message = import(&file, more).success();
        assert!(text(&message.get_output().stderr).contains("head"));
        let (ours, metadata) = imported(&file);
        assert_eq!(metadata["classes"], if more[0] == "--classes" { "5" } else { "28" });
        assert_eq!(ours.contains_key("head.fc2.weight"), more[0] == "--head");
        assert!(
            plain
                .iter()
                .filter(|(n, _)| n.starts_with("layer") && !n.ends_with("tracked"))
                .all(|(n, t)| ours[n].equal(t))
        );
    }
}

#[test]
fn all_tensors_that_do_not_fit_are_named_in_one_message() {
    let mut tensors = state_dict();
    tensors.retain(|(n, _)| n != "layer2.0.conv2.weight" && n != "layer4.0.bn3.running_var");
    tensors.push(("layer9.weight".into(), Tensor::zeros([2], (tch::Kind::Float, Device::Cpu))));
    for (name, tensor) in &mut tensors {
        if name == "layer3.0.se_module.fc1.bias" {
            *tensor = Tensor::zeros([7], (tch::Kind::Float, Device::Cpu));
        }
    }
    let (_folder, file) = folder(&tensors);
    let message = text(&import(&file, &[]).code(65).get_output().stderr);
    for part in [
        "in.safetensors",
        "`layer2.0.conv2.weight`",
        "`layer4.0.bn3.running_var`",
        "`layer9.weight`",
        "`layer3.0.se_module.fc1.bias`",
        "[7]",
        "[64]",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(!file.with_file_name("out.safetensors").exists());
}

/// The prefixes of torch.compile, DDP, Lightning and EMA wrappers, alone and combined, and numbers
/// of other kinds. Of two networks the averaged one is taken.
#[test]
fn what_wrappers_put_around_a_network_is_taken_off() {
    let joined = |a: Tensors, b: Tensors| -> Tensors { a.into_iter().chain(b).collect() };
    let one = |name: &str| vec![(name.to_string(), Tensor::from_slice(&[1f32]))];
    let plain = state_dict();
    let bf16: Tensors = plain.iter().map(|(n, t)| (n.clone(), t.to_kind(Kind::BFloat16))).collect();
    let averaged: Tensors =
        plain.iter().map(|(n, t)| (n.clone(), t.to_kind(Kind::Float) + 1.0)).collect();
    for (tensors, want, note) in [
        (prefixed("_orig_mod.", &plain), &plain, ""),
        (prefixed("module._orig_mod.model.", &plain), &plain, ""),
        (prefixed("net.backbone.", &bf16), &bf16, ""),
        (
            joined(
                prefixed("state_dict.", &plain),
                joined(prefixed("state_dict_ema.module.", &averaged), one("n_averaged")),
            ),
            &averaged,
            "`state_dict_ema`, not those under `state_dict`",
        ),
        (joined(prefixed("model.", &plain), one("loss.weight")), &plain, "`loss.weight`"),
    ] {
        let (_folder, file) = folder(&tensors);
        let log = text(&import(&file, &[]).success().get_output().stderr);
        assert!(log.contains(note) && (!note.is_empty() || !log.contains("left out")), "{log}");
        let ours = imported(&file).0;
        for (name, tensor) in want.iter().filter(|(n, _)| !n.ends_with("tracked")) {
            assert!(ours[name].equal(&tensor.to_kind(Kind::Float)), "{name}: {note}");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    for (number, kind) in
        [(f64::NAN, Kind::Float), (f64::INFINITY, Kind::Half), (1e300, Kind::Double)]
    {
        let mut tensors = state_dict();
        for (name, tensor) in &mut tensors {
            if name == "layer2.0.bn1.running_var" {
                *tensor = tensor.to_kind(kind);
                let _ = tensor.narrow(0, 3, 1).fill_(number);
            }
        }
        let (_folder, file) = folder(&tensors);
        let message = text(&import(&file, &[]).code(65).get_output().stderr);
        for part in ["in.safetensors", "`layer2.0.bn1.running_var`", "(1 of "] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(!file.with_file_name("out.safetensors").exists());
    }
}

/// timm's SE-ResNeXt of its own ResNet family is not Cadene's, and a network of another kind is
/// described in a few lines, however many tensors it has.
#[test]
fn another_network_is_named_and_not_listed() {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let mut own = vec![
        ("conv1.weight".to_string(), zeros(&[64, 3, 7, 7])),
        ("layer1.0.se.fc1.weight".to_string(), zeros(&[16, 256, 1, 1])),
        ("layer1.0.conv2.weight".to_string(), zeros(&[128, 4, 3, 3])),
    ];
    for (stage, blocks) in [(1, 3), (2, 4), (3, 6), (4, 3)] {
        for block in 0..blocks {
            own.push((format!("layer{stage}.{block}.conv1.weight"), zeros(&[8, 8, 1, 1])));
        }
    }
    let vit: Tensors =
        (0..300).map(|i| (format!("blocks.{i}.attn.qkv.weight"), zeros(&[3]))).collect();
    for (tensors, parts) in [
        (prefixed("model.", &own), &["`seresnext50_32x4d`", "`legacy_seresnext50_32x4d`"][..]),
        (vit, &["`blocks.0.attn.qkv.weight`", "of 300 tensors", "se_resnext50_32x4d"]),
    ] {
        let (_folder, file) = folder(&tensors);
        let message = text(&import(&file, &[]).code(65).get_output().stderr);
        for part in parts {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(message.len() < 2000 && message.lines().count() <= 10, "{message}");
    }
}

/// Sizes in the header that no memory has, and files that are no weights at all.
#[test]
fn absurd_headers_and_other_files_are_bad_data() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.safetensors");
    let named = |name: &str, shape: &str| {
        let entry = format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
        let header = format!(r#"{{"{name}":{entry}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    };
    let tensor = |shape: &str| named("head.fc2.weight", shape);
    for (bytes, what) in [
        (named("last_linear.weight", "[0,2048]"), "0 classes"),
        (named("layer0.conv1.weight", "[0,65,7,7]"), "65"),
        (named(&".".repeat(300_000), "[0]"), "in.safetensors"),
        (tensor("[4611686018427387904,0]"), "in.safetensors"),
        (tensor("[0,9223372036854775808]"), "in.safetensors"),
        (tensor("[0,4611686018427387904,4611686018427387904]"), "in.safetensors"),
        (u64::MAX.to_le_bytes().to_vec(), "safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git lfs pull"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "web page"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let message = text(&import(&file, &[]).code(65).get_output().stderr);
        assert!(message.contains(what) && message.contains("in.safetensors"), "{message}");
    }
}

#[test]
fn broken_files_and_inputs_of_the_wrong_shape_are_bad_data() {
    let (folder, file) = folder(&state_dict());
    let bytes = std::fs::read(&file).unwrap();
    let half = folder.path().join("half.safetensors");
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    assert!(text(&import(&half, &[]).code(65).get_output().stderr).contains("half.safetensors"));
    let none = folder.path().join("none.safetensors");
    let (file_arg, none_arg) = (file.to_str().unwrap(), none.to_str().unwrap());
    for (words, option) in [
        (["weights", "import", none_arg].as_slice(), "FILE"),
        (&["weights", "export", none_arg], "FILE"),
        (&["forward", "--weights", none_arg, "--input", file_arg], "--weights"),
        (&["forward", "--weights", file_arg, "--input", none_arg], "--input"),
    ] {
        let message =
            text(&atlas().args(words).args(["--output", "y"]).assert().code(2).get_output().stderr);
        assert!(message.contains(&format!("{option} {none_arg}: ")), "{message}");
    }
    for (name, shape) in [
        ("input", [1, 4, 64, 64]),
        ("input", [0, 3, 64, 64]),
        ("input", [1, 3, 16, 16]),
        ("image", [1, 3, 64, 64]),
    ] {
        let path = folder.path().join("x.safetensors");
        weights::write(
            &path,
            &[(name.into(), Tensor::zeros(shape, (tch::Kind::Float, Device::Cpu)))],
            &Metadata::new(),
        )
        .unwrap();
        let mut job = atlas();
        job.arg("forward")
            .arg("--weights")
            .arg(&file)
            .arg("--input")
            .arg(&path)
            .arg("--output")
            .arg(folder.path().join("y"));
        let message = text(&job.assert().code(65).get_output().stderr);
        assert!(message.contains("x.safetensors") && message.contains("`input`"), "{message}");
    }
}

/// Alone, within what training scripts leave, in both formats, as a whole module.
#[test]
fn files_of_torch_save_are_read_and_code_in_them_is_not_run() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch");
    let expected: serde_json::Value =
        serde_json::from_str(include_str!("golden/torch/expected.json")).unwrap();
    for (name, place) in [
        ("state.pth", ""),
        ("old.pth", ""),
        ("of_twenty_one_letters.pth", ""),
        ("mixed.pth", ""),
        ("nested.pt", "state_dict."),
        ("namespace.pth", "state_dict."),
        ("module.pth", "model."),
    ] {
        let (tensors, _) = weights::read(&golden.join(name)).unwrap();
        assert_eq!(tensors.len(), expected.as_object().unwrap().len(), "{name}");
        for (key, tensor) in tensors {
            let want = &expected[key.strip_prefix(place).unwrap()];
            assert_eq!(serde_json::json!(tensor.size()), want["size"], "{name}: {key}");
            let values: Vec<f64> =
                Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap();
            assert_eq!(serde_json::json!(values), want["values"], "{name}: {key}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, what) in
        [("state.pth", "`bfloat`"), ("beside_2.pth", "eight"), ("called.pth", "`posix.system`")]
    {
        let mut job = atlas();
        job.current_dir(&dir).args(["weights", "import"]);
        job.arg(golden.join(name)).args(["--output", "y"]);
        let message = text(&job.assert().code(65).get_output().stderr);
        assert!(message.contains(name) && message.contains(what), "{message}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}
