//! `atlas forward`
use std::path::PathBuf;

use atlas::{
    base::Error,
    distributed::device,
    network::{
        model::{ComputeMode, Mode},
        weights::{self, Metadata, Weights},
    },
};
use serde_json::json;
use tch::Kind;

use crate::common::{Common, must_exist};

/// Run a network on tensors: reads `input` [n, c, h, w] from a safetensors file, writes `logits`
/// [n, classes]
///
/// For parity with other frameworks. Precision and layout are those of train.precision and
/// train.layout; `auto` is f32 and nhwc here.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas forward --weights work/imagenet.safetensors --input \
        images.safetensors --output logits.safetensors")]
pub struct Args {
    /// A weight file of ours or a state dict of timm's
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// A safetensors file with the tensor `input`
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let device = device::choose(config.comm.backend, 0)?;
    device::set_up_cpu(config.threads());
    must_exist("--weights", &args.weights)?;
    must_exist("--input", &args.input)?;
    let weights = Weights::open(&args.weights)?;
    let spec = weights.spec();
    let (mut tensors, _) = weights::read(&args.input)?;
    let input = tensors.remove("input").ok_or_else(|| {
        let there = tensors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Error::data(&args.input, format!("no tensor is called `input`; there are: {there}"))
    })?;
    match input.size()[..] {
        [n, c, h, w] if c == spec.channels && n > 0 && h >= 32 && w >= 32 => {}
        ref shape => {
            let want = format!("[n, {}, h, w] with sides of at least 32", spec.channels);
            return Err(Error::data(
                &args.input,
                format!("`input` has the shape {shape:?}, expected {want}"),
            )
            .into());
        }
    }
    let compute_mode = ComputeMode::of(&config.train, ComputeMode::PREFERRED);
    let (network, _) = weights.network(spec, 0, compute_mode.channels_last, device)?;
    let logits = network.forward(
        &input.to_device(device).to_kind(Kind::Float),
        Mode::Eval,
        compute_mode.precision,
    );
    let shape = logits.size();
    weights::write(&args.output, &[("logits".into(), logits)], &Metadata::new())?;
    args.common.print(
        format!("{}: logits {shape:?}", args.output.display()),
        json!({"output": args.output, "shape": shape}),
    );
    Ok(())
}
