#!/usr/bin/env bash
# Downloads the data, as an array job:
#   sbatch slurm/fetch.sh kaggle [OPTIONS OF atlas fetch]   (or external)
# Needs nodes that reach the internet. The number of tasks that share the work is fetch.tasks.
#SBATCH --job-name=atlas-fetch
#SBATCH --array=0-3
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=2G
#SBATCH --time=24:00:00
#SBATCH --signal=USR2@60
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file; the job's record says where the project is.
root=$(scontrol show job "${SLURM_JOB_ID:-none}" 2>/dev/null |
    sed -n 's|^ *Command=\(.*\)/slurm/fetch\.sh.*|\1|p' | head -n 1) || true
# shellcheck source=slurm/job.sh
. "${root:-$(dirname -- "${BASH_SOURCE[0]}")/..}/slurm/job.sh"

case "${1:-}" in
    kaggle | external) ;;
    *) refuse "say what to fetch: sbatch slurm/fetch.sh kaggle, or external" ;;
esac
step fetch "$@"
