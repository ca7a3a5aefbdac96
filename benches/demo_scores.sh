#!/usr/bin/env bash
# The score of `make demo` over seeds of the training and over instruction sets of ATen's kernels
# (not of the convolutions, which choose theirs): how far it depends on chance and on the order in
# which numbers are added. Run `make demo` first. Writes one row per run to OUT and prints the
# range; about half an hour on two cores.
#
#   benches/demo_scores.sh OUT.csv [FOLDER for the runs]
set -euo pipefail
out=$(realpath -m -- "${1:?usage: benches/demo_scores.sh OUT.csv [FOLDER]}")
results=${2:+$(realpath -m -- "$2")}
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
results=${results:-work/demo_scores}
mkdir -p "$(dirname -- "$out")"
atlas=target/release/atlas
processor=$(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)
best=$(awk '/^flags/ { print (/avx512f/ ? "avx512" : "avx2"); exit }' /proc/cpuinfo)

echo "processor,aten_kernels,seed,macro_f1" >"$out"
run() { # run INSTRUCTIONS SEED
    local name=$1-$2 score
    ATEN_CPU_CAPABILITY=$1 "$atlas" run --config configs/demo.toml --run "$name" \
        --set paths.results="$results" --set train.seed="$2" >/dev/null
    score=$("$atlas" evaluate --json --truth work/demo/data/truth.csv \
        --predictions "$results/$name/submission_optimal_threshold.csv" |
        python3 -c 'import json, sys; print(round(json.load(sys.stdin)["macro_f1"], 4))')
    echo "$processor,$1,$2,$score" | tee -a "$out"
}
for seed in 0 1 2 3 4; do run "$best" "$seed"; done
[ "$best" = avx2 ] || for seed in 0 1; do run avx2 "$seed"; done
run default 0 # three times as slow
awk -F, 'NR > 1 { sum += $4; if (NR == 2 || $4 < low) low = $4; if ($4 > high) high = $4 }
    END { printf "macro F1 of %d runs: %.3f to %.3f, mean %.3f\n", NR - 1, low, high, sum / (NR - 1) }' \
    "$out"
