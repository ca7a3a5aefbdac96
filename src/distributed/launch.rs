//! How this process was started: alone, or as one of several by a launcher (mpirun, mpiexec, srun).

use crate::base::{Error, Result};

/// Number of tasks that a launcher started, by its environment; 1 without a launcher.
///
/// # Errors
/// Usage, where `srun` started several tasks but told none of them how to find the others.
pub fn tasks(variable: impl Fn(&str) -> Option<String>) -> Result<usize> {
    let number = |name: &str| variable(name).and_then(|text| text.parse::<usize>().ok());
    // Open MPI's mpirun; MPICH's mpiexec and srun --mpi=pmi2; srun --mpi=pmix.
    if let Some(n) = number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")) {
        return Ok(n.max(1));
    }
    // Not SLURM_NTASKS, which is also set in a batch script.
    let step = number("SLURM_STEP_NUM_TASKS").unwrap_or(1);
    if step > 1 && variable("PMIX_RANK").is_none() && variable("PMI_RANK").is_none() {
        return Err(Error::usage(mismatch(step, "srun gave them no PMI to find each other by")));
    }
    Ok(step.max(1))
}

/// The number of this task by the environment, for messages before MPI has started.
pub fn rank(variable: impl Fn(&str) -> Option<String>) -> usize {
    let names = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"];
    names.iter().find_map(|name| variable(name)?.parse().ok()).unwrap_or(0)
}

/// The message when `tasks` were launched that do not form one job.
pub fn mismatch(tasks: usize, why: &str) -> String {
    format!(
        "MPI/PMI mismatch: {tasks} tasks were launched, but each sees itself alone ({why}). Under \
            Slurm use `srun --mpi=pmix` (`srun --mpi=list` shows the choices); elsewhere start \
            with the mpirun of the MPI library that atlas was built with"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<usize> {
        tasks(|name| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_string()))
    }

    #[test]
    fn every_launcher_is_recognised() {
        assert_eq!(of(&[]).unwrap(), 1);
        assert_eq!(of(&[("SLURM_NTASKS", "8"), ("SLURM_STEP_NUM_TASKS", "1")]).unwrap(), 1);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "1")]).unwrap(), 4);
        assert_eq!(of(&[("PMI_SIZE", "3"), ("PMI_RANK", "0")]).unwrap(), 3);
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "4"), ("PMIX_RANK", "0")]).unwrap(), 4);
        // mpirun inside an allocation: Slurm counts its daemons.
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "8"), ("SLURM_STEP_NUM_TASKS", "2")]).unwrap(), 8);
    }

    #[test]
    fn tasks_that_cannot_find_each_other_are_a_usage_error() {
        let e = of(&[("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_PROCID", "2")]).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        assert!(e.to_string().contains("4 tasks") && e.to_string().contains("--mpi=pmix"), "{e}");
    }
}
