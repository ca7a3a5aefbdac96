#!/usr/bin/env bash
# configs/atlas.toml against configs/seed.toml, scaled down alike: one synthetic set, one fold of
# one split, one small network, the same sizes, batch and number of steps, three seeds. Writes one
# row per training to OUT and prints them with the means.
#
#   benches/recipes.sh OUT.csv [FOLDER for data and runs]
set -euo pipefail
out=${1:?usage: benches/recipes.sh OUT.csv [FOLDER]}
work=${2:-work/recipes}
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
atlas=$root/target/release/atlas

"$atlas" synth --out "$work/data" --samples 3000 --test 600 --size 144 --seed 7 --min-per-class 30
# The average of the weights reaches back over the same share of the run as in the full recipe (2
# %).
alike=(--set paths.work="$work" --set data.kaggle="$work/data" --set data.external=
    --set preprocess.size=144 --set preprocess.shard_samples=1024 --set split.method=folds
    --set split.folds=5 --set split.groups=duplicates --set split.seed=0 --set dedup.radius=12
    --set model.arch=se_resnext_tiny --set augment.resize=144 --set augment.crop=96
    --set train.epochs=20 --set train.batch=32 --set train.precision=f32 --set train.layout=nhwc
    --set train.validate_every=4 --set train.checkpoint_steps=0)

echo "recipe,seed,steps,macro_f1_half,macro_f1_submitted,map" >"$out"
for seed in 1 2 3; do
    for recipe in seed atlas; do
        own=("${alike[@]}" --config "$root/configs/$recipe.toml" --set train.seed="$seed"
            --set paths.results="$work/$recipe")
        [ "$recipe" = seed ] || own+=(--set train.ema=0.97)
        run=seed$seed
        for job in plan preprocess dedup split; do "$atlas" "$job" "${own[@]}" >/dev/null; done
        "$atlas" train --fold 0 --run "$run" "${own[@]}" >/dev/null
        for job in predict submit; do "$atlas" "$job" --run "$run" "${own[@]}" >/dev/null; done
        python3 - "$atlas" "$work" "$recipe" "$run" "$seed" >>"$out" <<'PYTHON'
import json, subprocess, sys

atlas, work, recipe, run, seed = sys.argv[1:]
folder = f"{work}/{recipe}/{run}"


def score(predictions):
    line = [atlas, "evaluate", "--json", "--truth", f"{work}/data/truth.csv"]
    line += ["--predictions", f"{folder}/{predictions}"]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


steps = json.loads(open(f"{folder}/fold_0/metrics.jsonl").readlines()[-1])["step"]
half, fitted = score("submission.csv"), score("submission_optimal_threshold.csv")
mean = score("predictions/test-00000.h5")["map"]
print(f"{recipe},{seed},{steps},{half['macro_f1']:.4f},{fitted['macro_f1']:.4f},{mean:.4f}")
PYTHON
        tail -n 1 "$out"
    done
done
awk -F, 'NR > 1 { n[$1]++; half[$1] += $4; fit[$1] += $5 }
    END {
        for (r in n)
            printf "%s: mean macro F1 %.4f at 0.5, %.4f submitted\n", r, half[r] / n[r],
                fit[r] / n[r]
    }' "$out"
