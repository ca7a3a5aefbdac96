//! `atlas config`
use crate::common::{Common, end_with_the_reader};

/// Print the effective configuration, complete, as TOML
#[derive(clap::Args)]
#[command(after_help = "Example: atlas config --config configs/atlas.toml --set train.epochs=2")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    end_with_the_reader();
    let config = args.common.config()?;
    args.common.print(config.to_toml().trim_end(), serde_json::to_value(&config)?);
    Ok(())
}
