#!/usr/bin/env bash
# Lists the data and fixes shards and tasks: sbatch slurm/plan.sh [OPTIONS OF atlas plan]
#SBATCH --job-name=atlas-plan
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=4G
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file; the job's record says where the project is.
root=$(scontrol show job "${SLURM_JOB_ID:-none}" 2>/dev/null |
    sed -n 's|^ *Command=\(.*\)/slurm/plan\.sh.*|\1|p' | head -n 1) || true
# shellcheck source=slurm/job.sh
. "${root:-$(dirname -- "${BASH_SOURCE[0]}")/..}/slurm/job.sh"

step plan "$@"
