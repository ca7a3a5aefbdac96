//! `atlas completions`
use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, common::end_with_the_reader};

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
    end_with_the_reader();
    clap_complete::generate(args.shell, &mut Cli::command(), "atlas", &mut std::io::stdout());
    Ok(())
}
