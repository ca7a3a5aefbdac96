//! `atlas weights`
use std::path::PathBuf;

use atlas::{
    base::{Error, advice, atomic_file, thrown},
    config::{Head, Stem},
    network::{
        model::{CHANNELS, CLASS_COUNT},
        weights::{self, Metadata, Weights},
    },
    views::model_card::{self, Card, Format},
};
use serde_json::json;
use tch::Device;

use crate::common::{Common, must_exist, must_not_replace};

/// Import and export weights: state dicts of Cadene's and timm's SE-ResNeXt networks, ONNX
///
/// `import` reads a state dict and writes a weight file of this program, which describes its
/// network in its metadata; `export` writes a network for other programs.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas weights import se_resnext50_32x4d.safetensors --output \
        work/imagenet.safetensors --channels 4")]
pub struct Args {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(clap::Subcommand)]
enum Direction {
    /// Read a state dict, check it, write a weight file of this program
    ///
    /// The state dict is a safetensors file, or a file of torch.save (.pth, .pt, .ckpt): alone, or
    /// within a checkpoint of timm's train.py, Lightning or another script, and with any prefix
    /// before the names. Only tensors are read; no code in the file is run. Of several networks in
    /// a file, averaged weights (such as `state_dict_ema`) are taken before others, and a warning
    /// says so. A network that does not fit, and NaN or infinite weights, are refused.
    /// Channels, classes and head stay as they are in the file unless an option changes them. New
    /// channels get the mean of the others, rescaled so that activations keep their size; with
    /// another head or number of classes the head is initialised anew.
    #[command(
        after_help = "Example: atlas weights import timm.pth --output work/imagenet.safetensors \
            --channels 4 --classes 28"
    )]
    Import(Import),
    /// Read a weight file or a checkpoint, write X.onnx or X.safetensors for other programs, and
    /// its model card X.md
    ///
    /// X.safetensors is a state dict under timm's names. X.onnx takes `image` f32 [n, channels, h,
    /// w] and returns `logits` f32 [n, classes], for any n, h and w. Where FILE records how images
    /// were normalised (a checkpoint, or an X.safetensors exported from one), the graph normalises
    /// and takes pixel values (0 to 255, channels red, green, blue, yellow); else it takes
    /// normalised images. Both contain the card in their metadata: classes, channels,
    /// normalisation, and, if the file is in a run's folder, its thresholds, scores, data and
    /// provenance.
    #[command(after_help = "Example: atlas weights export \
            work/demo/results/latest/fold_0/model_checkpoints/best.safetensors \
            --output atlas.onnx")]
    Export(Files),
}

#[derive(clap::Args)]
struct Files {
    /// The weight file to read
    file: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Import {
    #[command(flatten)]
    files: Files,
    /// Input channels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(CHANNELS))]
    channels: Option<i64>,
    /// Classes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(CLASS_COUNT))]
    classes: Option<i64>,
    /// Classifier: seed (average and max pooling, two layers) or linear (average pooling, one
    /// layer)
    #[arg(long, value_parser = setting::<Head>)]
    head: Option<Head>,
    /// First layers: seed (stride 3) or standard (stride 2); a file without metadata counts as
    /// standard
    #[arg(long, value_parser = setting::<Stem>)]
    stem: Option<Stem>,
}

fn setting<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

pub fn run(args: Args) -> anyhow::Result<()> {
    thrown::catch(&thrown::WEIGHTS, || match args.direction {
        Direction::Import(import) => import.run(),
        Direction::Export(files) => files.export(),
    })
}

impl Import {
    fn run(self) -> anyhow::Result<()> {
        let Files { file, output, common } = &self.files;
        let config = common.config()?;
        must_exist("FILE", file)?;
        let output = &common.output("--output", output)?;
        must_not_replace("--output", output, file)?;
        let weights = Weights::open(file)?;
        let mut spec = weights.spec().clone();
        spec.channels = self.channels.unwrap_or(spec.channels);
        spec.classes = self.classes.unwrap_or(spec.classes);
        spec.head = self.head.unwrap_or(spec.head);
        spec.stem = self.stem.unwrap_or(spec.stem);
        let (network, notes) = weights.network(&spec, config.train.seed, false, Device::Cpu)?;
        for note in &notes {
            log::warn!("{note}");
        }
        weights::save(output, &network, &Metadata::new())?;
        let described = weights::describe(&spec);
        let what = described.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
        let mut text =
            format!("{}: {what}, {} parameters", output.display(), network.parameter_count());
        if output.is_file() {
            let set = format!("model.weights={}", output.display());
            text += &format!("\nnext: `atlas train --fold 0 --set {}`", advice::quoted(set));
        }
        let json = json!({
            "output": output.display().to_string(), "network": described,
            "parameters": network.parameter_count(),
            "notes": notes,
        });
        Ok(common.print_beside(output, text, json)?)
    }
}

impl Files {
    fn export(self) -> anyhow::Result<()> {
        let Self { file, output, common } = &self;
        must_exist("FILE", file)?;
        let format = match output.extension().and_then(|e| e.to_str()) {
            Some("onnx") => Format::Onnx,
            Some("safetensors") => Format::Safetensors,
            _ => {
                return Err(Error::usage(format!(
                    "--output {}: expected a name that ends in .onnx or .safetensors",
                    output.display()
                ))
                .into());
            }
        };
        let output = &common.output("--output", output)?;
        must_not_replace("--output", output, file)?;
        let weights = Weights::open(file)?;
        let (network, _) = weights.network(weights.spec(), 0, false, Device::Cpu)?;
        let card = Card::of(file, &weights)?;
        let normalization = weights.normalization()?;
        let notes = match format {
            Format::Onnx => {
                weights::onnx::write(output, &network, normalization.as_ref(), &card.metadata())
                    .map(|()| Vec::new())?
            }
            Format::Safetensors => weights::export(output, &network, &card.metadata())?,
        };
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        let page = output.with_extension("md");
        atomic_file::write(&page, model_card::markdown(&card, &name, format, &notes))?;
        let mut text = format!(
            "{}: {} parameters, described in {}",
            output.display(),
            network.parameter_count(),
            page.display()
        );
        for note in &notes {
            text += &format!("\n{note}");
        }
        let network = weights::describe(network.spec());
        common.print(
            text,
            json!({
                "output": output.display().to_string(), "card": page.display().to_string(),
                "network": network, "notes": notes,
            }),
        )?;
        Ok(())
    }
}
