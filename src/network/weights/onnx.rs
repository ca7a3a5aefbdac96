//! A network as an ONNX file of standard operators, with timm's names, for ONNX Runtime and other
//! programs.

mod proto;

use std::{collections::BTreeMap, path::Path};

use prost::Message;
use tch::{Kind, Tensor};

use self::proto::{
    Attribute, Constant, DOUBLE, Dimension, Entry, FLOAT, Graph, GraphValue, INT64, Model, Node,
    OperatorSet, Shape, TensorType, Type,
};
use super::{
    description::describe,
    file::{Metadata, with_bytes},
};
use crate::{
    base::{Result, atomic_file},
    config::{Head, Normalize, Stem},
    loading::normalization::Normalization,
    network::model::{Arch, EPS, Network},
};

/// Operator set 22 and its file version: ONNX 1.17, ONNX Runtime from 1.20 on.
const OPSET: i64 = 22;
const IR_VERSION: i64 = 10;

/// Writes a network, completely or not at all: input `image` f32 `[n, channels, h, w]`, output
/// `logits` f32 `[n, classes]`, with any `n`, `h` and `w` (from 32 pixels on). A `normalization`
/// becomes part of the graph, which then takes pixel values, 0 to 255; without one it takes
/// normalised images, as in training. `more` is added to the metadata, which describe the network.
///
/// # Errors
/// Io, if the file cannot be written.
pub fn write(
    path: &Path,
    network: &Network,
    normalization: Option<&Normalization>,
    more: &Metadata,
) -> Result<()> {
    let mut builder =
        GraphBuilder { nodes: Vec::new(), tensors: network.named_tensors().into_iter().collect() };
    let x = match normalization {
        Some(normalization) => builder.normalized("image", normalization),
        None => "image".into(),
    };
    let spec = network.spec();
    let arch = Arch::find(&spec.arch).expect("a network has a known architecture");
    let features = builder.features(x, arch, spec.stem);
    builder.head(&features, spec.head);
    let GraphBuilder { nodes, tensors } = builder;
    let initializer = tensors.into_iter().map(|(name, tensor)| constant(name, &tensor)).collect();
    let takes = match normalization {
        Some(_) => "pixel values, 0 to 255; normalised inside",
        None => "normalised as in training",
    };
    let any = |name: &str| Dimension { dim_value: None, dim_param: Some(name.into()) };
    let fixed = |n| Dimension { dim_value: Some(n), dim_param: None };
    let image = vec![any("n"), fixed(spec.channels), any("h"), any("w")];
    let (logits, gives) =
        (vec![any("n"), fixed(spec.classes)], "sigmoid gives the probability of each class");
    let graph = Graph {
        node: nodes,
        name: spec.arch.clone(),
        initializer,
        input: vec![value("image", image, takes)],
        output: vec![value("logits", logits, gives)],
    };
    let mut metadata = describe(spec);
    metadata.extend(more.clone());
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "atlas".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { version: OPSET }],
        metadata_props: metadata.into_iter().map(|(key, value)| Entry { key, value }).collect(),
    };
    atomic_file::write(path, model.encode_to_vec())
}

fn constant(name: String, tensor: &Tensor) -> Constant {
    let data_type = match tensor.kind() {
        Kind::Int64 => INT64,
        Kind::Double => DOUBLE,
        _ => FLOAT, // the network's own
    };
    Constant { dims: tensor.size(), data_type, name, raw_data: with_bytes(tensor, <[u8]>::to_vec) }
}

fn value(name: &str, dim: Vec<Dimension>, doc: &str) -> GraphValue {
    let tensor = TensorType { elem_type: FLOAT, shape: Some(Shape { dim }) };
    GraphValue {
        name: name.into(),
        r#type: Some(Type { tensor_type: Some(tensor) }),
        doc_string: doc.into(),
    }
}

/// The graph so far. The methods take and return names of values.
struct GraphBuilder {
    nodes: Vec<Node>,
    /// The constants by name, initially those of the network.
    tensors: BTreeMap<String, Tensor>,
}

impl GraphBuilder {
    /// Adds an operator with one output, and returns the name of that.
    fn op(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        let name = format!("{op}_{}", self.nodes.len());
        self.nodes.push(Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.into(),
            attribute: attributes.into(),
        });
        name
    }

    /// As [`Normalization::apply`], which documents the formulas.
    fn normalized(&mut self, x: &str, normalization: &Normalization) -> String {
        match normalization.method {
            Normalize::Unit | Normalize::Dataset => {
                let row = |values: [f64; 4]| {
                    Tensor::from_slice(&values).to_kind(Kind::Float).view([1, -1, 1, 1])
                };
                self.tensors.insert("normalization.mean".into(), row(normalization.mean));
                self.tensors.insert("normalization.std".into(), row(normalization.std));
                let centred = self.op("Sub", &[x, "normalization.mean"], &[]);
                self.op("Div", &[&centred, "normalization.std"], &[])
            }
            Normalize::Image => {
                // In f64: ONNX Runtime sums the pixels of an f32 image one by one, with an error of
                // 1e-4.
                let (axes, least) = (Tensor::from_slice(&[2i64, 3]), Tensor::from_slice(&[1f64]));
                self.tensors.extend([
                    ("normalization.axes".into(), axes),
                    ("normalization.least".into(), least),
                ]);
                let wide = self.op("Cast", &[x], &[Attribute::int("to", DOUBLE.into())]);
                let mean = self.op("ReduceMean", &[&wide, "normalization.axes"], &[]);
                let centred = self.op("Sub", &[&wide, &mean], &[]);
                let square = self.op("Mul", &[&centred, &centred], &[]);
                let variance = self.op("ReduceMean", &[&square, "normalization.axes"], &[]);
                let std = self.op("Sqrt", &[&variance], &[]);
                let std = self.op("Max", &[&std, "normalization.least"], &[]);
                let out = self.op("Div", &[&centred, &std], &[]);
                self.op("Cast", &[&out], &[Attribute::int("to", FLOAT.into())])
            }
        }
    }

    fn conv(&mut self, x: &str, name: &str, stride: i64, groups: i64) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let side = self.tensors[&weight].size()[2];
        let attributes = [
            Attribute::ints("kernel_shape", &[side; 2]),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[side / 2; 4]),
            Attribute::int("group", groups),
        ];
        match self.tensors.contains_key(&bias) {
            true => self.op("Conv", &[x, &weight, &bias], &attributes),
            false => self.op("Conv", &[x, &weight], &attributes),
        }
    }

    fn norm(&mut self, x: &str, name: &str) -> String {
        let [weight, bias, mean, var] =
            ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{name}.{part}"));
        let inputs: [&str; 5] = [x, &weight, &bias, &mean, &var];
        self.op("BatchNormalization", &inputs, &[Attribute::float("epsilon", EPS as f32)])
    }

    fn relu(&mut self, x: &str) -> String {
        self.op("Relu", &[x], &[])
    }

    fn linear(&mut self, x: &str, name: &str) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.op("Gemm", &[x, &weight, &bias], &[Attribute::int("transB", 1)])
    }

    /// The last feature maps.
    fn features(&mut self, x: String, arch: &Arch, stem: Stem) -> String {
        let x = self.conv(&x, "layer0.conv1", stem.stride(), 1);
        let x = self.norm(&x, "layer0.bn1");
        let x = self.relu(&x);
        let pool = [
            Attribute::ints("kernel_shape", &[3; 2]),
            Attribute::ints("strides", &[2; 2]),
            Attribute::int("ceil_mode", 1),
        ];
        let mut x = self.op("MaxPool", &[&x], &pool);
        for (stage, &count) in arch.blocks.iter().enumerate() {
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                x = self.bottleneck(&x, &format!("layer{}.{i}", stage + 1), stride, arch.groups);
            }
        }
        x
    }

    fn bottleneck(&mut self, x: &str, name: &str, stride: i64, groups: i64) -> String {
        let mut out = x.to_string();
        for (n, stride, groups) in [(1, 1, 1), (2, stride, groups), (3, 1, 1)] {
            out = self.conv(&out, &format!("{name}.conv{n}"), stride, groups);
            out = self.norm(&out, &format!("{name}.bn{n}"));
            if n < 3 {
                out = self.relu(&out);
            }
        }
        let gate = self.op("GlobalAveragePool", &[&out], &[]);
        let gate = self.conv(&gate, &format!("{name}.se_module.fc1"), 1, 1);
        let gate = self.relu(&gate);
        let gate = self.conv(&gate, &format!("{name}.se_module.fc2"), 1, 1);
        let gate = self.op("Sigmoid", &[&gate], &[]);
        let gated = self.op("Mul", &[&out, &gate], &[]);
        let shortcut = match self.tensors.contains_key(&format!("{name}.downsample.0.weight")) {
            true => {
                let down = self.conv(x, &format!("{name}.downsample.0"), stride, 1);
                self.norm(&down, &format!("{name}.downsample.1"))
            }
            false => x.to_string(),
        };
        let sum = self.op("Add", &[&gated, &shortcut], &[]);
        self.relu(&sum)
    }

    /// Its last value is `logits`.
    fn head(&mut self, x: &str, head: Head) {
        let average = self.op("GlobalAveragePool", &[x], &[]);
        match head {
            Head::Linear => {
                let x = self.op("Flatten", &[&average], &[]);
                self.linear(&x, "last_linear");
            }
            Head::Seed => {
                let most = self.op("GlobalMaxPool", &[x], &[]);
                let x = self.op("Concat", &[&average, &most], &[Attribute::int("axis", 1)]);
                let x = self.op("Flatten", &[&x], &[]);
                let x = self.norm(&x, "head.bn1");
                let x = self.linear(&x, "head.fc1");
                let x = self.relu(&x);
                let x = self.norm(&x, "head.bn2");
                self.linear(&x, "head.fc2");
            }
        }
        self.nodes.last_mut().expect("the head's last layer").output = vec!["logits".into()];
    }
}

#[cfg(test)]
mod tests;
