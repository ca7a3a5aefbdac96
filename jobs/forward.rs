//! `atlas forward`
use std::path::{Path, PathBuf};

use atlas::{
    base::{Error, Result, thrown},
    distributed::device,
    network::{
        model::{ComputeMode, Mode},
        weights::{self, Metadata, Weights},
    },
};
use serde_json::json;
use tch::{Kind, Tensor};

use crate::common::{Common, must_exist, must_not_replace};

/// Run a network on tensors: reads `input` [n, c, h, w] from a safetensors file, writes `logits`
/// [n, classes]
///
/// For comparisons with other frameworks. Precision and layout are those of train.precision and
/// train.layout; `auto` means f32 and nhwc here.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas forward --weights work/imagenet.safetensors --input \
        images.safetensors --output logits.safetensors")]
pub struct Args {
    /// A weight file of this program or a state dict of timm's
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// A safetensors file with the tensor `input`
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The safetensors file to write; `-`: to standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let device = device::choose(config.comm.backend, 0)?;
    device::set_up_cpu(config.threads())?;
    must_exist("--weights", &args.weights)?;
    must_exist("--input", &args.input)?;
    let weights = thrown::catch(&thrown::WEIGHTS, || Weights::open(&args.weights))?;
    let spec = weights.spec();
    let input = read_input(&args.input, spec.channels)?;
    let output = args.common.output("--output", &args.output)?;
    must_not_replace("--output", &output, &args.weights)?;
    must_not_replace("--output", &output, &args.input)?;
    let compute_mode = ComputeMode::of(&config.train, ComputeMode::PREFERRED);
    let logits = thrown::catch(&thrown::FORWARD, || -> Result<Tensor> {
        let (network, _) = weights.network(spec, 0, compute_mode.channels_last, device)?;
        let input = input.to_device(device).to_kind(Kind::Float);
        Ok(network.forward(&input, Mode::Eval, compute_mode.precision))
    })?;
    let shape = logits.size();
    weights::write(&output, &[("logits".into(), logits)], &Metadata::new())?;
    Ok(args.common.print_beside(
        &output,
        format!("{}: logits {shape:?}", output.display()),
        json!({ "output": output.display().to_string(), "shape": shape }),
    )?)
}

/// The tensor `input`, `[n, channels, h, w]`.
fn read_input(path: &Path, channels: i64) -> Result<Tensor> {
    let (mut tensors, _) = weights::read(path)?;
    let input = tensors.remove("input").ok_or_else(|| {
        let present = tensors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Error::data(path, format!("no tensor is called `input`; there are: {present}"))
    })?;
    match input.size()[..] {
        [n, c, h, w] if c == channels && n > 0 && h >= 32 && w >= 32 => Ok(input),
        ref shape => {
            let what = format!(
                "`input` has the shape {shape:?}, expected [n, {channels}, h, w] with sides of at \
                 least 32"
            );
            Err(Error::data(path, what))
        }
    }
}
