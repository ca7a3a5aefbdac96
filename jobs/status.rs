//! `atlas status`

use std::{
    io::{IsTerminal, Write},
    thread,
    time::Duration,
};

use atlas::{
    data::work_folder::WorkFolder,
    operations::status::{self, PipelineStatus},
};

use crate::common::{Common, say};

/// Show the status of a pipeline: tasks done, running, waiting, failed and missing, and what went
/// wrong
///
/// Reads paths.work and the run's folder and, where there is a Slurm, asks squeue and sacct. A task
/// is done if its files are there and up to date; `failed` are the tasks that ended with an error
/// or were killed, `missing` those that no job is to do.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  atlas status --config configs/atlas.toml --watch\n  atlas status \
        --missing        what is not done yet, as sbatch's --array takes it"
)]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Show it again every 5 seconds until all is done
    #[arg(long, conflicts_with_all = ["json", "missing"])]
    watch: bool,
    /// Print what is not done yet, a line `step tasks` each, for scripts
    #[arg(long, conflicts_with = "json")]
    missing: bool,
    #[command(flatten)]
    common: Common,
}

/// Between two tables of `--watch`.
const INTERVAL: Duration = Duration::from_secs(5);

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    loop {
        let work = &WorkFolder::of(&config); // anew: the jobs change it
        let run = status::find_run(&config, work, args.run.as_deref())?;
        if args.missing {
            for (step, tasks) in status::missing(&config, work, run.as_ref()) {
                say(format!("{step} {tasks}"))?;
            }
            return Ok(());
        }
        let status = PipelineStatus::read(&config, work, run.as_ref());
        if args.watch && std::io::stdout().is_terminal() {
            // To the top of an empty screen; an error recurs below.
            let _ = std::io::stdout().write_all(b"\x1b[H\x1b[2J");
        }
        args.common.print(status.to_string().trim_end(), serde_json::to_value(&status)?)?;
        if !args.watch || status.finished {
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
}
