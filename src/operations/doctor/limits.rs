//! Memory, files and cores that this process may use.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{
    check::{Check, FILE_SYSTEM_TIMEOUT, variable, within},
    files,
};
use crate::{
    base::slurm,
    distributed::{World, device},
};

const GIB: u64 = 1 << 30;

/// `threads`: the key of this name; `gpus`: a training here would use GPUs.
pub(super) fn checks(work: &Path, threads: Option<usize>, world: &World, gpus: bool) -> Vec<Check> {
    let work = work.to_path_buf();
    let shards = within(FILE_SYSTEM_TIMEOUT, move || files::plan(&work))
        .flatten()
        .map(|plan| plan.train_shards + plan.test_shards);
    vec![
        shared_memory(gpus),
        locked_memory(gpus, world.size() > 1),
        open_files(shards),
        cores(threads, world),
    ]
}

fn shared_memory(gpus: bool) -> Check {
    let name = "/dev/shm";
    let fix = "NCCL and MPI should have 1 GiB there: mount -o remount,size=4G /dev/shm; Docker: \
        --shm-size=4g; Apptainer: without --contain";
    match files::space(Path::new(name)) {
        Ok(free) if free >= GIB => Check::ok(name, format!("{} free", files::size(free))),
        Ok(free) if gpus => Check::fail(name, format!("{} free", files::size(free)), fix),
        Ok(free) => Check::warning(name, format!("{} free", files::size(free)), fix),
        Err(e) => Check::warning(name, format!("cannot be used: {e}"), fix),
    }
}

fn locked_memory(gpus: bool, others: bool) -> Check {
    let name = "locked memory";
    match getrlimit(Resource::Memlock).current {
        None => Check::ok(name, "unlimited"),
        Some(bytes) if gpus || others => Check::warning(
            name,
            format!("at most {}; networks and GPUs pin more", files::size(bytes)),
            "ulimit -l unlimited (on a cluster the administrators raise it for Slurm's daemons); \
                for CPUs of one machine it does not matter",
        ),
        Some(bytes) => Check::ok(
            name,
            format!("at most {}, enough for one process on CPU", files::size(bytes)),
        ),
    }
}

fn open_files(shards: Option<usize>) -> Check {
    let name = "open files";
    let wanted = shards.unwrap_or(0) as u64 + 256;
    let limit = getrlimit(Resource::Nofile);
    match (limit.current, limit.maximum) {
        (None, _) => Check::ok(name, "unlimited"),
        (Some(n), _) if n >= wanted => Check::ok(name, format!("up to {n}")),
        (Some(n), Some(hard)) if hard < wanted => Check::warning(
            name,
            format!("up to {n}, {wanted} wanted (the shards and 256)"),
            format!(
                "the hard limit is {hard}: ask the administrators, or make larger shards \
                    (preprocess.shard_samples)"
            ),
        ),
        (Some(n), _) => Check::warning(
            name,
            format!("up to {n}, {wanted} wanted (the shards and 256)"),
            format!("ulimit -n {}", wanted.max(4096)),
        ),
    }
}

fn cores(threads: Option<usize>, world: &World) -> Check {
    let allowed = device::affinity().len();
    let used = threads.unwrap_or(world.cores);
    let found = format!("{used} of {allowed} cores that this process may use");
    let number = |name: &str| variable(name).and_then(|text| text.parse::<usize>().ok());
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let machine = std::fs::read_to_string("/proc/stat")
        .map_or(0, |text| text.lines().filter(is_core).count());
    let bound_by_mpirun = variable("OMPI_COMM_WORLD_SIZE").is_some() && allowed == 1;
    let (what, fix) = match (slurm::cpus_per_task(), number("OMP_NUM_THREADS")) {
        (Some(n), _) if allowed < n => (
            format!("SLURM_CPUS_PER_TASK={n}"),
            "srun --cpus-per-task=$SLURM_CPUS_PER_TASK: since 22.05 it does not take the number \
                from sbatch"
                .to_string(),
        ),
        _ if bound_by_mpirun && machine > world.size() => (
            format!("the machine has {machine}: mpirun gave each rank one"),
            "mpirun --bind-to none".into(),
        ),
        _ if used > allowed => (
            "they would share cores".into(),
            format!("unset threads, or set it to {allowed} at most"),
        ),
        (_, Some(n)) if n != used => (
            format!("OMP_NUM_THREADS={n} differs"),
            format!("unset OMP_NUM_THREADS, which atlas ignores, or set threads={n}"),
        ),
        _ => return Check::ok("threads", found),
    };
    Check::warning("threads", format!("{found}; {what}"), fix)
}
