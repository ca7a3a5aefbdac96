#!/usr/bin/env bash
# Trains the folds, one per array task, each on all nodes of its task:
#   sbatch slurm/train_folds.sh [OPTIONS OF atlas train]
#   ATLAS_CONFIG=configs/seed.toml sbatch --array=0-4%2 --nodes=2 slurm/train_folds.sh
# Ranks: one per GPU of a node, else ATLAS_RANKS_PER_NODE (1). They share the cores of
# --cpus-per-task.
#SBATCH --job-name=atlas-train
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=4G
#SBATCH --time=24:00:00
#SBATCH --signal=USR2@300
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file; the job's record says where the project is.
root=$(scontrol show job "${SLURM_JOB_ID:-none}" 2>/dev/null |
    sed -n 's|^ *Command=\(.*\)/slurm/train_folds\.sh.*|\1|p' | head -n 1) || true
# shellcheck source=slurm/job.sh
. "${root:-$(dirname -- "${BASH_SOURCE[0]}")/..}/slurm/job.sh"

needs plan preprocess merge split
ranks train "$@"
