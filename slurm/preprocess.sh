#!/usr/bin/env bash
# Packs the images into shards, as an array job:
#   sbatch slurm/preprocess.sh [OPTIONS OF atlas preprocess]
# Which shards a task makes is fixed by `plan` (preprocess.tasks), whatever part of the array runs.
#SBATCH --job-name=atlas-preprocess
#SBATCH --array=0-15
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=1G
#SBATCH --time=08:00:00
#SBATCH --signal=USR2@60
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file; the job's record says where the project is.
root=$(scontrol show job "${SLURM_JOB_ID:-none}" 2>/dev/null |
    sed -n 's|^ *Command=\(.*\)/slurm/preprocess\.sh.*|\1|p' | head -n 1) || true
# shellcheck source=slurm/job.sh
. "${root:-$(dirname -- "${BASH_SOURCE[0]}")/..}/slurm/job.sh"

needs plan
step preprocess "$@"
