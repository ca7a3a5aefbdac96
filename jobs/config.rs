//! `atlas config`
use atlas::base::Error;

use crate::common::{Common, say};

/// Print the effective configuration, complete, as TOML
#[derive(clap::Args)]
#[command(after_help = "Example: atlas config --config configs/atlas.toml --set train.epochs=2")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Print only the value of one key, for scripts
    #[arg(long, value_name = "KEY", conflicts_with = "json")]
    get: Option<String>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    if let Some(key) = args.get {
        let value = config.leaves().remove(&key);
        let value = value.ok_or_else(|| {
            Error::usage(format!(
                "--get {key}: no such key, or it has no value; `atlas config` lists all"
            ))
        })?;
        return Ok(say(value.as_str().map_or_else(|| value.to_string(), str::to_string))?);
    }
    args.common.print(config.to_toml().trim_end(), serde_json::to_value(&config)?)?;
    Ok(())
}
