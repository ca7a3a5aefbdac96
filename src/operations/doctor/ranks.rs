//! The ranks: whether they found each other, where they run, and whether two of them share a GPU or
//! a core.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    check::{Check, variable},
    gpus,
};
use crate::{
    base::{Error, host, slurm},
    config::Backend,
    distributed::{self, device},
    operations::ranges::ranges,
};

/// What one rank found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RankFindings {
    host: String,
    /// Numbers of the cores that it may use.
    cores: Vec<usize>,
    /// The GPU that it would train on.
    gpu: Option<String>,
    checks: Vec<Check>,
}

impl RankFindings {
    pub fn new(backend: Backend, local_rank: usize, checks: Vec<Check>) -> Self {
        Self {
            host: host::name(),
            cores: device::affinity(),
            gpu: gpus::of_rank(backend, local_rank),
            checks,
        }
    }

    fn row(&self, rank: usize) -> Check {
        let gpu = self.gpu.as_deref().unwrap_or("no GPU");
        let cores =
            if self.cores.len() == 1 { "1 core" } else { &format!("{} cores", self.cores.len()) };
        Check::ok(
            format!("rank {rank}"),
            format!("{}, {cores} ({}), {gpu}", self.host, ranges(self.cores.iter().copied())),
        )
    }
}

/// The launched tasks did not find each other.
pub(super) fn not_connected(e: &Error) -> Check {
    let text = e.to_string();
    match text.split_once(". ") {
        Some((found, fix)) => Check::fail("MPI", found, fix),
        None => Check::fail(
            "MPI",
            text,
            "load, or build atlas with, an MPI library that fits the launcher",
        ),
    }
}

/// The checks of all ranks together.
pub(super) fn joint_checks(all: &[RankFindings]) -> Vec<Check> {
    let mut checks = vec![mpi(all.len()), launcher(all.len()), sharing(all)];
    checks.extend(all.iter().enumerate().map(|(rank, here)| here.row(rank)));
    checks.extend(merged(all));
    checks
}

fn mpi(ranks: usize) -> Check {
    let library = distributed::library();
    if ranks > 1 {
        return Check::ok("MPI", format!("{library}; {ranks} ranks found each other"));
    }
    match slurm::tasks() {
        Some(tasks) if tasks > 1 => Check::warning(
            "MPI",
            format!("{library}; one process, though the allocation is of {tasks} tasks"),
            "to check all of them, put `srun --mpi=pmix` before `atlas doctor`",
        ),
        _ => Check::ok("MPI", format!("{library}; one process without others, which needs none")),
    }
}

fn launcher(ranks: usize) -> Check {
    let kinds =
        [("OMPI_COMM_WORLD_RANK", "Open MPI's mpirun"), ("PMIX_RANK", "PMIx"), ("PMI_RANK", "PMI")];
    let Some((name, kind)) = kinds.iter().find(|(name, _)| variable(name).is_some()) else {
        return Check::ok("PMI", "none: no launcher");
    };
    // mpirun inside an allocation may start fewer than there are tasks for.
    match slurm::tasks() {
        Some(tasks) if tasks != ranks => Check::warning(
            "PMI",
            format!("{kind} ({name}); {ranks} ranks, though the allocation is of {tasks} tasks"),
            format!("start {tasks}: srun --mpi=pmix without --ntasks, or mpirun -n {tasks}"),
        ),
        _ => Check::ok("PMI", format!("{kind} ({name})")),
    }
}

/// How the ranks are distributed over machines, and what two of them share.
fn sharing(all: &[RankFindings]) -> Check {
    let mut hosts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut gpus: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (rank, here) in all.iter().enumerate() {
        hosts.entry(&here.host).or_default().push(rank);
        if let Some(gpu) = &here.gpu {
            gpus.entry((&here.host, gpu)).or_default().push(rank);
        }
    }
    let list: Vec<String> = hosts
        .iter()
        .map(|(host, ranks)| format!("{} on {host}", ranges(ranks.iter().copied())))
        .collect();
    let found = format!("{} in all: {}", all.len(), list.join("; "));
    if let Some(((host, gpu), ranks)) = gpus.iter().find(|(_, ranks)| ranks.len() > 1) {
        return Check::fail(
            "ranks",
            format!("{found}; {} on {host} share {gpu}", ranges(ranks.iter().copied())),
            "one task per GPU: --ntasks-per-node as large as N in --gres=gpu:N, and no \
                --gpus-per-task",
        );
    }
    let crowded = hosts.iter().find_map(|(host, ranks)| {
        let cores: HashSet<usize> =
            ranks.iter().flat_map(|&rank| all[rank].cores.iter().copied()).collect();
        (cores.len() < ranks.len()).then(|| {
            format!(
                "{found}; {} on {host} have {} cores together",
                ranges(ranks.iter().copied()),
                cores.len()
            )
        })
    });
    match crowded {
        Some(found) => Check::warning(
            "ranks",
            found,
            "fewer ranks, more cores (--cpus-per-task), or, if mpirun bound them, mpirun --bind-to \
                none",
        ),
        None => Check::ok("ranks", found),
    }
}

/// The checks that each rank did for itself: one line where all ranks that did it agree.
fn merged(all: &[RankFindings]) -> Vec<Check> {
    let mut names: Vec<&str> = Vec::new();
    for check in all.iter().flat_map(|here| &here.checks) {
        if !names.contains(&check.name.as_str()) {
            names.push(&check.name);
        }
    }
    let merge = |name: &str| {
        let mut different: Vec<(&Check, Vec<usize>)> = Vec::new();
        for (rank, here) in all.iter().enumerate() {
            for check in here.checks.iter().filter(|c| c.name == name) {
                match different.iter_mut().find(|(known, _)| *known == check) {
                    Some((_, ranks)) => ranks.push(rank),
                    None => different.push((check, vec![rank])),
                }
            }
        }
        if let [(check, _)] = different[..] {
            return check.clone();
        }
        // The worst first; those of the same state in the order of their ranks.
        different.sort_by_key(|(check, _)| std::cmp::Reverse(check.state));
        let found: Vec<String> = different
            .iter()
            .map(|(check, ranks)| {
                format!("rank {}: {}", ranges(ranks.iter().copied()), check.found)
            })
            .collect();
        let (worst, _) = different[0];
        Check { found: found.join("; "), ..worst.clone() }
    };
    names.into_iter().map(merge).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::check::CheckState, *};

    fn rank(host: &str, cores: &[usize], gpu: Option<&str>, check: Check) -> RankFindings {
        RankFindings {
            host: host.into(),
            cores: cores.into(),
            gpu: gpu.map(String::from),
            checks: vec![check],
        }
    }

    #[test]
    fn ranks_that_share_a_gpu_or_a_core_are_reported() {
        let well = || Check::ok("x", "");
        let on_one = |gpus: [&str; 2], cores: [usize; 2]| {
            sharing(&[0, 1].map(|i| rank("n1", &[cores[i]], Some(gpus[i]), well())))
        };
        assert_eq!(on_one(["A", "B"], [0, 1]).state, CheckState::Ok);
        let shared = on_one(["A", "A"], [0, 1]);
        assert!(
            shared.state == CheckState::Fail
                && ["0-1 on n1", " A"].iter().all(|part| shared.found.contains(part)),
            "{shared:?}"
        );
        assert_eq!(on_one(["A", "B"], [1, 1]).state, CheckState::Warning);
        // The same kind of GPU on another machine is another one.
        let apart = [rank("n1", &[0], Some("A"), well()), rank("n2", &[0], Some("A"), well())];
        let apart = sharing(&apart);
        assert!(
            apart.state == CheckState::Ok && apart.found.contains("0 on n1; 1 on n2"),
            "{apart:?}"
        );
    }

    #[test]
    fn equal_checks_of_ranks_are_one_line_and_the_worst_state_counts() {
        let low = || Check::warning("x", "64 KiB", "raise it");
        let all = [
            rank("n1", &[0], None, Check::ok("x", "1 GiB")),
            rank("n1", &[1], None, low()),
            rank("n2", &[0], None, low()),
        ];
        assert_eq!(
            merged(&all),
            [Check::warning("x", "rank 1-2: 64 KiB; rank 0: 1 GiB", "raise it")]
        );
        assert_eq!(merged(&all[1..]), [low()]);
    }
}
