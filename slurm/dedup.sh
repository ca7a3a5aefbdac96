#!/usr/bin/env bash
# Finds near-duplicates, as an array job over pairs of blocks of samples:
#   sbatch slurm/dedup.sh
# and when all tasks are done:
#   sbatch --array=0 slurm/dedup.sh --merge
#SBATCH --job-name=atlas-dedup
#SBATCH --array=0-15
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
#SBATCH --signal=USR2@60
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file; the job's record says where the project is.
root=$(scontrol show job "${SLURM_JOB_ID:-none}" 2>/dev/null |
    sed -n 's|^ *Command=\(.*\)/slurm/dedup\.sh.*|\1|p' | head -n 1) || true
# shellcheck source=slurm/job.sh
. "${root:-$(dirname -- "${BASH_SOURCE[0]}")/..}/slurm/job.sh"

if [[ " $* " != *' --merge '* ]]; then
    needs plan preprocess
elif [ "${SLURM_ARRAY_TASK_ID:-0}" != 0 ]; then
    exit # one of them merges
else
    needs plan preprocess dedup
fi
step dedup "$@"
