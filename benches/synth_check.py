#!/usr/bin/env python3
"""Whether a synthetic set is no toy: python3 benches/synth_check.py MADE [--real FOLDER]

Prints one JSON line.
* histogram_f1: macro F1 of a logistic regression on per-channel histograms, cross-validated in 5
  folds, at thresholds fitted on the folds that it was trained on (should stay below 0.30);
* shuffled_f1: the same with shuffled labels (below 0.10);
* with --real, a folder of real <id>_<colour>.png of the same size: per channel the mean, the 99th
  percentile and the PNG's size in kB as [least, median, largest] of both sets, and how many
  synthetic samples lie outside the real range.

Needs numpy, Pillow and scikit-learn."""

import argparse
import csv
import json
import os
import warnings

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

COLOURS = ("red", "green", "blue", "yellow")
CLASSES = 28


def histograms(folder, ids):
    """[n, 4 x 32] shares of pixels, finer at the dark end, as log."""
    edges = np.concatenate([np.arange(0, 16), np.arange(16, 256, 15), [256]])
    rows = []
    for i in ids:
        planes = [np.asarray(Image.open(f"{folder}/{i}_{c}.png")) for c in COLOURS]
        rows.append(np.concatenate([np.histogram(p, edges)[0] / p.size for p in planes]))
    return np.log(np.array(rows) + 1e-4)


def best_threshold(truth, probability):
    grid = np.unique(np.quantile(probability, np.linspace(0.5, 0.995, 40)))
    return max(grid, key=lambda t: f1_score(truth, probability > t, zero_division=0))


def cross_validated(x, y):
    predicted = np.zeros(y.shape, bool)
    for train, test in KFold(5, shuffle=True, random_state=0).split(x):
        scaler = StandardScaler().fit(x[train])
        a, b = scaler.transform(x[train]), scaler.transform(x[test])
        for c in range(CLASSES):
            if y[train, c].any():
                model = LogisticRegression(C=0.3, max_iter=300).fit(a, y[train, c])
                threshold = best_threshold(y[train, c], model.predict_proba(a)[:, 1])
                predicted[test, c] = model.predict_proba(b)[:, 1] > threshold
    return float(f1_score(y, predicted, average="macro", zero_division=0))


def figures(folder):
    """{colour: {figure: [n]}} of all samples in a folder."""
    ids = sorted({f.rsplit("_", 1)[0] for f in os.listdir(folder) if f.endswith("_green.png")})
    result = {}
    for c in COLOURS:
        paths = [f"{folder}/{i}_{c}.png" for i in ids]
        planes = [np.asarray(Image.open(p)) for p in paths]
        result[c] = {
            "mean": np.array([p.mean() for p in planes]),
            "p99": np.array([np.percentile(p, 99) for p in planes]),
            "kb": np.array([os.path.getsize(p) / 1e3 for p in paths]),
        }
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("made")
    parser.add_argument("--real")
    parser.add_argument("--no-fit", action="store_true", help="leave out the regressions")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = list(csv.DictReader(open(f"{args.made}/train.csv")))
    report = {"samples": len(rows)}
    if not args.no_fit:
        y = np.zeros((len(rows), CLASSES), bool)
        for k, row in enumerate(rows):
            y[k, [int(c) for c in row["Target"].split()]] = True
        x = histograms(f"{args.made}/train", [r["Id"] for r in rows])
        report["histogram_f1"] = round(cross_validated(x, y), 4)
        report["shuffled_f1"] = round(
            cross_validated(x, np.random.default_rng(0).permutation(y)), 4
        )
    if args.real:
        made, real = figures(f"{args.made}/train"), figures(args.real)
        spread = lambda v: [round(float(np.quantile(v, q)), 1) for q in (0, 0.5, 1)]
        for c in COLOURS:
            for name, m in made[c].items():
                r = real[c][name]
                outside = int(((m < r.min()) | (m > r.max())).sum())
                report[f"{c}_{name}"] = {"made": spread(m), "real": spread(r), "outside": outside}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
