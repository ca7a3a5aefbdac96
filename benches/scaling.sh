#!/usr/bin/env bash
# Weak scaling on this machine: one training of 2 ranks x 1 thread against two trainings of one rank
# x 1 thread at the same time, each rank with SAMPLES samples per step. Nine interleaved pairs in
# each precision; one row per pair to OUT, medians at the end.
#
#   benches/scaling.sh OUT.csv [FOLDER for data and runs] [SAMPLES, default 32] [PAIRS, default 9]
#
# Seconds are those of the last 8 of 10 intervals. `efficiency` asks when the same work is done: by
# the slower of the two that run alone, over the two together. `efficiency_of_mean` compares with
# the mean of the two: what the ranks lose by waiting for each other, because the cores of a shared
# machine are never equally fast, counts against it too.
set -euo pipefail
out=${1:?usage: benches/scaling.sh OUT.csv [FOLDER] [SAMPLES] [PAIRS]}
work=${2:-work/scaling}
samples=${3:-32}
pairs=${4:-9}
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
atlas=$root/target/release/atlas
steps=20
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

keys=(--set paths.work="$work" --set paths.results="$work/results" --set data.kaggle="$work/data"
    --set preprocess.size=224 --set split.method=shuffle --set split.holdout=0.02
    --set split.folds=2 --set split.groups=none --set model.arch=se_resnext_tiny
    --set augment.resize=224 --set augment.crop=192 --set augment.elastic=0 --set train.epochs=1
    --set train.keep=last
    --set predict.tta=none --set threads=1 --set train.layout=nhwc)
if [ ! -e "$work/folds.csv" ]; then
    "$atlas" synth --out "$work/data" --samples $((3 * steps * samples)) --test 0 --size 224 \
        --seed 3 >/dev/null 2>&1
    for job in plan preprocess dedup split; do "$atlas" "$job" "${keys[@]}" >/dev/null 2>&1; done
fi

# Seconds of a run's steps, without the first two intervals.
seconds() {
    python3 -c 'import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])][2:]
# Two steps each.
print(sum(2 * int(sys.argv[2]) / line["samples_per_s"] for line in lines))' \
        "$work/results/$1/fold_0/metrics.jsonl" "$2"
}

train() { # RUN BATCH SEED PRECISION [CORE]
    # each rank and each of the two alone has a core to itself
    local launcher=(mpirun -n 2 --bind-to core)
    [ "$1" = together ] || launcher=(taskset --cpu-list "$5")
    rm -rf "$work/results/$1"
    "${launcher[@]}" "$atlas" train --fold 0 --run "$1" "${keys[@]}" --set train.batch="$2" \
        --set train.max_samples=$((steps * $2)) \
        --set train.seed="$3" --set train.precision="$4" >/dev/null 2>&1
}

apart() {
    train apart-1 "$samples" 1 "$1" 0 &
    train apart-2 "$samples" 2 "$1" 1 &
    wait
}

columns=precision,pair,samples_per_rank,together_s,alone_1_s,alone_2_s
echo "$columns,efficiency,efficiency_of_mean" >"$out"
for precision in f32 bf16; do
    for pair in $(seq "$pairs"); do
        if [ $((pair % 2)) = 0 ]; then
            train together $((2 * samples)) 1 "$precision"
            apart "$precision"
        else
            apart "$precision"
            train together $((2 * samples)) 1 "$precision"
        fi
        python3 - "$precision" "$pair" "$samples" "$(seconds together $((2 * samples)))" \
            "$(seconds apart-1 "$samples")" \
            "$(seconds apart-2 "$samples")" <<'PYTHON' | tee -a "$out"
import sys

together, one, two = map(float, sys.argv[4:])
numbers = together, one, two, max(one, two) / together, (one + two) / 2 / together
print(*sys.argv[1:4], *(f"{x:.3f}" for x in numbers), sep=",")
PYTHON
    done
done
python3 - "$out" <<'PYTHON'
import csv, statistics, sys

rows = list(csv.DictReader(open(sys.argv[1])))
for precision in ("f32", "bf16"):
    mine = [row for row in rows if row["precision"] == precision]
    median = lambda key: statistics.median(float(row[key]) for row in mine)
    print(f"{precision}: median efficiency {median('efficiency'):.3f}, of the mean "
          f"{median('efficiency_of_mean'):.3f}, {len(mine)} pairs")
PYTHON
