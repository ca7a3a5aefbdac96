//! `atlas doctor`
use atlas::{base::Error, operations::doctor};

use crate::common::Common;

/// Check this machine, allocation and container: what was found, and a fix for each problem
///
/// Checks MPI, the ranks and their cores, GPUs and their libraries, limits, the container, Slurm,
/// and the folders that the configuration names; keeps no file. Under srun or mpirun it checks all
/// ranks, and rank 0 prints.
///
/// Exit code 0 also where there are warnings; 2 where a check failed.
#[derive(clap::Args)]
#[command(after_help = "Example: srun --mpi=pmix atlas doctor --config configs/atlas.toml")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let (report, world) = doctor::examine(&config)?;
    let result = match &report {
        Some(report) => {
            // The other ranks wait for the result, also where nobody reads the report.
            let printed = args.common.print(report, serde_json::to_value(report)?);
            printed.and_then(|()| match report.failed()[..] {
                [] => Ok(()),
                ref failed => {
                    Err(Error::usage(format!("failed: {}; see the fix there", failed.join(", "))))
                }
            })
        }
        // Where the tasks did not find each other, task 0 reports it.
        None if world.is_none() => Err(Error::Elsewhere(2)),
        None => Ok(()),
    };
    let Some(world) = world.filter(|world| world.size() > 1) else { return Ok(result?) };
    let result = world.agree(result);
    world.leave();
    Ok(result?)
}
