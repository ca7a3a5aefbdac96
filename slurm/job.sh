# shellcheck shell=bash
# What the job scripts in this folder share. They source it with `root` set to the project's folder
# if Slurm knows it.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "${SLURM_JOB_NAME:-atlas}: $*" >&2; }

refuse() {
    say "$*"
    exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] || refuse "this is a job for Slurm: sbatch slurm/$(basename -- "$0");" \
    "on one machine, atlas run --config ${ATLAS_CONFIG:-configs/atlas.toml} does everything"
job=$SLURM_JOB_ID # the id of this task alone for scontrol
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

set +eu # what a site loads may not be written for these options
# shellcheck source=slurm/site.env
. "${ATLAS_SITE:-$root/slurm/site.env}"
set -eu
unset SLURM_EXPORT_ENV # srun passes on everything that the site set
# shellcheck source=slurm/program.sh
. "$root/slurm/program.sh"

# For `atlas status`: the file to which this script's messages go.
log=$(readlink "/proc/$$/fd/2") || log=''
[ ! -f "$log" ] || export ATLAS_LOG=$log

# The keys that the script was called with.
keys=()
for ((i = 1; i <= $#; i++)); do
    case "${!i}" in
        --set=*) keys+=("${!i}") ;;
        --set) ((i++ < $#)) && keys+=("--set=${!i}") ;;
    esac
done

# needs STEP...: refuses to go on before all of these are done
needs() {
    local missing step tasks need script
    missing=$("${atlas[@]}" status --missing --config "$config" ${keys[@]+"${keys[@]}"}) || exit
    while read -r step tasks; do
        for need; do
            [ "$need" = "$step" ] || continue
            case $step in
                plan | split) script=slurm/$step.sh ;;
                merge) script='--array=0 slurm/dedup.sh --merge' ;;
                *) script="--array=$tasks slurm/$step.sh" ;;
            esac
            refuse "run this first: sbatch $script ($step is missing: $tasks)"
        done
    done <<<"$missing"
}

# step JOB [OPTION...]: the job as one process
step() {
    run --ntasks=1 --nodes=1 --mpi=none --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" -- "$@"
}

# ranks JOB [OPTION...]: the job as ranks on all nodes, one per GPU
ranks() {
    local per_node=${ATLAS_RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
    local nodes=${SLURM_JOB_NUM_NODES:-1} cores=${SLURM_CPUS_PER_TASK:-1}
    [ "$per_node" -ge 1 ] || per_node=1
    [ "$per_node" -le "$cores" ] || refuse "$per_node ranks per node and $cores cores:" \
        "request more with sbatch --cpus-per-task=N"
    run --mpi=pmix --nodes="$nodes" --ntasks="$((nodes * per_node))" --ntasks-per-node="$per_node" \
        --cpus-per-task="$((cores / per_node))" -- "$@"
}

# run SRUN_OPTION... -- JOB [OPTION...]
run() {
    local options=() code=0
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    trap : TERM USR2 # this script survives them, to see how the program ends
    srun --kill-on-bad-exit=1 "${options[@]}" "${atlas[@]}" "$@" --config "$config" || code=$?
    # Only 75 means that running again resumes; a program that was killed (137, 143) may not.
    [ "$code" -ne 75 ] || again
    [ "$code" -eq 0 ] || exit "$code"
}

# again: requeues this task, unless somebody cancelled it or it was requeued too often
again() {
    local most=${ATLAS_MAX_REQUEUES:-20} state attempt
    state=$(scontrol show job "$job" | sed -n 's/^ *JobState=\([A-Z_]*\).*/\1/p' | head -n 1) ||
        state=''
    case $state in
        RUNNING | '') ;;
        CANCELLED | TIMEOUT | FAILED)
            say "stopped at a checkpoint (the job is $state); submit it again to go on"
            exit 75
            ;;
        *)
            say "stopped at a checkpoint (the job is $state); Slurm starts it again"
            exit 75
            ;;
    esac
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$most" ]; then
        say "stopped at a checkpoint after $most restarts (ATLAS_MAX_REQUEUES);" \
            "submit it again to go on"
        exit 75
    fi
    for attempt in 1 2 3 4 5; do # many tasks may requeue at the same moment
        if scontrol requeue "$job"; then
            say "stopped at a checkpoint; task $job goes back into the queue" \
                "(restart $((${SLURM_RESTART_COUNT:-0} + 1)) of at most $most)"
            sleep 120 # Slurm ends this script
            exit 75
        fi
        sleep "$((attempt * 5))"
    done
    say "stopped at a checkpoint, and scontrol cannot requeue $job; submit it again to go on"
    exit 75
}
