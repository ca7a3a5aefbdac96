#!/usr/bin/env bash
# The whole pipeline as jobs that wait for each other, from images to submissions.
#   slurm/pipeline.sh [--run NAME] [--fetch] [--set KEY=VALUE]...   submits every step
#   slurm/pipeline.sh --resume RUN   submits only what is missing, with the same keys
#   slurm/pipeline.sh --cancel RUN   ends its jobs; finished work stays
# Steps that are done already end at once. --fetch begins with the download.
# The experiment is ATLAS_CONFIG (configs/atlas.toml), the site slurm/site.env (ATLAS_SITE).
# Job ids, keys and logs are in paths.work/pipeline/RUN/. It prints the command that shows progress.
set -euo pipefail
shopt -s inherit_errexit
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

refuse() {
    printf '%s\n' "pipeline: $*" >&2
    exit 2
}

usage() { refuse "$(sed -n '3,5s/^# *//p' "$0")"; }

set +eu # what a site loads may not be written for these options
# shellcheck source=slurm/site.env
. "${ATLAS_SITE:-$root/slurm/site.env}"
set -eu
# shellcheck source=slurm/program.sh
. "$root/slurm/program.sh"

run='' mode=new fetch='' sets=()
while [ $# -gt 0 ]; do
    case "$1" in
        --run | --resume | --cancel)
            [ $# -ge 2 ] || usage
            run=$2
            [ "$1" = --run ] || mode=${1#--}
            shift
            ;;
        --fetch) fetch=yes ;;
        --set)
            [ $# -ge 2 ] || usage
            sets+=("--set=$2")
            shift
            ;;
        --set=*) sets+=("$1") ;;
        *) usage ;;
    esac
    shift
done
command -v sbatch >/dev/null || refuse "there is no sbatch here; on one machine," \
    "$(printf '%q ' "${atlas[@]}" run --config "$config" ${sets[@]+"${sets[@]}"})does everything," \
    "and slurm/local_cluster.sh starts a Slurm to try"

# 1. Which run, and where its jobs are recorded.
for set in ${sets[@]+"${sets[@]}"}; do
    case $set in
        --set=paths.*)
            refuse "${set#--set=}: set the folders in the experiment's file, so that --resume and" \
                "status find them"
            ;;
    esac
done
key() { "${atlas[@]}" config --config "$config" ${sets[@]+"${sets[@]}"} --get "$1"; }
missing() {
    "${atlas[@]}" status --missing --run="$run" --config "$config" ${sets[@]+"${sets[@]}"}
}
work=$(key paths.work)
[ -n "$run" ] || run=$(date -u +%Y%m%d-%H%M%S)
[[ $run != */* && $run != [.-]* && $run != *[[:cntrl:]]* && $run != latest && ${#run} -le 128 ]] ||
    refuse "$run is not a run's name: expected a folder name such as 20260131-235959"
folder=$work/pipeline/$run
jobs=$folder/jobs.csv
largest=$(scontrol show config 2>/dev/null | sed -n 's/^MaxArraySize *= *//p') || largest=''
case $mode in
    new)
        [ ! -e "$folder" ] ||
            refuse "there is a pipeline $run already; slurm/pipeline.sh --resume $run continues it"
        missing >/dev/null # fails where there is a run of that name of another experiment
        [ -z "$fetch" ] || key data.external >/dev/null
        mkdir -p -- "$folder/logs"
        [ -z "$fetch" ] || : >"$folder/fetch"
        : >"$folder/sets"
        [ ${#sets[@]} -eq 0 ] || printf '%s\0' "${sets[@]}" >"$folder/sets"
        echo step,job,tasks,after >"$jobs"
        ;;
    *)
        [ -f "$jobs" ] ||
            refuse "there is no pipeline $run in $work/pipeline (ATLAS_CONFIG names another" \
                "experiment)"
        [ ${#sets[@]} -eq 0 ] ||
            refuse "--$mode takes the keys that the pipeline began with; no --set"
        mapfile -d '' -t sets <"$folder/sets"
        ;;
esac
queue=$(squeue --me --noheader --format=%F) || refuse "squeue does not answer; try again"
active=$(comm -12 <(sort -u <<<"$queue") <(tail -n +2 -- "$jobs" | cut -d, -f2 | sort -u) | xargs)

if [ "$mode" = cancel ]; then
    [ -n "$active" ] || refuse "the pipeline $run has no jobs in the queue"
    # shellcheck disable=SC2086 # words
    scancel $active
    echo "cancelled: $active; slurm/pipeline.sh --resume $run continues"
    exit
fi
[ -z "$active" ] || refuse "the pipeline $run still has jobs in the queue ($active); wait for" \
    "them, or end them with --cancel $run"

# 2. The steps to submit, as lines `step tasks`. A new pipeline submits all of them, also those that
#    are done: the data may have changed.
all() {
    local tasks folds fetching
    tasks=$(key preprocess.tasks) folds=$(key split.folds)
    tasks=0-$((tasks - 1)) folds=0-$((folds - 1))
    if [ -n "$fetch" ]; then
        fetching=$(key fetch.tasks)
        printf '%s\n' "fetch_kaggle 0-$((fetching - 1))" "fetch_external 0-$((fetching - 1))"
    fi
    printf '%s\n' "plan 0" "preprocess $tasks" "dedup $tasks" "merge 0" "split 0" "train $folds" \
        "predict $tasks" "submit 0"
}
if [ "$mode" = new ]; then
    steps=$(all)
else
    steps=$(missing)
    [ -n "$steps" ] || { echo "the pipeline $run is done: nothing is missing" && exit; }
fi

while read -r step tasks; do
    last=${tasks##*[-,]}
    [ -z "$largest" ] || [ "$last" -lt "$largest" ] ||
        refuse "$step has the task $last, and this Slurm's arrays end at $((largest - 1))" \
            "(MaxArraySize): lower preprocess.tasks"
done <<<"$steps"

# 3. Submit. Each step waits until the one before has succeeded; if that one fails, it is dropped.
export ATLAS_CONFIG=$config ATLAS_RUN=$run
[[ $config = /* ]] || ATLAS_CONFIG=$PWD/$config
trap 'echo "pipeline: not every step was submitted; slurm/pipeline.sh --cancel $run ends those" \
    "that were" >&2' ERR
after=''
printf '%-16s %10s  %-12s %s\n' step job tasks after
while read -r step tasks; do
    script=$step words=() options=()
    case $step in
        fetch_*) script=fetch words=("${step#fetch_}") ;;
        merge) script=dedup words=(--merge) ;;
        train) script=train_folds ;;
    esac
    name=${script^^}
    name=ATLAS_${name%_FOLDS} most=${name}_AT_ONCE name=${name}_OPTIONS
    read -r -a options <<<"${!name:-}"
    case $step in
        plan | split | submit) name=%x-%j.log ;;
        *) name=%x-%A_%a.log options+=(--array="$tasks${!most:+%${!most}}") ;;
    esac
    gpus=()
    [[ $step = train || $step = predict ]] ||
        gpus=(-u SBATCH_GPUS -u SBATCH_GPUS_PER_NODE -u SBATCH_GPUS_PER_TASK -u SBATCH_GRES
            -u SBATCH_CPUS_PER_GPU -u SBATCH_MEM_PER_GPU)
    logs=$folder/logs
    id=$(env ${gpus[@]+"${gpus[@]}"} sbatch --parsable --export=ALL --kill-on-invalid-dep=yes \
        ${after:+--dependency=afterok:$after} \
        --job-name="atlas-$step" --output="${logs//%/%%}/$name" ${options[@]+"${options[@]}"} \
        "$root/slurm/$script.sh" ${words[@]+"${words[@]}"} ${sets[@]+"${sets[@]}"})
    id=${id%%;*}
    echo "$step,$id,\"$tasks\",$after" >>"$jobs"
    printf '%-16s %10s  %-12s %s\n' "$step" "$id" "$tasks" "${after:--}"
    after=$id
done <<<"$steps"
trap - ERR
echo "run $run; logs: $folder/logs; progress:"
printf ' %q' "${atlas[@]}" status --run "$run" --config "$ATLAS_CONFIG" ${sets[@]+"${sets[@]}"}
echo
