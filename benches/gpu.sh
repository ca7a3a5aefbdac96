#!/usr/bin/env bash
# Everything about one GPU in one call: first whether the GPU computes what the CPU does, then a
# training from shards whose only rank sums its gradients by NCCL (how fast, how long it waits for
# data, the memory that it takes), then speed against the Python stack. It has not run on a GPU yet.
# Its crops and augmentation are made by the CPU.
#
#   benches/gpu.sh OUT_FOLDER [cuda|cpu]
#
# Needs target/release/atlas, target/release/speed (benches/build_speed.sh) with their libraries,
# and in PYTHON (python3) torch 2.11.0 with CUDA and timm. `cpu` runs the checks and the training
# alone: whether the script itself is sound.
set -euo pipefail
out=${1:?usage: benches/gpu.sh OUT_FOLDER [cuda|cpu]}
device=${2:-cuda}
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
atlas=$root/target/release/atlas
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
out=$(cd -- "$out" && pwd)

backend=none side=64 batch=16
if [ "$device" = cuda ]; then
    backend=nccl side=512 batch=64
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader |
        tee "$out/gpu.txt"
fi

"$root/target/release/speed" check | tee "$out/check.txt"

size=$((side * 3 / 2))
"$atlas" synth --out "$work/data" --samples 600 --test 60 --external 0 --size $size \
    --seed 1 >/dev/null
"$atlas" run --run gpu --set data.kaggle="$work/data" --set paths.work="$work/work" \
    --set paths.results="$work/results" --set preprocess.size=$size --set augment.resize=$size \
    --set augment.crop="$side" --set model.arch=se_resnext50_32x4d --set train.precision=bf16 \
    --set train.layout=nhwc --set train.batch="$batch" --set train.epochs=2 \
    --set train.validate_every=2 --set split.folds=2 --set comm.backend="$backend" >/dev/null
cp "$work/results/gpu/fold_0/metrics.jsonl" "$out/training.jsonl"
"$python" - "$out/training.jsonl" <<'PYTHON' | tee "$out/training.txt"
import json, statistics, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
last = lines[len(lines) // 2 :]  # the second epoch
median = lambda key: statistics.median(line[key] for line in last)
memory = max(line["gpu_mib"] or 0 for line in lines)
print(f"{median('samples_per_s'):.1f} samples/s, {100 * median('data_wait'):.1f} % of the time "
      f"waiting for data, {memory} MiB of GPU memory")
PYTHON

if [ "$device" = cuda ]; then
    "$python" "$root/benches/speed.py" "$out" --device cuda --stage training --stage prediction
fi
