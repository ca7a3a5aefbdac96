"""Makes report.json: what numpy and scikit-learn say to made predictions in groups, for the
statistics of the report."""

import json, os

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, precision_recall_curve

r = np.random.default_rng(11)
groups = np.repeat(np.arange(60), r.integers(1, 6, 60))
groups = r.permutation(groups)
n = len(groups)
# Samples of a group are alike, in truth and in what is predicted.
y = (r.random((60, 28)) < np.linspace(0.05, 0.4, 28)).astype(int)[groups]
s = np.clip(0.45 * y + 0.35 * r.random((60, 28))[groups] + 0.3 * r.random((n, 28)), 0, 1)
s[:, 20] = np.round(s[:, 20], 1)
s = s.round(3).astype(np.float32)
q = (s > 0.5).astype(int)

miss, wrong = y * (1 - q), q * (1 - y)
observed, predicted = calibration_curve(y.ravel(), s.ravel(), n_bins=10)
edges = np.linspace(0, 1, 11)
at = np.clip(np.searchsorted(edges[1:-1], s.ravel().astype(float)), 0, 9)
error = sum(
    (at == b).mean() * abs(s.ravel().astype(float)[at == b].mean() - y.ravel()[at == b].mean())
    for b in range(10)
    if (at == b).any()
)
p, rec, _ = precision_recall_curve(y[:, 20], s[:, 20])
curve = list(zip(rec[::-1].tolist(), p[::-1].tolist()))
curve = curve[: next(i for i, c in enumerate(curve) if c[0] >= 1) + 1]
members = [np.flatnonzero(groups == g) for g in range(60)]
draws, draws_20 = [], []
for _ in range(4000):
    rows = np.concatenate([members[g] for g in r.integers(0, 60, 60)])
    f = f1_score(y[rows], q[rows], average=None, zero_division=0)
    draws.append(f.mean())
    draws_20.append(f[20])
out = dict(
    probabilities=[[round(float(v), 3) for v in row] for row in s],
    truth=y.tolist(),
    groups=groups.tolist(),
    missed=miss.sum(0).tolist(),
    instead=(miss.T @ wrong).tolist(),
    together=(y.T @ y).tolist(),
    calibration=list(zip(observed.tolist(), predicted.tolist())),
    calibration_error=float(error),
    curve_20=curve,
    interval=np.quantile(draws, [0.025, 0.975]).tolist(),
    interval_20=np.quantile(draws_20, [0.025, 0.975]).tolist(),
)
json.dump(out, open(os.path.join(os.path.dirname(__file__), "report.json"), "w"))
