//! `atlas completions`
use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, common::say};

/// Print a script that completes subcommands and options in a shell
///
/// Writes to standard output; where the script belongs depends on the shell.
#[derive(clap::Args)]
#[command(after_help = "Example: atlas completions bash > \
        ~/.local/share/bash-completion/completions/atlas")]
pub struct Args {
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let mut script = Vec::new(); // the generator panics where it cannot write
    clap_complete::generate(args.shell, &mut Cli::command(), "atlas", &mut script);
    Ok(say(String::from_utf8_lossy(&script).trim_end())?)
}
