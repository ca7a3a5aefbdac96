//! `atlas man`
use std::{fs, path::PathBuf};

use atlas::base::Error;
use clap::CommandFactory;

use crate::{Cli, common::say};

/// Write the manual pages of this program
///
/// Writes atlas.1 and a page per subcommand, such as atlas-train.1, to FOLDER, which is created if
/// it does not exist.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas man ~/.local/share/man/man1 && man atlas-train")]
pub struct Args {
    /// The folder to write to
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let folder = &args.folder;
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(Error::io("write to", folder))?;
    Ok(say(format!("wrote {}", folder.join("atlas.1").display()))?)
}
