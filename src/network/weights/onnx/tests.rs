use std::collections::BTreeSet;

use tch::Device;

use super::*;
use crate::network::model::{ARCHS, Spec};

/// The values are compared with those of ONNX Runtime in tests/weights/export.rs.
#[test]
fn every_value_is_made_once_before_it_is_used_and_every_constant_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.onnx");
    let methods = [
        None,
        Some(Normalization::unit()),
        Some(Normalization { method: Normalize::Image, mean: [0.0; 4], std: [1.0; 4] }),
    ];
    for (arch, method) in ARCHS.iter().skip(2).zip(methods.iter().cycle()) {
        for (stem, head) in [(Stem::Seed, Head::Linear), (Stem::Standard, Head::Seed)] {
            let spec =
                Spec { arch: arch.name.into(), stem, head, channels: 4, classes: 28, dropout: 0.0 };
            let network = Network::new(&spec, 1, false, Device::Cpu).unwrap();
            write(&path, &network, method.as_ref(), &Metadata::from([("run".into(), "é".into())]))
                .unwrap();
            let model = Model::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
            let graph = model.graph.unwrap();
            let tensors: BTreeMap<_, _> = network.named_tensors().into_iter().collect();
            let own = graph.initializer.iter().filter(|c| !c.name.starts_with("normalization."));
            for constant in own {
                let tensor = &tensors[&constant.name];
                let is_same = with_bytes(tensor, |b| b == constant.raw_data);
                assert!(constant.dims == tensor.size() && is_same, "{}", constant.name);
            }
            let constants: BTreeSet<&str> =
                graph.initializer.iter().map(|c| c.name.as_str()).collect();
            assert!(tensors.keys().all(|name| constants.contains(name.as_str())));
            let (mut made, mut used) = (BTreeSet::from(["image"]), BTreeSet::new());
            for node in &graph.node {
                for input in node.input.iter().map(String::as_str) {
                    let is_there = made.contains(input) || constants.contains(input);
                    assert!(is_there, "{} takes {input}", node.name);
                    used.insert(input);
                }
                let are_new = node.output.iter().all(|output| made.insert(output));
                assert!(are_new, "{} gives what is there", node.name);
            }
            assert!(constants.is_subset(&used) && made.contains("logits"));
            let convolutions = graph.node.iter().filter(|n| n.op_type == "Conv").count();
            let kernels = tensors.values().filter(|t| t.dim() == 4).count();
            assert_eq!(convolutions, kernels);
            let entry = |key: &str| {
                model.metadata_props.iter().find(|e| e.key == key).map(|e| e.value.as_str())
            };
            assert_eq!((entry("arch"), entry("run")), (Some(arch.name), Some("é")));
        }
    }
}
