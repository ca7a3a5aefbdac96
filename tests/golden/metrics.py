"""Makes metrics.json: what scikit-learn says to made scores (continuous, with many ties, with
classes that lack positives, five classes alone). Made with scikit-learn 1.9.1 and NumPy 2.4.6."""

import json, os, warnings

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

warnings.filterwarnings("ignore")
r = np.random.default_rng(7)
cases = []
for name, n, digits, threshold in (
    ("continuous", 60, 6, 0.5),
    ("ties", 80, 1, 0.2),
    ("few", 5, 2, 0.35),
    ("five classes", 40, 3, 0.4),
):
    y = (r.random((n, 28)) < np.linspace(0.02, 0.5, 28)).astype(int)
    y[:, 3] = 0
    if name == "five classes":
        y[:, [c for c in range(28) if c not in (0, 7, 18, 23, 25)]] = 0
        y[:5, [0, 7, 18, 23, 25]] = np.eye(5, dtype=int)
    s = np.round(np.clip(0.35 * y + r.random((n, 28)) * 0.65, 0, 1), digits)
    s[:, 5] = 0.1
    q = (s > threshold).astype(int)
    present = np.flatnonzero(y.sum(0))
    p, rec, f, _ = precision_recall_fscore_support(y, q, average=None, zero_division=0)
    ap = [average_precision_score(y[:, c], s[:, c]) for c in range(28)]
    cases.append(
        dict(
            name=name,
            scores=s.tolist(),
            truth=y.tolist(),
            threshold=threshold,
            macro_f1=f1_score(y, q, average="macro", zero_division=0),
            macro_f1_present=f1_score(y, q, labels=present, average="macro", zero_division=0),
            classes_present=len(present),
            micro_f1=f1_score(y, q, average="micro", zero_division=0),
            precision=p.tolist(),
            recall=rec.tolist(),
            f1=f.tolist(),
            average_precision=[float(a) for a in ap],
            map=float(np.mean(ap)),
        )
    )
json.dump(cases, open(os.path.join(os.path.dirname(__file__), "metrics.json"), "w"))
