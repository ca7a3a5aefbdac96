#!/usr/bin/env bash
# Fits the thresholds, writes the submissions and the report:
#   sbatch slurm/submit.sh [OPTIONS OF atlas submit]
#SBATCH --job-name=atlas-submit
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=4G
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file; the job's record says where the project is.
root=$(scontrol show job "${SLURM_JOB_ID:-none}" 2>/dev/null |
    sed -n 's|^ *Command=\(.*\)/slurm/submit\.sh.*|\1|p' | head -n 1) || true
# shellcheck source=slurm/job.sh
. "${root:-$(dirname -- "${BASH_SOURCE[0]}")/..}/slurm/job.sh"

needs plan preprocess
step submit "$@"
step report "$@"
