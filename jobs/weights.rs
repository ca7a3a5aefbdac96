//! `atlas weights`
use std::path::PathBuf;

use atlas::{
    config::{Head, Stem},
    weights::{self, Metadata, Weights},
};
use serde_json::json;
use tch::Device;

use crate::common::{Common, must_exist};

/// Bring weights in and out: state dicts of Cadene's and timm's SE-ResNeXt networks as safetensors
///
/// `import` reads a state dict and writes a file of ours, which says in its metadata what it is; `export` does the reverse.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas weights import se_resnext50_32x4d.safetensors --output work/imagenet.safetensors --channels 4")]
pub struct Args {
    #[command(subcommand)]
    way: Way,
}

#[derive(clap::Subcommand)]
enum Way {
    /// Read a state dict (names with or without `module.` or `model.`), check it, write a weight file of ours
    ///
    /// Channels, classes and head stay as they are in the file unless told otherwise. New channels get the mean of the others,
    /// rescaled so that activations keep their size; with another head or number of classes the head starts afresh.
    #[command(after_help = "Example: atlas weights import timm.safetensors --output work/imagenet.safetensors --channels 4 --classes 28")]
    Import(Import),
    /// Read a weight file of ours, write a state dict under timm's names
    #[command(after_help = "Example: atlas weights export work/imagenet.safetensors --output timm.safetensors")]
    Export(Files),
}

#[derive(clap::Args)]
struct Files {
    /// The safetensors file to read
    file: PathBuf,
    /// The safetensors file to write
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=64))]
    channels: Option<i64>,
    /// Classes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=100_000))]
    classes: Option<i64>,
    /// seed (average and max pooling, two layers) or linear (average pooling, one layer)
    #[arg(long, value_parser = setting::<Head>)]
    head: Option<Head>,
    /// seed (stride 3) or standard (stride 2); a file without metadata counts as standard
    #[arg(long, value_parser = setting::<Stem>)]
    stem: Option<Stem>,
}

fn setting<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.way {
        Way::Import(import) => import.run(),
        Way::Export(files) => files.export(),
    }
}

impl Import {
    fn run(self) -> anyhow::Result<()> {
        let Files { file, output, common } = &self.files;
        let config = common.config()?;
        must_exist("FILE", file)?;
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
        let text = format!(
            "{}: {what}, {} parameters\nnext: atlas train --set model.weights={}",
            output.display(),
            network.parameter_count(),
            output.display()
        );
        let json = json!({"output": output, "network": described, "parameters": network.parameter_count(), "notes": notes});
        common.print(text, json);
        Ok(())
    }
}

impl Files {
    fn export(self) -> anyhow::Result<()> {
        let Self { file, output, common } = &self;
        must_exist("FILE", file)?;
        let weights = Weights::open(file)?;
        let (network, _) = weights.network(weights.spec(), 0, false, Device::Cpu)?;
        let notes = weights::export(output, &network)?;
        let mut text = format!("{}: {} parameters under timm's names", output.display(), network.parameter_count());
        for note in &notes {
            text += &format!("\n{note}");
        }
        common.print(text, json!({"output": output, "network": weights::describe(network.spec()), "notes": notes}));
        Ok(())
    }
}
