//! Checks this machine, allocation and container before a job runs there: a list of checks, each
//! with what was found and, unless it is well, its fix. With several ranks all of them are checked,
//! and rank 0 has the list.

use self::{check::Check, ranks::RankFindings};
use crate::{
    base::{Error, Result},
    config::{self, Backend, Config},
    distributed::{self, World},
};

mod check;
mod container;
mod files;
mod gpus;
mod limits;
mod ranks;
mod report;
mod slurm;

pub use self::report::DoctorReport;

/// How long the start of MPI may take, and after it the checks of each rank, whose own limits are
/// lower.
const START_SECONDS: f64 = 120.0;

/// Runs all checks; collective where the ranks found each other, which then form the returned
/// world. Only one of all tasks has a report, also where they did not find each other.
///
/// # Errors
/// Where the connection between the ranks breaks.
pub fn examine(config: &Config) -> Result<(Option<DoctorReport>, Option<&'static World>)> {
    // NCCL is not started: a machine that lacks the GPU for it shall be reported, not be an error.
    let comm = config::Comm {
        backend: Backend::Mpi,
        start_timeout_seconds: START_SECONDS,
        timeout_seconds: START_SECONDS,
        ..config.comm.clone()
    };
    match distributed::start(&comm) {
        Ok(world) => {
            let checks = process_checks(config, world);
            let findings = RankFindings::new(config.comm.backend, world.local_rank, checks);
            let text = serde_json::to_string(&findings).expect("plain data");
            let all = world.gather_text(&text)?;
            if world.rank() > 0 {
                return Ok((None, Some(world)));
            }
            let all: Vec<RankFindings> =
                all.iter().map(|text| serde_json::from_str(text).expect("as written")).collect();
            Ok((Some(DoctorReport::new(ranks::joint_checks(&all))), Some(world)))
        }
        Err(e @ Error::Usage(_)) => {
            let report = (distributed::launched_rank() == 0).then(|| {
                let alone = process_checks(config, &World::alone());
                DoctorReport::new([ranks::not_connected(&e)].into_iter().chain(alone).collect())
            });
            Ok((report, None))
        }
        Err(e) => Err(e),
    }
}

/// The checks of this process and, in the first process of a machine, of the machine's folders.
fn process_checks(config: &Config, world: &World) -> Vec<Check> {
    let backend = config.comm.backend;
    let mut checks = gpus::checks(backend, world.size(), world.local_rank);
    checks.extend(limits::checks(
        &config.paths.work,
        config.threads,
        world,
        gpus::are_used(backend),
    ));
    checks.extend([container::check(gpus::have_driver()), slurm::check()]);
    if world.local_rank == 0 {
        checks.extend(files::checks(&config.paths, &config.data, config.preprocess.size));
    }
    checks
}
